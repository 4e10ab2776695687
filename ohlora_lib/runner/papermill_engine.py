"""Makes private kernels papermill's default engine wherever this package is installed.

papermill's own default starts kernels on unencrypted TCP, and ipykernel warns about it in every
run. papermill imports this module while loading itself, so this module must not import papermill.
"""

import sys
from typing import Any


class _Later:
    """Proxy for the engine in `ohlora_lib.runner.kernel`, imported at its first use."""

    def __getattr__(self, name: str) -> Any:
        from ohlora_lib.runner.kernel import PrivateKernelEngine

        return getattr(PrivateKernelEngine, name)


DefaultEngine = _Later()

if "papermill.engines" in sys.modules:
    sys.modules["papermill.engines"].papermill_engines.register(None, DefaultEngine)

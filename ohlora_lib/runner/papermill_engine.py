"""What papermill loads where this package is installed: makes private kernels its default.

papermill's own default starts kernels that talk over plain TCP, and ipykernel warns of it in every
run. papermill imports this module while it loads itself, so nothing of papermill is imported here.
"""

from __future__ import annotations

import sys
from typing import Any


class _Later:
    """Stands for the engine in `ohlora_lib.runner.kernel`, which is imported at its first use."""

    def __getattr__(self, name: str) -> Any:
        from ohlora_lib.runner.kernel import PrivateKernelEngine

        return getattr(PrivateKernelEngine, name)


DefaultEngine = _Later()

if "papermill.engines" in sys.modules:
    sys.modules["papermill.engines"].papermill_engines.register(None, DefaultEngine)

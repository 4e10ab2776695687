"""What papermill loads where this package is installed: makes private kernels its default.

papermill's own default starts kernels that talk over plain TCP, and ipykernel warns of it in every
run. Nothing of papermill is imported here, because papermill imports this while it loads itself.
"""

from __future__ import annotations

import sys
from typing import Any


class DefaultEngine:
    """Passes on to `ohlora_lib.runner.kernel`, imported when a notebook is run."""

    @classmethod
    def execute_notebook(cls, *args: Any, **kwargs: Any) -> Any:
        """Executes a notebook; the arguments are papermill's."""
        return _engine().execute_notebook(*args, **kwargs)

    @classmethod
    def nb_kernel_name(cls, *args: Any, **kwargs: Any) -> str:
        """Name of the kernel for a notebook."""
        return _engine().nb_kernel_name(*args, **kwargs)

    @classmethod
    def nb_language(cls, *args: Any, **kwargs: Any) -> str:
        """Language of a notebook."""
        return _engine().nb_language(*args, **kwargs)


def _engine() -> Any:
    from ohlora_lib.runner.kernel import PrivateKernelEngine

    return PrivateKernelEngine


if "papermill.engines" in sys.modules:
    sys.modules["papermill.engines"].papermill_engines.register(None, DefaultEngine)

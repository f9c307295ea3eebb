"""hostler: training tasks on a fleet that grows and shrinks by itself, and the record of what they did.

In a training script::

    import hostler

    run = hostler.init(project="digits", config={"lr": 0.1})
    hostler.log({"loss": 0.3}, step=1)

The names below are the SDK's. They are looked up at first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tracking import checkpoint, init, log, log_artifact, restore

__version__ = "0.1.0"
__all__ = ["__version__", "checkpoint", "init", "log", "log_artifact", "restore"]


def __getattr__(name: str) -> object:
    """Hand out the SDK's names; importing the SDK here and not above keeps the agent and the daemon free of it."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(".tracking", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

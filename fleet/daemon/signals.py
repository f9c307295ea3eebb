"""SIGTERM and SIGINT end the daemon in order, SIGHUP reads the configuration again."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable


def listen(
    loop: asyncio.AbstractEventLoop, *, stop: Callable[[str], None], reload: Callable[[], None]
) -> None:
    """Install the handlers on `loop`; does nothing off the main thread, where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, reload)

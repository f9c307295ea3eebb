"""Tells whoever waits in this process that something was committed, so that nobody polls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Broadcaster:
    """Callbacks without arguments, called in the caller's thread; safe between threads. They must return at once."""

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._next = 0

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called at each `tell`; returns the function that ends it."""
        with self._lock:
            self._next += 1
            number = self._next
            self._callbacks[number] = callback
        return lambda: self._forget(number)

    def tell(self) -> None:
        with self._lock:
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001  one listener that fails must not stop the writer or the others
                _log.exception("a listener failed")

    def _forget(self, number: int) -> None:
        with self._lock:
            self._callbacks.pop(number, None)

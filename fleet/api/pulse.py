"""Whether the control loop is alive: written by the loop's thread, read by /readyz, /status and /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LATE_AFTER_INTERVALS: Final = 3
LATE_AFTER_SECONDS_MIN: Final = 2.0
"""With ticks a fraction of a second apart, a busy moment of the machine is not a stuck loop."""


class Pulse:
    """The last tick that came to its end. Measured on the monotonic clock: a step of the wall clock is no stop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._last: float | None = None
        self.ticks = 0
        self.last_seconds = 0.0
        self.last_error = ""

    def beat(self, seconds: float) -> None:
        """A tick ended well after `seconds`."""
        self._last = self._monotonic()
        self.ticks += 1
        self.last_seconds = seconds
        self.last_error = ""

    def stand_by(self) -> None:
        """Another daemon leads and this one knows it: nothing is late."""
        self._last = self._monotonic()
        self.last_error = ""

    def failed(self, error: str) -> None:
        """A tick ended with an error: the last good one stays the last one."""
        self.last_error = error

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the last good tick; None before the first."""
        return None if self._last is None else self._monotonic() - self._last

    @property
    def uptime_seconds(self) -> float:
        return self._monotonic() - self._started

    def is_recent(self, interval_seconds: float) -> bool:
        age = self.age_seconds
        return age is not None and age <= max(LATE_AFTER_INTERVALS * interval_seconds, LATE_AFTER_SECONDS_MIN)

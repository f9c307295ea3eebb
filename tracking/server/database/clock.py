"""The clock that all servers on one database share: the database's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::double precision"
ROUND_TRIP_SECONDS_MAX: Final = 1.0
"""A comparison that took longer says too little."""
DRIFT_SECONDS_MAX: Final = 0.05
"""A steadier, older comparison is kept while the newest disagrees by less."""


class ServerClock:
    """Epoch seconds of the database, read without asking it: its offset is measured every few seconds.

    Between two comparisons this machine's monotonic clock counts; its wall clock, right or wrong, is never looked at.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        """Until the first comparison the wall clock must do."""
        self._uncertain = float("inf")

    def __call__(self) -> float:
        return self._monotonic() + self._offset

    def compare(self, conn: Any) -> None:
        """Ask the database once, on a driver connection."""
        sent = self._monotonic()
        theirs = conn.execute(_NOW).fetchone()[0]
        self.take(sent, float(theirs), self._monotonic())

    def take(self, sent: float, theirs: float, received: float) -> None:
        """One answer: their time, between two moments of ours."""
        round_trip = received - sent
        if round_trip > ROUND_TRIP_SECONDS_MAX:
            return
        found = theirs - (sent + received) / 2
        if round_trip <= self._uncertain or abs(found - self._offset) > max(round_trip, DRIFT_SECONDS_MAX):
            self._offset, self._uncertain = found, round_trip
        else:
            self._uncertain *= 2  # an old comparison loses its weight: clocks drift

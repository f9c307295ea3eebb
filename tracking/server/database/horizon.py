"""Up to which id events are complete, where transactions commit in another order than they drew their ids.

On SQLite one writer draws and commits in order. On PostgreSQL event 5 may be committed after event 6; a reader that
went on from 6 would never see it. So readers with a cursor look no further than the horizon: the newest id of which
it is sure that every lower one is committed or will never be.

All ids up to L, the newest on a snapshot, were drawn by transactions numbered below that snapshot's end. Once a later
snapshot (or the same) has no transaction below that number under way, nothing below L is still to come.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from sqlalchemy import Connection, text

HORIZON = "hostler_horizon"
"""Key in `Connection.info`; not there on SQLite."""
SAMPLES_MAX = 1_000
WAITED_SECONDS_MAX = 15.0
"""A transaction of ours is over by then; one of another program on the same server must not hold events up."""

_SAMPLE = text(
    "SELECT coalesce((SELECT max(id) FROM events), 0) AS newest,"
    " pg_snapshot_xmin(now.snap)::text::bigint AS oldest_running,"
    " pg_snapshot_xmax(now.snap)::text::bigint AS next_number"
    " FROM (SELECT pg_current_snapshot() AS snap) AS now"
)


class Horizon:
    """What the readers of one process have found out together. Safe between threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._complete = 0
        self._samples: deque[tuple[int, int, float]] = deque(maxlen=SAMPLES_MAX)
        self.look_again: Callable[[], None] = lambda: None
        """Called when a reader could not see all there is: it must be woken once more in a moment."""

    def of(self, conn: Connection) -> int:
        """The horizon on the snapshot of `conn`."""
        row = conn.execute(_SAMPLE).one()
        complete = self.take(row.newest, row.oldest_running, row.next_number)
        if complete < row.newest:
            self.look_again()
        return complete

    def take(self, newest: int, oldest_running: int, next_number: int) -> int:
        """Add what one snapshot shows and give the horizon as that snapshot may use it."""
        now = self._monotonic()
        with self._lock:
            if newest > self._complete:
                self._samples.append((newest, next_number, now))
            while self._samples:
                seen, end, at = self._samples[0]
                if end > oldest_running and now - at < WAITED_SECONDS_MAX:
                    break
                self._complete = max(self._complete, seen)
                self._samples.popleft()
            # What others have found out since may lie beyond this older snapshot.
            return min(self._complete, newest)


def complete_up_to(conn: Connection) -> int | None:
    """The id up to which a reader with a cursor may go; None: as far as it sees."""
    horizon: Horizon | None = conn.info.get(HORIZON)
    return None if horizon is None else horizon.of(conn)

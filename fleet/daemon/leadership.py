"""Which of several daemons on one database runs the control loop. Each of them serves the API.

On SQLite the lock on the state's file has decided already. On PostgreSQL the one that holds the lease in the row of
`store.leader` leads; the others look every few seconds whether it is free. Whoever lost the lease without knowing, a
process that was paused or cut off, writes nothing: each of the loop's transactions looks at the row first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

from ...tracking.server.database import Database
from ..loop.schedule import Sweep
from ..store import leader

WAKE: Final = "wake"
"""What a follower sends to have the leader tick now."""
TTL_SECONDS_MAX: Final = 15.0
TTL_SECONDS_MIN: Final = 1.0
TTL_PER_LEASE: Final = 4
"""The lead changes hands well within a task's lease, so that no task is lost to it."""
RENEWALS_PER_TTL: Final = 3
JOIN_SECONDS_MAX: Final = 10.0

_log = structlog.get_logger(__name__)


class Loop(Protocol):
    """What the leader runs: `loop.schedule.Schedule`."""

    def begin(self, sweeps: Sequence[Sweep], offers_every_seconds: float) -> None: ...
    def wake(self) -> None: ...
    def reload(self) -> None: ...
    def stop(self, *, wait: bool = True) -> None: ...


def ttl_of(task_lease_seconds: float) -> float:
    """How long the lead lasts without renewal, seconds."""
    return min(TTL_SECONDS_MAX, max(TTL_SECONDS_MIN, task_lease_seconds / TTL_PER_LEASE))


class Leadership:
    """Has the loop run while, and only while, this daemon leads. All methods are safe from any thread."""

    def __init__(
        self,
        database: Database,
        holder: str,
        make: Callable[[int], Loop],
        *,
        ttl_seconds: float,
        following: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make(epoch)` gives a loop that is not yet begun; `following` is called now and then while another leads."""
        self._database = database
        self._holder = holder
        self._make = make
        self._ttl_seconds = ttl_seconds
        self._following = following
        self._monotonic = monotonic
        self._sweeps: Sequence[Sweep] = ()
        self._offers_every_seconds = 0.0
        self._loop: Loop | None = None
        self._epoch = 0
        self._renewed_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._stand, name="hostler-leader", daemon=True)

    @property
    def leads(self) -> bool:
        return self._loop is not None

    def begin(self, sweeps: Sequence[Sweep], offers_every_seconds: float) -> None:
        """Lead now, or as soon as nobody else does."""
        self._sweeps, self._offers_every_seconds = sweeps, offers_every_seconds
        signals = self._database.signals
        if signals is None:
            now = self._database.clock()
            self._lead(self._database.write(lambda conn: leader.take(conn, self._holder, now)))
            return
        signals.subscribe(WAKE, self._woken)
        self._thread.start()

    def wake(self) -> None:
        """Have the loop tick now, here or where it runs."""
        if (loop := self._loop) is not None:
            loop.wake()
        elif self._database.signals is not None:
            self._database.signals.send(WAKE)

    def reload(self) -> None:
        if (loop := self._loop) is not None:
            loop.reload()

    def stop(self, *, wait: bool = True) -> None:
        """Let the tick under way end, then give the lead away, so that another need not wait for it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS_MAX)
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.stop(wait=wait)
        if self._database.signals is not None:
            self._database.write(lambda conn: leader.release(conn, self._epoch))

    def _woken(self) -> None:
        if (loop := self._loop) is not None:
            loop.wake()

    def _stand(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except Exception as error:  # noqa: BLE001  the database is away: look again when it is back
                _log.warning("leader.unknown", error=f"{type(error).__name__}: {error}")
                self._give_up_if_late()
            self._ended.wait(self._ttl_seconds / RENEWALS_PER_TTL)

    def _look(self) -> None:
        asked_at = self._monotonic()
        if self._loop is not None:
            if not self._database.write(lambda conn: leader.renew(conn, self._epoch, self._ttl_seconds)):
                self._lose("another daemon leads by now")
                return
            self._renewed_at = asked_at
            return
        epoch = self._database.write(lambda conn: leader.acquire(conn, self._holder, self._ttl_seconds))
        if epoch is None:
            self._following()
            return
        self._renewed_at = asked_at
        self._lead(epoch)

    def _give_up_if_late(self) -> None:
        if self._loop is not None and self._monotonic() - self._renewed_at > self._ttl_seconds:
            self._lose("the lease could not be renewed in time")

    def _lead(self, epoch: int) -> None:
        self._epoch = epoch
        loop = self._make(epoch)
        loop.begin(self._sweeps, self._offers_every_seconds)
        self._loop = loop
        _log.info("leader.leads", epoch=epoch, holder=self._holder)

    def _lose(self, why: str) -> None:
        """Not waited for: what the tick under way still wants to write is refused by its epoch."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop(wait=False)
        _log.warning("leader.lost", epoch=self._epoch, why=why)

"""The seam through which everything the loop does to the world goes: writes to the store, calls to clouds.

A simulator hands in a checkpoint that raises at the k-th effect; production code can't tell the difference
between that and a power cut.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection

from ...providers.base import Unavailable
from ...tracking.server.database import Database
from ..store import leader

T = TypeVar("T")

CALL_TIMEOUT_SECONDS: Final = 180.0
"""Longer than any adapter's own time-outs: only a call that hangs for good runs into it."""
BACKOFF_BASE_SECONDS: Final = 0.5
BACKOFF_MAX_SECONDS: Final = 60.0


class Calls(Protocol):
    """What runs calls to clouds: a thread pool, or in tests and simulation the caller itself."""

    def submit(self, fn: Callable[[], T], /) -> Future[T]:
        """Start `fn`; its result or exception comes out of the future."""


def _nothing(_what: str) -> None:
    """No checkpoint."""


@dataclass(frozen=True)
class Effects:
    """Writes and calls of one leader. `checkpoint` is told the name of each effect just before it happens."""

    db: Database
    epoch: int
    clock: Callable[[], float]
    calls: Calls
    checkpoint: Callable[[str], None] = _nothing

    def write(self, what: str, work: Callable[[Connection], T]) -> T:
        """One transaction, refused with StaleEpoch once another daemon leads."""
        self.checkpoint(f"write:{what}")

        def guarded(conn: Connection) -> T:
            leader.guard(conn, self.epoch)
            return work(conn)

        return self.db.write(guarded)

    def call_all(self, what: str, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
        """Start all the calls, then wait for each. An exception takes the place of the result it prevented."""
        futures: list[Future[T]] = []
        for call in calls:
            self.checkpoint(f"call:{what}")
            futures.append(self.calls.submit(call))
        return [_outcome(future) for future in futures]


def _outcome(future: Future[Any]) -> Any:
    """The result, or the exception as a value."""
    try:
        return future.result(timeout=CALL_TIMEOUT_SECONDS)
    except TimeoutError:
        detail = f"no answer within {CALL_TIMEOUT_SECONDS:g} s"
        return Unavailable(detail, maybe_created=True)
    except Exception as error:  # noqa: BLE001  one provider's fault must not stop the others
        return error


def full_jitter_seconds(rng: random.Random, attempt: int) -> float:
    """`rand(0, min(60 s, 0.5 * 2^attempt))`: who failed together does not come back together."""
    ceiling = min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(attempt, 16))
    return rng.uniform(0.0, ceiling)

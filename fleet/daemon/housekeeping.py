"""What is kept for a while only is deleted when its while is over, a bounded number at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection

from ...tracking.server import events
from ...tracking.server.access import tokens
from ...tracking.server.blobs import Blobs
from ...tracking.server.database import Database
from ..api import idempotency

DAY: Final = 86_400.0
EVERY_SECONDS: Final = 600.0
KEEP_TOKENS_SECONDS: Final = DAY
"""Expired or revoked ones, so that a log can still be read against them."""
KEEP_EVENTS_SECONDS: Final = 90 * DAY

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Callable without arguments; runs on a thread of the scheduler."""

    database: Database
    blobs: Blobs
    clock: Callable[[], float]

    def __call__(self) -> dict[str, int]:
        """How much went, by kind. One kind's trouble does not keep the others."""
        now = self.clock()
        jobs: dict[str, Callable[[Connection], int]] = {
            "idempotency": lambda conn: idempotency.prune(conn, now),
            "tokens": lambda conn: tokens.prune(conn, now - KEEP_TOKENS_SECONDS),
            "events": lambda conn: events.prune(conn, now - KEEP_EVENTS_SECONDS),
        }
        done = {name: self._one(name, partial(self.database.write, job)) for name, job in jobs.items()}
        done["blobs"] = self._one("blobs", lambda: self.blobs.sweep(now))
        return done

    def _one(self, name: str, work: Callable[[], int]) -> int:
        try:
            return work()
        except Exception:  # noqa: BLE001  it is tried again at the next sweep
            _log.exception("old %s could not be deleted", name)
            return 0

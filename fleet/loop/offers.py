"""The catalogue: refreshed off the tick, kept with its age, and read back from the store after a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Final

from ...providers.base import Offer, Provider
from ...tracking.server.database import Database
from ..executor.effects import Effects
from ..store import offers as store

MAX_AGE_SECONDS: Final = 7 * 86_400.0
"""Prices older than this are no prices: such offers are not planned with."""

_log = logging.getLogger(__name__)


class Catalogue:
    """What every provider sells, as it last said. Safe between threads: a refresh replaces, never changes."""

    def __init__(self, db: Database) -> None:
        self._lock = threading.Lock()
        self._offers: dict[str, tuple[Offer, ...]] = {}
        with db.read() as conn:
            self._refreshed_at = store.refreshed_at(conn)
            for offer in store.read(conn):
                self._offers[offer.provider] = (*self._offers.get(offer.provider, ()), offer)

    def current(self, providers: Mapping[str, object], now: float) -> tuple[Offer, ...]:
        """Offers of these providers whose catalogue is not too old."""
        with self._lock:
            fresh = [name for name in sorted(providers) if self._age(name, now) <= MAX_AGE_SECONDS]
            return tuple(offer for name in fresh for offer in self._offers.get(name, ()))

    def age_seconds(self, provider: str, now: float) -> float | None:
        """How old a provider's catalogue is; None when there is none."""
        with self._lock:
            at = self._refreshed_at.get(provider)
        return None if at is None else now - at

    def refresh(self, effects: Effects, providers: Mapping[str, Provider]) -> dict[str, int | str]:
        """Ask every provider for its offers. A number of offers, or the error in words; then the old ones stay."""
        names = sorted(providers)
        answers = effects.call_all("offers", [providers[name].offers for name in names])
        outcome: dict[str, int | str] = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Exception):
                _log.warning("the offers of %s could not be read, the old ones stay: %s", name, answer)
                outcome[name] = str(answer)
            else:
                # An adapter can only speak for itself, whatever name it wrote into an offer.
                own = tuple(offer for offer in answer if offer.provider == name)
                self._take(effects, name, own)
                outcome[name] = len(own)
        return outcome

    def _take(self, effects: Effects, name: str, offers: tuple[Offer, ...]) -> None:
        now = effects.clock()
        effects.write("offers", lambda conn: store.save(conn, name, offers, now))
        with self._lock:
            self._offers[name] = offers
            self._refreshed_at[name] = now

    def _age(self, name: str, now: float) -> float:
        at = self._refreshed_at.get(name)
        return float("inf") if at is None else now - at

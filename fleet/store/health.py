"""What errors of the clouds taught about offers: whom not to ask before when, and how many launches to risk.

A row covers the offers that match its scope key, `provider/region/zone/type/market` with `*` for any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, or_, select, update

from ...providers.base import OfferKey, ProviderError, Scope
from ...tracking.server.database import Prepared
from ..planning.model import OfferHealth
from .schema import offer_health

ANY: Final = "*"
MAX_BUDGET: Final = 64
"""An offering that reached this many launches at once is healthy again: its row is dropped."""
CONFIG_STRIKES: Final = 3
"""So many refusals in a row that only a person can mend hold back the whole provider, whatever their scope."""
MAX_DETAIL_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds until the next probe: `first`, doubled with each failure in a row, at most `most`."""

    first: float
    most: float

    def after(self, failures: int) -> float:
        return float(min(self.most, self.first * 2.0 ** (max(failures, 1) - 1)))


CAPACITY: Final = Interval(60.0, 1_800.0)
INTERVALS: Final[Mapping[str, Interval]] = {
    "NO_CAPACITY": CAPACITY,
    "PROVIDER_ERROR": CAPACITY,
    "BOOTSTRAP": CAPACITY,
    "THROTTLED": Interval(2.0, 60.0),
    "UNAVAILABLE": Interval(5.0, 60.0),
    # A person has to act on these: asking again soon costs calls and tells nothing new.
    "QUOTA": Interval(1_800.0, 21_600.0),
    "INVALID_CONFIG": Interval(3_600.0, 86_400.0),
    "AUTH": Interval(300.0, 1_800.0),
}
HINTS: Final[Mapping[str, str]] = {
    "QUOTA": "have the account's quota raised, or allow other regions, types or providers in the pool",
    "INVALID_CONFIG": "mend the provider's section in fleet.yaml and apply it, then re-arm the pool",
    "AUTH": "renew the provider's credentials; see: hostler doctor",
}
MENDED_BY_PEOPLE: Final = frozenset({"QUOTA", "INVALID_CONFIG", "AUTH"})


_EVERY: Final = Prepared(select(offer_health))


def scope_key(offer: OfferKey, scope: Scope, code: str) -> str:
    """The key of what an error of this scope covers. Capacity is short on one market only, a quota may be too."""
    market = offer.market if code in ("NO_CAPACITY", "QUOTA") else ANY
    parts = {
        Scope.OFFER: (offer.region, offer.zone, offer.instance_type, offer.market),
        Scope.ZONE: (offer.region, offer.zone, ANY, market),
        Scope.INSTANCE_TYPE: (offer.region, ANY, offer.instance_type, market),
        Scope.MARKET: (offer.region, ANY, ANY, offer.market),
        Scope.REGION: (offer.region, ANY, ANY, ANY),
        Scope.PROVIDER: (ANY, ANY, ANY, ANY),
    }[scope]
    return "/".join((offer.provider, *parts))


def covering(offer: OfferKey) -> tuple[str, ...]:
    """Every scope key that could hold back this offer, narrowest first."""
    scopes = ((scope, code) for scope in Scope for code in ("NO_CAPACITY", ""))
    return tuple(dict.fromkeys(scope_key(offer, scope, code) for scope, code in scopes))


def failed(
    conn: Connection, workspace: str, offer: OfferKey, error: ProviderError, now: float
) -> OfferHealth:
    """Take in an error: hold back its scope until the next probe, one launch at a time from then on."""
    hint = error.hint or HINTS.get(error.code, "")
    key = scope_key(offer, error.scope, error.code)
    failures = _failures(conn, key) + 1
    wait = INTERVALS.get(error.code, CAPACITY).after(failures)
    if error.retry_within_seconds is not None:
        wait = min(wait, error.retry_within_seconds)
    until = now + max(wait, error.retry_after_seconds or 0.0)
    health = OfferHealth(error.code, error.detail[:MAX_DETAIL_CHARACTERS], hint, until)
    _store(conn, workspace, key, health, failures=failures, now=now)
    if error.code == "INVALID_CONFIG" and error.scope is not Scope.PROVIDER:
        _strike(conn, workspace, offer, health, now)
    return health


def mark(conn: Connection, workspace: str, offer: OfferKey, *, code: str, detail: str, now: float) -> None:
    """Be careful with an offer for a while (an instance of it was reclaimed): one launch at a time, no block."""
    key = scope_key(offer, Scope.OFFER, code)
    if _failures(conn, key):
        conn.execute(
            update(offer_health).where(offer_health.c.scope_key == key).values(budget=1, updated_at=now)
        )
        return
    _store(
        conn, workspace, key, OfferHealth(code, detail[:MAX_DETAIL_CHARACTERS], "", now), failures=0, now=now
    )


def succeeded(conn: Connection, offer: OfferKey) -> None:
    """A launch went through: one more may be open at once, so that a round that succeeds doubles the next.

    After enough of them the past is forgotten.
    """
    covers = offer_health.c.scope_key.in_(covering(offer))
    conn.execute(update(offer_health).where(covers).values(failures=0, budget=offer_health.c.budget + 1))
    conn.execute(delete(offer_health).where(covers, offer_health.c.budget >= MAX_BUDGET))


def of_offers(conn: Connection, offers: Iterable[OfferKey]) -> dict[OfferKey, OfferHealth]:
    """What is known against each of these offers; those with nothing against them are left out."""
    rows = {row.scope_key: row for row in _EVERY.all(conn, {})}
    if not rows:
        return {}
    found: dict[OfferKey, OfferHealth] = {}
    for offer in set(offers):
        hits = [rows[key] for key in covering(offer) if key in rows]
        if hits:
            worst = max(hits, key=lambda row: row.blocked_until)
            budget = min(row.budget for row in hits)
            found[offer] = OfferHealth(worst.code, worst.detail, worst.hint, worst.blocked_until, budget)
    return found


def page(conn: Connection, workspace: str) -> list[dict[str, Any]]:
    """All rows, those held back longest first."""
    query = (
        select(offer_health)
        .where(offer_health.c.workspace == workspace)
        .order_by(offer_health.c.blocked_until.desc(), offer_health.c.scope_key)
    )
    return [dict(row) for row in conn.execute(query).mappings()]


def clear(
    conn: Connection, *, providers: Iterable[str] | None = None, codes: Iterable[str] | None = None
) -> int:
    """Forget what is held against these providers (None: all), for these codes (None: all)."""
    statement = delete(offer_health)
    if providers is not None:
        prefixes = [offer_health.c.scope_key.startswith(f"{name}/", autoescape=True) for name in providers]
        if not prefixes:
            return 0
        statement = statement.where(or_(*prefixes))
    if codes is not None:
        statement = statement.where(offer_health.c.code.in_(sorted(codes)))
    return conn.execute(statement).rowcount


def _strike(conn: Connection, workspace: str, offer: OfferKey, health: OfferHealth, now: float) -> None:
    """Count a refusal against the provider: the same mistake behind many offers must not cost a call for each."""
    key = scope_key(offer, Scope.PROVIDER, health.code)
    failures = _failures(conn, key) + 1
    until = health.blocked_until if failures >= CONFIG_STRIKES else now
    _store(
        conn,
        workspace,
        key,
        OfferHealth(health.code, health.detail, health.hint, until),
        failures=failures,
        now=now,
    )


def _failures(conn: Connection, key: str) -> int:
    query = select(offer_health.c.failures).where(offer_health.c.scope_key == key)
    return int(conn.execute(query).scalar() or 0)


def _store(
    conn: Connection, workspace: str, key: str, health: OfferHealth, *, failures: int, now: float
) -> None:
    values: dict[str, Any] = {
        "workspace": workspace,
        "code": health.code,
        "detail": health.detail,
        "hint": health.hint,
        "failures": failures,
        "budget": 1,
        "blocked_until": health.blocked_until,
        "updated_at": now,
    }
    changed = conn.execute(update(offer_health).where(offer_health.c.scope_key == key).values(**values))
    if changed.rowcount == 0:
        conn.execute(insert(offer_health).values(scope_key=key, **values))

"""Launch intents: the caps are checked again and the worst case reserved in the transaction that writes the row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from ...config.fleet import FleetConfig
from ...providers.base import TAG_INTENT, TAG_POOL, TAG_SERVER, LaunchRequest, Market, Offer
from ..planning.headroom import Headroom
from ..planning.model import PoolPolicy, Snapshot
from ..store import instances, snapshot
from ..store.policies import limits_of

LAUNCH_TOKEN_LIFETIME_SECONDS: Final = 3_600.0
"""How long every cloud surely remembers a launch token. An older intent is never sent again: adopt only."""

Rejection = tuple[str, str, str]
"""(offer, stable code, words)"""


@dataclass(frozen=True)
class Wanted:
    """One instance to buy: offers best first, for whom, and what was already tried in this tick."""

    pool: str
    offers: tuple[Offer, ...]
    for_tasks: tuple[int, ...] = ()
    tried: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class Intent:
    """A committed row, ready to be called. `rest` are the offers to fail over to."""

    instance_id: str
    offer: Offer
    wanted: Wanted
    rest: tuple[Offer, ...]


@dataclass(frozen=True)
class Refused:
    """Nothing was bought for `wanted`; its `tried` says why, offer by offer."""

    wanted: Wanted
    code: str
    message: str


@dataclass(frozen=True)
class Terms:
    """What every intent of this server has in common. `render_user_data(id, join_token, provider)` is deterministic."""

    workspace: str
    server_id: str
    epoch: int
    render_user_data: Callable[[str, str, str], str]
    join_token: Callable[[str], str]

    def join_hash(self, instance_id: str) -> str:
        """What the store keeps of a join token."""
        return hashlib.sha256(self.join_token(instance_id).encode()).hexdigest()

    def user_data(self, instance_id: str, provider: str) -> str:
        """The same text at every call, unless the configuration it is made from has changed."""
        return self.render_user_data(instance_id, self.join_token(instance_id), provider)


def write(
    conn: Connection,
    wanted: Sequence[Wanted],
    ids: Sequence[str],
    *,
    user_data: Mapping[tuple[str, str], str],
    terms: Terms,
    fleet: FleetConfig,
    now: float,
) -> tuple[list[Intent], list[Refused]]:
    """Write an intent for each of `wanted` that the caps allow now. `ids` are fresh.

    `user_data` is rendered for each (id, provider) that may be chosen.
    """
    offers = [offer for one in wanted for offer in one.offers]
    present = snapshot.read(conn, fleet, now, workspace=terms.workspace, offers=offers)
    headroom = Headroom(present, limits_of(fleet))
    written: list[Intent] = []
    refused: list[Refused] = []
    for one, instance_id in zip(wanted, ids, strict=True):
        intent, rejections = _choose(one, instance_id, present, headroom, now)
        if intent is None:
            last = rejections[-1] if rejections else (one.pool, "NO_CAPACITY", "no offer is left to ask")
            tried = (*one.tried, *rejections)
            refused.append(Refused(Wanted(one.pool, (), one.for_tasks, tried), last[1], last[2]))
            continue
        headroom.take(present.pools[one.pool], intent.offer)
        _insert(
            conn, intent, user_data[instance_id, intent.offer.provider], terms=terms, fleet=fleet, now=now
        )
        written.append(intent)
    return written, refused


def request_of(row: Mapping[str, Any], user_data: str) -> LaunchRequest:
    """The call's parameters as committed: the same bytes at each retry."""
    stored = row["request"]
    return LaunchRequest(
        token=row["id"],
        offer=instances.offer_from_dict(row["offer"]),
        user_data=user_data,
        tags=dict(stored["tags"]),
        disk_bytes=stored["disk_bytes"],
        max_usd_per_hour=stored["max_usd_per_hour"],
    )


def spec_hash(request: LaunchRequest) -> str:
    """A digest of everything that is sent; a retry with another digest would be refused by the cloud."""
    spec = {
        "token": request.token,
        "offer": instances.offer_to_dict(request.offer),
        "user_data": request.user_data,
        "tags": dict(request.tags),
        "disk_bytes": request.disk_bytes,
        "max_usd_per_hour": request.max_usd_per_hour,
    }
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def _choose(
    wanted: Wanted, instance_id: str, present: Snapshot, headroom: Headroom, now: float
) -> tuple[Intent | None, list[Rejection]]:
    pool = present.pools.get(wanted.pool)
    if present.frozen:
        return None, [(wanted.pool, "FROZEN", present.frozen)]
    if pool is None:
        return None, [(wanted.pool, "POOL_GONE", "no such pool in the configuration")]
    if pool.protected:
        return None, [(wanted.pool, "POOL_PROTECTED", pool.protected)]
    rejections: list[Rejection] = []
    for place, offer in enumerate(wanted.offers):
        refusal = _refusal(pool, offer, present, headroom, now)
        if refusal is None:
            tried = (*wanted.tried, *rejections)
            carried = Wanted(wanted.pool, wanted.offers, wanted.for_tasks, tried)
            return Intent(instance_id, offer, carried, wanted.offers[place + 1 :]), rejections
        rejections.append((str(offer.key), *refusal))
    return None, rejections


def _refusal(
    pool: PoolPolicy, offer: Offer, present: Snapshot, headroom: Headroom, now: float
) -> tuple[str, str] | None:
    if offer.usd_per_hour is None or not offer.usd_per_hour > 0:
        return "PRICE_UNKNOWN", "no price is known; nothing is bought unpriced"
    health = present.health.get(offer.key)
    if health is not None and health.blocked_until > now:
        return health.code, health.detail
    # Whether a fallback to on demand is due was the planner's to say: it knows what the tasks asked for.
    return headroom.refusal(pool, offer, as_fallback=False)


def _insert(
    conn: Connection, intent: Intent, user_data: str, *, terms: Terms, fleet: FleetConfig, now: float
) -> None:
    offer = intent.offer
    price = offer.usd_per_hour or 0.0
    # A spot price may rise after the launch: where there is a cap on $/h, the cloud is told what was reserved.
    bound = price if offer.market is Market.SPOT and fleet.limits.usd_per_hour is not None else None
    tags = {TAG_SERVER: terms.server_id, TAG_POOL: intent.wanted.pool, TAG_INTENT: intent.instance_id}
    stored = {"tags": tags, "disk_bytes": fleet.pools[intent.wanted.pool].disk, "max_usd_per_hour": bound}
    row = {"id": intent.instance_id, "request": stored, "offer": instances.offer_to_dict(offer)}
    instances.insert_intent(
        conn,
        instance_id=intent.instance_id,
        workspace=terms.workspace,
        pool=intent.wanted.pool,
        offer=offer,
        usd_per_hour=price,
        request=stored,
        spec_hash=spec_hash(request_of(row, user_data)),
        epoch=terms.epoch,
        now=now,
        join_hash=terms.join_hash(intent.instance_id),
        join_expires_at=now + fleet.daemon.bootstrap_timeout,
    )

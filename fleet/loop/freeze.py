"""A database that knows less than the clouds: it takes in what runs before it launches anything or ends a stray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from ...config.fleet import FleetConfig
from ...providers.base import TAG_POOL, CloudInstance, Market, Offer
from ...tracking.server import events
from ..observer.clouds import Moment
from ..planning.model import InstanceState
from ..store import frozen, instances
from ..store.ids import is_instance_id


def import_unknown(
    conn: Connection,
    provider: str,
    unknown: Sequence[CloudInstance],
    *,
    moment: Moment,
    catalogue: Mapping[tuple[str, str, str, str], Offer],
    join_hash: Callable[[str], str],
    epoch: int,
) -> list[str]:
    """Write a row for each unknown instance of ours, the first time this database sees its provider.

    A machine that is still starting can join then; any other ends by the bootstrap timeout. Returns the new ids;
    later strangers are strays.
    """
    if provider in frozen.compared(conn):
        return []
    taken = []
    for one in unknown:
        if not is_instance_id(one.intent) or instances.get(conn, one.intent) is not None:
            continue  # no name to give it, or a row that is closed: that is a stray
        _insert(conn, one, _offer_of(one, provider, catalogue), moment, join_hash(one.intent), epoch)
        taken.append(one.intent)
    frozen.mark_compared(conn, provider, moment.now)
    if taken:
        _tell(conn, provider, taken, moment)
    return taken


def thaw_when_compared(conn: Connection, fleet: FleetConfig, workspace: str, now: float) -> bool:
    """End a freeze once every configured provider's listing has been taken in. True if it ended now."""
    if not frozen.reason(conn) or set(fleet.providers) - frozen.compared(conn):
        return False
    return frozen.thaw(conn, workspace, now)


def _offer_of(
    one: CloudInstance, provider: str, catalogue: Mapping[tuple[str, str, str, str], Offer]
) -> Offer:
    """Its offer as the catalogue has it; a machine that is no longer sold there counts without price and size."""
    market = one.market if one.market in {market.value for market in Market} else Market.ON_DEMAND.value
    key = (provider, one.zone, one.instance_type, market)
    found = catalogue.get(key)
    return found or Offer(
        provider=provider,
        region=one.region,
        zone=one.zone,
        instance_type=one.instance_type,
        market=Market(market),
        cpus=0,
        memory_bytes=0,
    )


def _insert(
    conn: Connection, one: CloudInstance, offer: Offer, moment: Moment, join_hash: str, epoch: int
) -> None:
    instances.insert_intent(
        conn,
        instance_id=one.intent,
        workspace=moment.workspace,
        pool=one.tags.get(TAG_POOL, ""),
        offer=offer,
        usd_per_hour=offer.usd_per_hour or 0.0,
        request={"tags": dict(one.tags), "disk_bytes": None, "max_usd_per_hour": None},
        spec_hash="",
        epoch=epoch,
        now=moment.now,
        join_hash=join_hash,
        join_expires_at=moment.now + moment.fleet.daemon.bootstrap_timeout,
        message=f"found at {offer.provider} as {one.ref}: this database did not know it",
    )
    instances.advance(conn, one.intent, InstanceState.LAUNCHING, moment.now)
    instances.advance(
        conn,
        one.intent,
        InstanceState.BOOTING,
        moment.now,
        reason=instances.IMPORTED,
        ref=one.ref,
        address=one.address,
        seen_at=moment.now,
    )


def _tell(conn: Connection, provider: str, taken: Sequence[str], moment: Moment) -> None:
    events.emit(
        conn,
        workspace=moment.workspace,
        kind="fleet.imported",
        now=moment.now,
        actor=instances.ACTOR,
        message=f"{len(taken)} instances of this server run at {provider} that the database did not know: "
        "they can join, or they end by the bootstrap timeout",
        data={"provider": provider, "instances": list(taken)},
    )

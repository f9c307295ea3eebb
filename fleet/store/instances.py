"""Rows of instances. A row is written before its cloud is called and outlives what it describes.

Every change of state goes through `advance`: a compare-and-set along the table of legal transitions that
also writes the event, so that two who race (idle drain and lease, notice and join) have one winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from ...providers.base import Gpu, Market, Offer
from ...tracking.server import events
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import tasks
from ..planning.lifecycle import HOLDING_TASK, LEGAL_INSTANCE, LIVE_INSTANCE
from ..planning.model import InstanceState
from .schema import instances

ACTOR: Final = "hostler"
"""Who is named in events that nobody asked for: the control loop itself."""
BOOT_FAILED: Final = "BOOTSTRAP_FAILED"
"""Reason of an instance whose agent said, or whose end showed, that it could not start."""
BOOT_TIMED_OUT: Final = "BOOTSTRAP_TIMEOUT"
"""Reason of an instance that did not join in time."""
IMPORTED: Final = "IMPORTED"
"""Reason of an instance that its cloud listed and this database did not know."""
MAX_PAGE: Final = 1_000
MESSAGE_CHARACTERS_MAX: Final = 4_096
HOLDING: Final = tuple(sorted(state.value for state in HOLDING_TASK))

_STAMPS: Final[Mapping[InstanceState, tuple[str, ...]]] = {
    InstanceState.BOOTING: ("launched_at",),
    InstanceState.READY: ("launched_at", "joined_at", "ready_at"),
    InstanceState.DRAINING: ("drain_at",),
    InstanceState.TERMINATING: ("terminate_asked_at",),
    InstanceState.TERMINATED: ("terminated_at",),
}
"""When a state is reached for the first time, these columns say when, unless they are set already."""


def offer_to_dict(offer: Offer) -> dict[str, Any]:
    """Plain JSON values of an offer; `offer_from_dict` reads them back equal."""
    gpu = offer.gpu
    return {
        "provider": offer.provider,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "market": offer.market.value,
        "cpus": offer.cpus,
        "memory_bytes": offer.memory_bytes,
        "gpu": None
        if gpu is None
        else {"name": gpu.name, "count": gpu.count, "memory_bytes": gpu.memory_bytes},
        "usd_per_hour": offer.usd_per_hour,
    }


def offer_from_dict(values: Mapping[str, Any]) -> Offer:
    """The offer that `offer_to_dict` wrote."""
    gpu = values.get("gpu")
    return Offer(**{**values, "market": Market(values["market"]), "gpu": Gpu(**gpu) if gpu else None})


def insert_intent(
    conn: Connection,
    *,
    instance_id: str,
    workspace: str,
    pool: str,
    offer: Offer,
    usd_per_hour: float,
    request: Mapping[str, Any],
    spec_hash: str,
    epoch: int,
    now: float,
    join_hash: str | None = None,
    join_expires_at: float | None = None,
    message: str = "",
) -> None:
    """Write a launch intent in state `intended`. The caller has checked the caps in this same transaction."""
    conn.execute(
        insert(instances).values(
            id=instance_id,
            workspace=workspace,
            pool=pool,
            provider=offer.provider,
            region=offer.region,
            zone=offer.zone,
            instance_type=offer.instance_type,
            market=offer.market.value,
            offer=offer_to_dict(offer),
            usd_per_hour=usd_per_hour,
            request=dict(request),
            spec_hash=spec_hash,
            epoch=epoch,
            state=InstanceState.INTENDED.value,
            message=message,
            created_at=now,
            join_hash=join_hash,
            join_expires_at=join_expires_at,
        )
    )
    _tell(
        conn,
        InstanceState.INTENDED,
        workspace=workspace,
        instance_id=instance_id,
        now=now,
        actor=ACTOR,
        message=message or f"{offer.key} for {pool}",
    )


def advance(
    conn: Connection,
    instance_id: str,
    to: InstanceState,
    now: float,
    *,
    expect: Iterable[InstanceState] | None = None,
    reason: str | None = None,
    message: str | None = None,
    actor: str = ACTOR,
    idle_only: bool = False,
    **values: Any,
) -> bool:
    """Move an instance to `to` if it is in a state from which that is legal (and in `expect`, if given).

    With `idle_only` it moves only while it holds no lease: a lease taken a moment ago wins. `values` are
    further columns set in the same statement. True if it moved; False if someone else was
    first or the row is unknown: then nothing changed and no event was written.
    """
    sources = [state for state, reachable in LEGAL_INSTANCE.items() if to in reachable and state is not to]
    if expect is not None:
        wanted = frozenset(expect)
        sources = [state for state in sources if state in wanted]
    columns: dict[str, Any] = {"state": to.value, "version": instances.c.version + 1}
    for name in _STAMPS.get(to, ()):
        columns[name] = func.coalesce(instances.c[name], now)
    if to is InstanceState.TERMINATING:
        columns["next_call_at"] = None  # a back-off of the launch must not delay the end
    if reason is not None:
        columns["reason"] = reason
    if message is not None:
        columns["message"] = message[:MESSAGE_CHARACTERS_MAX]
    statement = update(instances).where(
        instances.c.id == instance_id, instances.c.state.in_([state.value for state in sources])
    )
    if idle_only:
        # First the row, then the look: a claim that had the row before us is committed by then, and is seen.
        conn.execute(select(instances.c.id).where(instances.c.id == instance_id).with_for_update())
        holds = exists().where(tasks.c.instance_id == instance_id, tasks.c.state.in_(HOLDING))
        statement = statement.where(~holds)
    moved = conn.execute(statement.values(**{**columns, **values}).returning(instances.c.workspace)).first()
    if moved is None:
        return False
    _tell(
        conn,
        to,
        workspace=moved.workspace,
        instance_id=instance_id,
        now=now,
        actor=actor,
        message=message or "",
        reason=reason,
    )
    return True


def note(conn: Connection, instance_id: str, **values: Any) -> bool:
    """Set columns that are not the state (ref, seen_at, contact_at ...). False if the row is unknown."""
    if "state" in values:
        raise ValueError("the state of an instance changes by advance() only")
    return conn.execute(update(instances).where(instances.c.id == instance_id).values(**values)).rowcount == 1


def get(conn: Connection, instance_id: str, *, workspace: str | None = None) -> dict[str, Any] | None:
    """The row of an instance as a dict of its columns, or None."""
    query = select(instances).where(instances.c.id == instance_id)
    if workspace is not None:
        query = query.where(instances.c.workspace == workspace)
    row = conn.execute(query).mappings().first()
    return None if row is None else dict(row)


def live(
    conn: Connection,
    *,
    provider: str | None = None,
    pool: str | None = None,
    states: Iterable[InstanceState] | None = None,
    workspace: str | None = None,
) -> list[dict[str, Any]]:
    """Rows that are not terminated (or those in `states`), oldest first: what may cost money now."""
    given = {"provider": provider, "pool": pool, "workspace": workspace}
    named = {name: value for name, value in given.items() if value is not None}
    statement = _live(LIVE_INSTANCE if states is None else frozenset(states), tuple(named))
    # `_asdict` is a named tuple's public method; the underscore only keeps it apart from columns.
    return [row._asdict() for row in statement.all(conn, {f"b_{name}": named[name] for name in named})]


@cache
def _live(states: frozenset[InstanceState], named: tuple[str, ...]) -> Prepared:
    """Every tick asks this several times: compiled once for each kind of question."""
    wanted: list[ColumnElement[str]] = [
        literal_column(f"'{value}'") for value in sorted(state.value for state in states)
    ]
    query = select(instances).where(instances.c.state.in_(wanted))
    for name in named:
        query = query.where(instances.c[name] == bindparam(f"b_{name}"))
    return Prepared(query.order_by(instances.c.created_at, instances.c.id))


def page(
    conn: Connection,
    workspace: str,
    *,
    states: Sequence[InstanceState] = (),
    pool: str | None = None,
    provider: str | None = None,
    after: tuple[float, str] | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """At most `limit` rows, newest first; `after` is (created_at, id) of the last row of the page before."""
    query = select(instances).where(instances.c.workspace == workspace)
    if states:
        query = query.where(instances.c.state.in_([state.value for state in states]))
    if pool is not None:
        query = query.where(instances.c.pool == pool)
    if provider is not None:
        query = query.where(instances.c.provider == provider)
    if after is not None:
        created_at, instance_id = after
        query = query.where(
            or_(
                instances.c.created_at < created_at,
                and_(instances.c.created_at == created_at, instances.c.id < instance_id),
            )
        )
    query = query.order_by(instances.c.created_at.desc(), instances.c.id.desc()).limit(min(limit, MAX_PAGE))
    return [dict(row) for row in conn.execute(query).mappings()]


def _tell(
    conn: Connection,
    state: InstanceState,
    *,
    workspace: str,
    instance_id: str,
    now: float,
    actor: str,
    message: str,
    reason: str | None = None,
) -> None:
    events.emit(
        conn,
        workspace=workspace,
        kind=f"instance.{state.value}",
        now=now,
        actor=actor,
        message=message or (f"{state.value}: {reason}" if reason else state.value),
        instance_id=instance_id,
        data={"state": state.value} | ({"reason": reason} if reason else {}),
    )

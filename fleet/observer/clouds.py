"""What the clouds list, compared with the rows: adopt, confirm ends, notice what vanished, find strays.

The listing was read before the rows. So a row without an instance may only be too young to be seen, and an
instance without a row was there before the row could have been: absence is judged with a grace, both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from ...config.fleet import FleetConfig
from ...providers.base import (
    CloudInstance,
    CloudState,
    Market,
    ProviderError,
)
from ...tracking.server import events
from ..planning.lifecycle import LIVE_INSTANCE
from ..planning.model import InstanceState
from ..store import health, instances
from ..store.schema import instances as table

LAUNCH_MEMORY_SECONDS: Final = 3_600.0
"""An unanswered launch that no listing shows for so long, and the grace on top, has not happened."""
SEEN_EVERY_SECONDS: Final = 60.0
"""`seen_at` is written again only so often: a fleet of thousands must not be rewritten at each tick."""
LOOKED_UP_AT_ONCE: Final = 500
LIVE: Final = frozenset(state.value for state in LIVE_INSTANCE)

RECLAIMED: Final = "RECLAIMED"
ENDED_BY_CLOUD: Final = "ENDED_BY_CLOUD"
NEVER_CREATED: Final = "NEVER_CREATED"
LOST: Final = "LOST"


@dataclass(frozen=True)
class Listing:
    """One provider's answer: all its instances of ours, or the error instead. `asked_at` is before the call."""

    provider: str
    asked_at: float
    instances: tuple[CloudInstance, ...] = ()
    error: ProviderError | None = None


@dataclass(frozen=True)
class Gone:
    """An instance that ended or vanished under its tasks. `outcome` says whose fault: preempted | infra."""

    instance_id: str
    outcome: str
    message: str


@dataclass
class Observed:
    """What a listing changed."""

    gone: list[Gone] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    draining: list[str] = field(default_factory=list)
    unknown: list[CloudInstance] = field(default_factory=list)
    """Ours and alive, but no live row stands for them."""


@dataclass(frozen=True)
class Moment:
    """When and under which rules a listing is judged. `up_since`: epoch seconds at which this server started."""

    fleet: FleetConfig
    workspace: str
    server_id: str
    now: float
    up_since: float

    @property
    def grace_seconds(self) -> float:
        return self.fleet.daemon.orphan_grace

    @property
    def silence_seconds(self) -> float:
        """An agent beats four times in a lease: silent for half of one, while its cloud no longer lists it, is gone."""
        return self.fleet.daemon.lease_ttl / 2


Adopt = Callable[[Connection, str, CloudInstance, float], bool]


def reconcile(conn: Connection, listing: Listing, moment: Moment, adopt: Adopt) -> Observed:
    """Bring one successful listing into the rows of its provider. `adopt` ties an instance to its row."""
    observed = Observed()
    ours = [one for one in listing.instances if one.server == moment.server_id]
    rows = instances.live(conn, provider=listing.provider)
    seen, observed.unknown = _match(conn, rows, ours)
    fresh: list[str] = []
    for row in rows:
        found = seen.get(row["id"])
        if found is None:
            _unseen(conn, row, listing, moment, observed)
        elif found.state is CloudState.TERMINATED:
            _ended(conn, row, found, moment, observed)
        else:
            _alive(conn, row, found, moment, adopt, observed)
            if row["seen_at"] is None or moment.now - row["seen_at"] >= SEEN_EVERY_SECONDS:
                fresh.append(row["id"])
    _mark_seen(conn, fresh, moment.now)
    return observed


def overdue_boots(conn: Connection, moment: Moment, heard: Iterable[str]) -> list[str]:
    """Give up on machines that did not join in time. Returns their ids; they are to be terminated."""
    timeout = moment.fleet.daemon.bootstrap_timeout
    # Who could not reach us while we were down gets one lease's time to try again.
    if moment.now - moment.up_since < min(timeout, moment.fleet.daemon.lease_ttl):
        return []
    waiting = instances.live(conn, states=(InstanceState.LAUNCHING, InstanceState.BOOTING))
    given_up = []
    for row in waiting:
        begun = row["launched_at"]
        if begun is None or row["provider"] not in heard or moment.now - begun < timeout:
            continue
        message = f"no agent joined within {timeout:g} s"
        if instances.advance(
            conn,
            row["id"],
            InstanceState.TERMINATING,
            moment.now,
            expect=(InstanceState.LAUNCHING, InstanceState.BOOTING),
            reason=instances.BOOT_TIMED_OUT,
            message=message,
        ):
            given_up.append(row["id"])
    return given_up


def silent_agents(conn: Connection, moment: Moment, heard: Iterable[str]) -> list[str]:
    """Drain machines whose agent has said nothing for two lease times and that hold no lease any more."""
    ttl = moment.fleet.daemon.lease_ttl
    if moment.now - moment.up_since < 2 * ttl:
        return []
    drained = []
    for row in instances.live(conn, states=(InstanceState.READY,)):
        last = row["contact_at"] or row["ready_at"] or row["created_at"]
        if row["provider"] not in heard or moment.now - last < 2 * ttl:
            continue
        message = f"its agent has been silent for {moment.now - last:.0f} s"
        if instances.advance(
            conn,
            row["id"],
            InstanceState.DRAINING,
            moment.now,
            expect=(InstanceState.READY,),
            reason="CONTACT_LOST",
            message=message,
            idle_only=True,
        ):
            drained.append(row["id"])
    return drained


def _match(
    conn: Connection, rows: Sequence[Mapping[str, Any]], ours: Sequence[CloudInstance]
) -> tuple[dict[str, CloudInstance], list[CloudInstance]]:
    """(row id -> its instance, instances that are alive and belong to no live row)."""
    by_ref = {row["ref"]: row for row in rows if row["ref"] is not None}
    waiting = {row["id"]: row for row in rows if row["ref"] is None}
    seen: dict[str, CloudInstance] = {}
    unknown: list[CloudInstance] = []
    for one in sorted(ours, key=lambda found: (found.launched_at or 0.0, found.ref)):
        row = by_ref.get(one.ref)
        if row is not None:
            seen[row["id"]] = one
        elif one.intent in waiting and one.intent not in seen:
            seen[one.intent] = one
        elif one.state is not CloudState.TERMINATED:
            unknown.append(one)
    return seen, _not_just_joined(conn, unknown)


def _not_just_joined(conn: Connection, unknown: Sequence[CloudInstance]) -> list[CloudInstance]:
    """Without those that belong to a live row of another name of the same cloud (a renamed provider section)."""
    refs = [one.ref for one in unknown]
    known: set[str] = set()
    for start in range(0, len(refs), LOOKED_UP_AT_ONCE):
        chunk = refs[start : start + LOOKED_UP_AT_ONCE]
        query = select(table.c.ref).where(table.c.ref.in_(chunk), table.c.state.in_(sorted(LIVE)))
        known.update(row.ref for row in conn.execute(query))
    return [one for one in unknown if one.ref not in known]


def _alive(
    conn: Connection,
    row: Mapping[str, Any],
    found: CloudInstance,
    moment: Moment,
    adopt: Adopt,
    observed: Observed,
) -> None:
    state = InstanceState(row["state"])
    if row["ref"] is None:
        if state is InstanceState.INTENDED:
            instances.advance(conn, row["id"], InstanceState.LAUNCHING, moment.now)
        if adopt(conn, row["id"], found, moment.now):
            observed.adopted.append(row["id"])
    if row["missing_since"] is not None or row["not_found_at"] is not None:
        instances.note(conn, row["id"], missing_since=None, not_found_at=None)
    told = {"address": found.address, "identity": found.identity}
    changed = {name: value for name, value in told.items() if value and value != row[name]}
    if changed:
        instances.note(conn, row["id"], **changed)
    if state is InstanceState.LOST:
        message = "it showed up again after it was given up"
        instances.advance(
            conn, row["id"], InstanceState.TERMINATING, moment.now, reason=LOST, message=message
        )
    elif found.state is CloudState.STOPPING and state in (InstanceState.BOOTING, InstanceState.READY):
        message = found.detail or "its cloud is shutting it down"
        if instances.advance(
            conn, row["id"], InstanceState.DRAINING, moment.now, reason=RECLAIMED, message=message
        ):
            observed.draining.append(row["id"])


def _ended(
    conn: Connection, row: Mapping[str, Any], found: CloudInstance, moment: Moment, observed: Observed
) -> None:
    """The cloud says that it is over: the only word that closes a row."""
    state = InstanceState(row["state"])
    if row["ref"] is None:
        instances.note(conn, row["id"], ref=found.ref)
    if state in (InstanceState.TERMINATING, InstanceState.LOST):
        if instances.advance(conn, row["id"], InstanceState.TERMINATED, moment.now):
            observed.confirmed.append(row["id"])
        observed.gone.append(_gone(row, "its instance was terminated"))
        return
    told = found.detail or "its cloud ended it"
    asked = state is InstanceState.DRAINING
    reason = None if asked and row["preempt_at"] is None else _reason(row)
    if not instances.advance(
        conn, row["id"], InstanceState.TERMINATED, moment.now, reason=reason, message=told
    ):
        return
    observed.gone.append(_gone(row, told))
    if reason == RECLAIMED:
        _be_careful(conn, row, told, moment)


def _unseen(
    conn: Connection, row: Mapping[str, Any], listing: Listing, moment: Moment, observed: Observed
) -> None:
    state = InstanceState(row["state"])
    if row["ref"] is None:
        _never_seen(conn, row, state, moment)
        return
    if state is InstanceState.TERMINATING:
        if _is_over(row, listing, moment):
            if instances.advance(conn, row["id"], InstanceState.TERMINATED, moment.now):
                observed.confirmed.append(row["id"])
                observed.gone.append(_gone(row, "its instance was terminated"))
            return
    elif state is not InstanceState.LOST and _has_vanished(row, moment):
        told = "its cloud no longer lists it and its agent is silent"
        if instances.advance(conn, row["id"], InstanceState.LOST, moment.now, reason=LOST, message=told):
            observed.gone.append(_gone(row, told))
            if row["market"] == Market.SPOT.value:
                _be_careful(conn, row, told, moment)
        return
    if row["missing_since"] is None and not _is_too_young(row, moment):
        instances.note(conn, row["id"], missing_since=moment.now)


def _never_seen(conn: Connection, row: Mapping[str, Any], state: InstanceState, moment: Moment) -> None:
    """An intent without a ref: open until a retry or a listing settles it, or until neither can any more."""
    age = moment.now - row["created_at"]
    if state is InstanceState.INTENDED or age < LAUNCH_MEMORY_SECONDS + moment.grace_seconds:
        return
    message = f"neither a launch nor a listing showed an instance of it for {age:.0f} s"
    instances.advance(
        conn, row["id"], InstanceState.TERMINATED, moment.now, reason=NEVER_CREATED, message=message
    )


def _is_over(row: Mapping[str, Any], listing: Listing, moment: Moment) -> bool:
    """Whether an instance that is to end, and is not listed, may be taken for ended."""
    accepted_at, not_found_at = row["terminate_accepted_at"], row["not_found_at"]
    if accepted_at is None or row["missing_since"] is None:
        return False
    if moment.now - accepted_at >= moment.grace_seconds:
        return True
    # The cloud said that it knows none, and a listing made after that confirms it. A young one may only be hidden.
    confirmed = not_found_at is not None and not_found_at <= listing.asked_at
    return confirmed and not _is_young(row, moment)


def _has_vanished(row: Mapping[str, Any], moment: Moment) -> bool:
    """Missing in two listings, and its agent silent meanwhile; before it joined only the grace can tell."""
    missing_since = row["missing_since"]
    if missing_since is None:
        return False
    if row["joined_at"] is None:
        return bool(moment.now - missing_since >= moment.grace_seconds)
    last = max(row["contact_at"] or row["joined_at"], moment.up_since)
    return bool(moment.now - last >= moment.silence_seconds)


def _is_too_young(row: Mapping[str, Any], moment: Moment) -> bool:
    """Not visible yet is not gone: a launched instance may take a while to appear in listings."""
    return row["seen_at"] is None and _is_young(row, moment)


def _is_young(row: Mapping[str, Any], moment: Moment) -> bool:
    begun = row["launched_at"] or row["created_at"]
    return bool(moment.now - begun < moment.grace_seconds)


def _reason(row: Mapping[str, Any]) -> str:
    if row["market"] == Market.SPOT.value or row["preempt_at"] is not None:
        return RECLAIMED
    # On demand nobody takes it back: a machine that ends before it joined could not start.
    return instances.BOOT_FAILED if row["joined_at"] is None else ENDED_BY_CLOUD


def _gone(row: Mapping[str, Any], message: str) -> Gone:
    reclaimed = row["market"] == Market.SPOT.value or row["preempt_at"] is not None
    return Gone(row["id"], "preempted" if reclaimed else "infra", message)


def _be_careful(conn: Connection, row: Mapping[str, Any], told: str, moment: Moment) -> None:
    """Mark the offering; one that takes machines back before they even join is held back as one without capacity."""
    key = instances.offer_from_dict(row["offer"]).key
    if row["joined_at"] is None:
        error = ProviderError(f"an instance of it ended before it joined: {told}")
        health.failed(conn, moment.workspace, key, error, moment.now)
    else:
        detail = f"an instance of it was reclaimed: {told}"
        health.mark(conn, moment.workspace, key, code="NO_CAPACITY", detail=detail, now=moment.now)


def _mark_seen(conn: Connection, ids: Sequence[str], now: float) -> None:
    for start in range(0, len(ids), LOOKED_UP_AT_ONCE):
        chunk = ids[start : start + LOOKED_UP_AT_ONCE]
        conn.execute(table.update().where(table.c.id.in_(chunk)).values(seen_at=now))


def tell_listing(
    conn: Connection, workspace: str, provider: str, error: ProviderError | None, now: float
) -> None:
    """An event when a provider stops answering, or answers again."""
    state = "recovered" if error is None else "failing"
    said = "answers again" if error is None else f"does not answer ({error.code}): {error.detail}"
    events.emit(
        conn,
        workspace=workspace,
        kind=f"provider.{state}",
        now=now,
        actor=instances.ACTOR,
        message=f"{provider} {said}",
        data={"provider": provider} | ({} if error is None else {"code": error.code, "hint": error.hint}),
    )

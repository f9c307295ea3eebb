"""What agents say of their machines: joined, alive, to be taken away, done, or never came up."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, RowMapping, bindparam, func, select, update

from ...agent_bootstrap.wire import Joined, JoinRequest
from ...config.fleet import FleetConfig
from ...tracking.server import events
from ...tracking.server.access import tokens
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import tasks
from ..planning.model import InstanceState, TaskState
from ..store.instances import BOOT_FAILED, IMPORTED, advance
from ..store.schema import instances
from .identity import Expected

CREDENTIAL_SECONDS: Final = 3_600.0
STOP_PREEMPTED: Final = "preempted"
"""`tasks.stop_reason` of what runs on a machine that is about to be taken away."""
STAGE_CHARACTERS_MAX: Final = 64
MESSAGE_CHARACTERS_MAX: Final = 4_096
REJOIN_SECONDS: Final = 120.0
"""How long a join may be asked for again after its reply was lost: as long as its credential was never used."""

_COMING: Final = (InstanceState.INTENDED, InstanceState.LAUNCHING, InstanceState.BOOTING)
_ASKED: Final = (*_COMING, InstanceState.READY)
_GONE: Final = (InstanceState.TERMINATED.value,)


class JoinRefused(Exception):
    """`code` UNKNOWN_TOKEN: no instance has this join token; the others: it is known, but may not join (any more)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Welcome:
    """`joined` is the reply; the rest is for whoever handles the request."""

    joined: Joined
    workspace: str
    pool: str


_BY_HASH: Final = select(
    instances.c.id,
    instances.c.workspace,
    instances.c.pool,
    instances.c.state,
    instances.c.offer,
    instances.c.join_hash,
    instances.c.join_expires_at,
    instances.c.join_burned_at,
    instances.c.joined_at,
    instances.c.contact_at,
    instances.c.provider,
    instances.c.ref,
    instances.c.identity,
    instances.c.reason,
    instances.c.created_at,
).where(instances.c.join_hash == bindparam("b_hash"))
_TURN: Final = Prepared(
    select(instances.c.id).where(instances.c.join_hash == bindparam("b_hash")).with_for_update()
)
_CONTACT: Final = (
    update(instances)
    .where(instances.c.id == bindparam("b_instance"), instances.c.state.not_in(_GONE))
    .values(contact_at=bindparam("b_now"))
)
_BURN: Final = (
    update(instances)
    .where(instances.c.id == bindparam("b_instance"), instances.c.join_burned_at.is_(None))
    .values(join_burned_at=bindparam("b_now"))
)
_PREEMPT_AT: Final = (
    update(instances)
    .where(
        instances.c.id == bindparam("b_instance"),
        func.coalesce(instances.c.preempt_at, bindparam("b_at") + 1) > bindparam("b_at"),
    )
    .values(preempt_at=bindparam("b_at"))
)
_STOP_ALL: Final = (
    update(tasks)
    .where(
        tasks.c.instance_id == bindparam("b_instance"),
        tasks.c.state.in_((TaskState.LEASED.value, TaskState.RUNNING.value)),
        tasks.c.queue.is_not(None),
        tasks.c.stop_reason.is_(None),
    )
    .values(stop_reason=STOP_PREEMPTED, version=tasks.c.version + 1)
)
_WORKSPACE: Final = select(instances.c.workspace, instances.c.state, instances.c.preempt_at).where(
    instances.c.id == bindparam("b_instance")
)


def join_hash(token: str) -> str:
    """What is stored of a join token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def find_joining(conn: Connection, token: str, now: float) -> str:
    """The instance this join token belongs to, while it is good; it is not burned. Raises JoinRefused."""
    return str(_joining(conn, token, now).id)


def expected(conn: Connection, token: str, now: float) -> Expected:
    """Who a machine with this join token has to be, while the token is good. Raises JoinRefused."""
    row = _joining(conn, token, now)
    imported = row["reason"] == IMPORTED
    return Expected(
        instance_id=row["id"],
        workspace=row["workspace"],
        provider=row["provider"],
        ref=row["ref"],
        identity=row["identity"],
        since=None if imported else row["created_at"],
    )


def join(
    conn: Connection,
    *,
    token: str,
    request: JoinRequest,
    fleet: FleetConfig,
    now: float,
    proved: Expected | None = None,
) -> Welcome:
    """Burn the token, make the instance ready and give it a credential, all in this transaction. Raises JoinRefused.

    `proved`: who the machine has shown itself to be by its cloud's signature; the row must still say the same. A token
    whose join was not heard of (see `REJOIN_SECONDS`) gives a fresh credential and ends the first one.
    """
    row = _joining(conn, token, now)
    if proved is not None and not proved.is_still(row["ref"], row["identity"]):
        raise JoinRefused("NOT_EXPECTED", f"instance {row['id']} has become another one; ask again")
    if row["join_burned_at"] is None:
        _make_ready(conn, row, request, now, "" if proved is None else ", its signed identity verified")
    else:
        _forget_first_join(conn, row, now)
    daemon = fleet.daemon
    joined: Joined = {
        "instance_id": row["id"],
        "credential": issue_credential(conn, workspace=row["workspace"], instance_id=row["id"], now=now),
        "credential_seconds": CREDENTIAL_SECONDS,
        "heartbeat_seconds": daemon.heartbeat,
        "lease_ttl_seconds": daemon.lease_ttl,
        "dead_man_seconds": daemon.dead_man,
        "sold_cpus": float(row["offer"]["cpus"]),
        "sold_memory_bytes": int(row["offer"]["memory_bytes"]),
    }
    return Welcome(joined, row["workspace"], row["pool"])


def _make_ready(
    conn: Connection, row: RowMapping, request: JoinRequest, now: float, identity_told: str
) -> None:
    if row["state"] == InstanceState.INTENDED.value:
        # The machine is up before its launch call was written down as made.
        advance(conn, row["id"], InstanceState.LAUNCHING, now, expect=[InstanceState.INTENDED])
    host = str(request["inventory"].get("hostname", ""))[:64] or "an unnamed host"
    ready = advance(
        conn,
        row["id"],
        InstanceState.READY,
        now,
        expect=_COMING,
        message=f"joined from {host}{identity_told}",
        actor=row["id"],
        inventory=dict(request["inventory"]),
        join_burned_at=now,
        contact_at=now,
        idle_since=now,
    )
    if not ready:
        raise JoinRefused("NOT_EXPECTED", f"instance {row['id']} is {row['state']} and can't join any more")


def _forget_first_join(conn: Connection, row: RowMapping, now: float) -> None:
    """The reply to the first join was lost on its way: what it held must open nothing any more."""
    tokens.revoke(conn, now=now, instance_id=row["id"])
    events.emit(
        conn,
        workspace=row["workspace"],
        kind="instance.rejoined",
        now=now,
        actor=row["id"],
        message="joined again: the reply to its first join was lost, the credential in it is revoked",
        instance_id=row["id"],
    )


def _joining(conn: Connection, token: str, now: float) -> RowMapping:
    digest = join_hash(token)
    _TURN.lock(conn, {"b_hash": digest})
    row = conn.execute(_BY_HASH, {"b_hash": digest}).mappings().first()
    if row is None or not hmac.compare_digest(row["join_hash"], digest):
        raise JoinRefused("UNKNOWN_TOKEN", "no instance has this join token")
    if row["join_burned_at"] is not None:
        if _reply_may_be_lost(row, now):
            return row
        raise JoinRefused("TOKEN_USED", f"the join token of {row['id']} was used already")
    if row["join_expires_at"] is not None and now >= row["join_expires_at"]:
        raise JoinRefused("TOKEN_EXPIRED", f"the join token of {row['id']} is too old")
    if row["state"] not in {state.value for state in _COMING}:
        raise JoinRefused("NOT_EXPECTED", f"instance {row['id']} is {row['state']} and can't join any more")
    return row


def _reply_may_be_lost(row: RowMapping, now: float) -> bool:
    """Joined a moment ago, and the credential that went out was never used: `contact` notes every use."""
    return bool(
        row["state"] == InstanceState.READY.value
        and row["joined_at"] is not None
        and now - row["joined_at"] <= REJOIN_SECONDS
        and row["contact_at"] == row["joined_at"]
    )


def refuse_identity(conn: Connection, refused: Expected, code: str, message: str, now: float) -> None:
    """Tell people that a machine with a good join token could not prove that it is the one. The token stays good."""
    events.emit(
        conn,
        workspace=refused.workspace,
        kind="instance.join_refused",
        now=now,
        actor=refused.instance_id,
        message=message[:MESSAGE_CHARACTERS_MAX],
        instance_id=refused.instance_id,
        data={"code": code},
    )


def issue_credential(conn: Connection, *, workspace: str, instance_id: str, now: float) -> str:
    """A token that reaches this instance and the tasks it holds, for `CREDENTIAL_SECONDS`."""
    return tokens.issue(
        conn,
        workspace=workspace,
        kind="agent",
        actor=instance_id,
        role="agent",
        now=now,
        instance_id=instance_id,
        expires_at=now + CREDENTIAL_SECONDS,
    )


def renew_credential(
    conn: Connection, *, workspace: str, instance_id: str, expires_at: float | None, now: float
) -> str | None:
    """A fresh credential once the one in use is past half its life, else None. The old one lives on to its end."""
    if expires_at is None or expires_at - now > CREDENTIAL_SECONDS / 2:
        return None
    return issue_credential(conn, workspace=workspace, instance_id=instance_id, now=now)


def contact(conn: Connection, instance_id: str, now: float) -> bool:
    """Note that the agent spoke. False if the instance is unknown or over."""
    return conn.execute(_CONTACT, {"b_instance": instance_id, "b_now": now}).rowcount == 1


def notice(conn: Connection, *, instance_id: str, source: str, seconds_left: float, now: float) -> bool:
    """The cloud takes the machine back: it drains, and its tasks are asked to save themselves. Repeating is fine.

    The earliest end that was told stands. A task that is being stopped anyway stays so. False if the instance is
    unknown or over.
    """
    row = conn.execute(_WORKSPACE, {"b_instance": instance_id}).first()
    if row is None or row.state in _GONE:
        return False
    at = now + max(0.0, seconds_left)
    told = f"{source}: {max(0.0, seconds_left):g} s left"
    drains = advance(
        conn,
        instance_id,
        InstanceState.DRAINING,
        now,
        expect=[InstanceState.READY],
        reason="PREEMPTED",
        message=told,
        actor=instance_id,
    )
    conn.execute(_PREEMPT_AT, {"b_instance": instance_id, "b_at": at})
    stopped = conn.execute(_STOP_ALL, {"b_instance": instance_id}).rowcount
    if drains or row.preempt_at is None:
        events.emit(
            conn,
            workspace=row.workspace,
            kind="instance.preemption_notice",
            now=now,
            actor=instance_id,
            message=told,
            instance_id=instance_id,
            data={"source": source, "preempt_at": at, "tasks": stopped},
        )
    return True


def leave(conn: Connection, instance_id: str, now: float) -> bool:
    """The agent is done and ends: nothing more is given to it. True if that was news.

    What the store still thinks it holds is the queue's business (`requeue_of_instance`, in the same transaction).
    """
    contact(conn, instance_id, now)
    return advance(
        conn,
        instance_id,
        InstanceState.DRAINING,
        now,
        expect=[InstanceState.READY],
        reason="LEFT",
        message="its agent ended",
        actor=instance_id,
    )


def bootstrap_failed(conn: Connection, *, instance_id: str, stage: str, message: str, now: float) -> bool:
    """The machine could not be set up: it is to be terminated, its join token is void. False if it is over."""
    contact(conn, instance_id, now)
    conn.execute(_BURN, {"b_instance": instance_id, "b_now": now})
    told = f"{stage[:STAGE_CHARACTERS_MAX]}: {message[:MESSAGE_CHARACTERS_MAX]}"
    return advance(
        conn,
        instance_id,
        InstanceState.TERMINATING,
        now,
        expect=_ASKED,
        reason=BOOT_FAILED,
        message=told,
        actor=instance_id,
    )

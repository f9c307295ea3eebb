"""What agents call: join, the zipapp, the long-polled lease, heartbeat, notice and result.

A waiting agent costs a socket and two asyncio tasks; no thread, no transaction, no polling.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import Connection, select

from ...agent_bootstrap import wire
from ...config import FleetConfig
from ...tracking.server.access import Forbidden, Principal, authorise
from ...tracking.server.access.bearer import bearer_secret, unauthenticated
from ...tracking.server.access.tokens import authenticate
from ...tracking.server.database.schema import tasks
from ...tracking.server.problems import Problem
from .. import queue
from ..observer import agents
from ..observer.identity import Expected, IdentityRefused
from ..planning.model import InstanceState
from ..store import instances
from .messages import body_of
from .parts import State, Who
from .state import AppState

router = APIRouter(tags=["agents"], include_in_schema=False)
# response_model=None throughout: pydantic takes the TypedDicts of the wire only from Python 3.12 on.
SHA256_HEADER: Final = "X-Hostler-Sha256"
IDENTITY_RETRY_SECONDS: Final = 1
"""When to ask again after a join that came before its launch was confirmed."""
NOTHING: Final[wire.LeaseReply] = {"lease": None, "drain": False}
LEAVE: Final[wire.LeaseReply] = {"lease": None, "drain": True}


def _agent(who: Who) -> Principal:
    """The agent that asks. Raises Forbidden for any other token."""
    authorise(who, "agent:act")
    if who.instance_id is None:
        raise Forbidden("this credential belongs to no instance")
    return who


Agent = Annotated[Principal, Depends(_agent)]


def _id(agent: Principal) -> str:
    assert agent.instance_id is not None  # `_agent` let nobody through without
    return agent.instance_id


@router.post(wire.JOIN, response_model=None)
async def join(
    request: Request,
    state: State,
    body: Annotated[wire.JoinRequest, Depends(body_of(wire.JoinRequest))],
) -> wire.Joined:
    """The machine is up. Burns its join token and gives it a credential."""
    secret, fleet, now = bearer_secret(request), state.config.fleet, state.clock()

    def work(conn: Connection) -> tuple[agents.Welcome, dict[str, Any] | None]:
        welcome = agents.join(conn, token=secret, request=body, fleet=fleet, now=now, proved=proved)
        return welcome, instances.get(conn, welcome.joined["instance_id"])

    try:
        proved = await _proved(state, secret, body["identity"], fleet, now)
        welcome, row = await state.database.write_async(work)
    except agents.JoinRefused as refused:
        raise _refused(refused) from None
    if row is not None:
        state.metrics.provision.labels(row["pool"], row["provider"]).observe(
            max(0.0, now - row["created_at"])
        )
    state.wake_loop()
    return welcome.joined


async def _proved(
    state: AppState, token: str, identity: dict[str, str], fleet: FleetConfig, now: float
) -> Expected | None:
    """Who the machine has proved to be; None where its provider asks for no proof. Raises JoinRefused and Problem."""
    expected = await state.database.read_async(lambda conn: agents.expected(conn, token, now))
    section = fleet.providers.get(expected.provider)
    try:
        # In a thread: Google's keys may have to be fetched, and signatures cost time.
        sure = await asyncio.to_thread(state.identity.check, expected, section, identity, token, now)
    except IdentityRefused as refused:
        raise await _identity_refused(state, expected, refused, now) from None
    return expected if sure else None


async def _identity_refused(
    state: AppState, expected: Expected, error: IdentityRefused, now: float
) -> Problem:
    code = error.code.value
    if error.retry:
        state.wake_loop()
        wait = {"Retry-After": str(IDENTITY_RETRY_SECONDS)}
        return Problem(503, code, "The join has to wait", detail=error.message, hint=error.hint, headers=wait)
    told = f"{code}: {error.message}" + (f" ({error.hint})" if error.hint else "")
    await state.database.write_async(lambda conn: agents.refuse_identity(conn, expected, code, told, now))
    return Problem(403, code, "The join was refused", detail=error.message, hint=error.hint)


def _refused(error: agents.JoinRefused) -> Problem:
    status = 401 if error.code == "UNKNOWN_TOKEN" else 409
    hint = "this machine can't be used any more; it should shut down"
    return Problem(status, error.code, "The join was refused", detail=error.message, hint=hint)


@router.get(wire.ZIPAPP, response_model=None)
async def zipapp(request: Request, state: State) -> Response:
    """The agent itself. Shows the join token, which is not burned by it, or the agent's credential."""
    await _instance_of_token(request, state)
    return Response(
        state.zipapp.data,
        media_type="application/octet-stream",
        headers={SHA256_HEADER: state.zipapp.sha256, "Cache-Control": "no-store"},
    )


async def _instance_of_token(request: Request, state: AppState) -> str:
    """The instance whose join token or credential this is. Raises Problem 401."""
    secret, now = bearer_secret(request), state.clock()

    def work(conn: Connection) -> str:
        known = authenticate(conn, secret, now)
        if known is not None and known.instance_id is not None and known.kind == "agent":
            return known.instance_id
        return agents.find_joining(conn, secret, now)

    try:
        return await state.database.read_async(work)
    except agents.JoinRefused as refused:
        raise unauthenticated(refused.message) from None


@router.post(wire.FAILED, response_model=None)
async def bootstrap_failed(
    request: Request,
    state: State,
    body: Annotated[wire.BootstrapFailed, Depends(body_of(wire.BootstrapFailed))],
) -> dict[str, Any]:
    """The machine could not be set up and is about to shut itself down."""
    instance_id, now = await _instance_of_token(request, state), state.clock()
    await state.database.write_async(
        lambda conn: agents.bootstrap_failed(
            conn, instance_id=instance_id, stage=body["stage"], message=body["message"], now=now
        )
    )
    state.wake_loop()
    return {}


@router.post(wire.LEASE, response_model=None)
async def lease(
    request: Request,
    state: State,
    agent: Agent,
    body: Annotated[wire.LeaseRequest, Depends(body_of(wire.LeaseRequest))],
) -> wire.LeaseReply:
    """A task that fits, as soon as there is one; held open up to `wait_seconds` (at most 60)."""
    instance_id = _id(agent)
    row = await state.database.read_async(lambda conn: instances.get(conn, instance_id))
    if row is None or row["state"] != InstanceState.READY.value:
        await _touch(state, instance_id)
        return LEAVE

    async def look() -> wire.LeaseReply | None:
        return await _look(state, instance_id, body)

    poll = asyncio.ensure_future(
        queue.next_lease(
            state.dispatcher,
            pool=row["pool"],
            instance_id=instance_id,
            look=look,
            wait_seconds=body["wait_seconds"],
        )
    )
    return await _until_gone(request, state, poll) or NOTHING


async def _until_gone(
    request: Request, state: AppState, poll: asyncio.Future[wire.LeaseReply | None]
) -> wire.LeaseReply | None:
    """The poll's result; None when it ends without, its client goes away, or the daemon stops.

    A lease that was committed for a client that went away is handed out again at the agent's next poll.
    """
    if state.hub.closed:
        poll.cancel()
        return None
    gone: asyncio.Future[None] = asyncio.ensure_future(_disconnected(request))
    either: set[asyncio.Future[Any]] = {poll, gone}
    state.hub.polls.add(poll)
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return poll.result() if poll.done() and not poll.cancelled() else None
    finally:
        state.hub.polls.discard(poll)
        for one in either:
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _look(state: AppState, instance_id: str, body: wire.LeaseRequest) -> wire.LeaseReply | None:
    """One look into the queue: a lease, the word that it drains, or None: wait on."""
    fleet, now, free, held = state.config.fleet, state.clock(), queue.Free.of_request(body), set(body["held"])

    def work(conn: Connection) -> tuple[queue.Claim | None, bool, float | None]:
        agents.contact(conn, instance_id, now)
        claim = queue.claim(conn, instance_id=instance_id, free=free, fleet=fleet, now=now, held=held)
        if claim is not None:
            queued_at = conn.execute(select(tasks.c.queued_at).where(tasks.c.id == claim.task_id)).scalar()
            return claim, False, queued_at
        row = instances.get(conn, instance_id)
        return None, row is None or row["state"] != InstanceState.READY.value, None

    claim, drains, queued_at = await state.database.write_async(work)
    if claim is not None:
        if queued_at is not None:
            state.metrics.queue_wait.labels(claim.queue).observe(max(0.0, now - queued_at))
        return {"lease": claim.to_lease(), "drain": False}
    return LEAVE if drains else None


async def _touch(state: AppState, instance_id: str) -> None:
    now = state.clock()
    await state.database.write_async(lambda conn: agents.contact(conn, instance_id, now))


@router.post(wire.HEARTBEAT, response_model=None)
async def heartbeat(
    state: State, agent: Agent, body: Annotated[wire.Heartbeat, Depends(body_of(wire.Heartbeat))]
) -> wire.HeartbeatReply:
    """Alive. Renews the leases named and, past half its life, the credential; tells what to stop."""
    return await _beat(state, agent, body["held"])


async def _beat(
    state: AppState, agent: Principal, held: list[wire.Held], notice: wire.PreemptionNotice | None = None
) -> wire.HeartbeatReply:
    instance_id, now, ttl = _id(agent), state.clock(), state.config.fleet.daemon.lease_ttl

    def work(conn: Connection) -> wire.HeartbeatReply:
        agents.contact(conn, instance_id, now)
        if notice is not None:
            source, left = notice["source"], notice["seconds_left"]
            agents.notice(conn, instance_id=instance_id, source=source, seconds_left=left, now=now)
        beat = queue.heartbeat(conn, instance_id=instance_id, held=held, now=now, ttl=ttl)
        credential = agents.renew_credential(
            conn, workspace=agent.workspace, instance_id=instance_id, expires_at=agent.expires_at, now=now
        )
        return {
            "renewed": list(beat.renewed),
            "stale": list(beat.stale),
            "stop": list(beat.stop),
            "drain": beat.drain,
            "credential": credential,
        }

    try:
        return await state.database.write_async(work)
    except ValueError as error:
        raise Problem(
            422, "TOO_MANY_TASKS", "The heartbeat names too many tasks", detail=str(error)
        ) from None


@router.post(wire.NOTICE, response_model=None)
async def notice(
    state: State,
    agent: Agent,
    body: Annotated[wire.PreemptionNotice, Depends(body_of(wire.PreemptionNotice))],
) -> wire.HeartbeatReply:
    """The cloud takes the machine back: it drains, and its tasks are told to save themselves."""
    reply = await _beat(state, agent, [], body)
    state.dispatcher.notify_instance(_id(agent))
    state.wake_loop()
    return reply


@router.post(wire.LEAVE, response_model=None)
async def leave(state: State, agent: Agent) -> dict[str, Any]:
    """Drained and done. What it still held by our books goes back to its queue."""
    instance_id, now = _id(agent), state.clock()

    def work(conn: Connection) -> None:
        row = instances.get(conn, instance_id)
        agents.leave(conn, instance_id, now)
        outcome = "preempted" if row is not None and row["preempt_at"] is not None else "lost"
        queue.requeue_of_instance(conn, instance_id, outcome, now, "its agent left")

    await state.database.write_async(work)
    state.wake_loop()
    return {}


@router.post(wire.TASK_STARTED, response_model=None)
async def started(task_id: int, generation: int, state: State, agent: Agent) -> dict[str, Any]:
    """The task's own process runs. 409: somebody else holds it by now."""
    instance_id, now = _id(agent), state.clock()
    await state.database.write_async(lambda conn: queue.started(conn, task_id, generation, instance_id, now))
    return {}


@router.post(wire.TASK_RESULT, response_model=None)
async def result(
    task_id: int,
    generation: int,
    state: State,
    agent: Agent,
    body: Annotated[wire.Result, Depends(body_of(wire.Result))],
) -> dict[str, str]:
    """How the attempt ended; committed once. 409: somebody else holds the task by now."""
    instance_id, now = _id(agent), state.clock()

    def work(conn: Connection) -> str:
        agents.contact(conn, instance_id, now)
        after = queue.finish(
            conn, task_id=task_id, generation=generation, instance_id=instance_id, result=body, now=now
        )
        return after.value

    try:
        after = await state.database.write_async(work)
    except ValueError as error:
        raise Problem(422, "UNKNOWN_OUTCOME", "The result can't be used", detail=str(error)) from None
    state.wake_loop()
    return {"state": after}

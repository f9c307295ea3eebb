"""A crowd of agents in one process: sockets and coroutines that say what real agents say."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostler.agent_bootstrap import wire
from hostler.config import load_fleet
from hostler.config.fleet import FleetConfig
from hostler.config.task import TaskSpec
from hostler.fleet import queue
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.store import instances
from hostler.providers.base import Market, Offer
from hostler.tracking.server.access import tokens
from hostler.tracking.server.database import Database
from sqlalchemy import Connection

CPUS = 8.0
MEMORY_BYTES = 16 << 30
OFFER = Offer("yonder", "far", "far-a", "box", Market.ON_DEMAND, CPUS, MEMORY_BYTES, None, 0.5)
"""Of a provider that isn't configured: nobody lists these machines, so only their agents' words count."""
FREE = queue.Free(cpus=CPUS, memory_bytes=MEMORY_BYTES, disk_bytes=1 << 40, gpus=0.0)
SPEC = TaskSpec.model_validate({"run": ["true"]})
AT_ONCE = 500
CALL_SECONDS_MAX = 10.0
DOUBLINGS_MAX = 10
IN_FLIGHT_MAX = 1_000
"""Calls under way together: with more, this one process would be what they time out on, not the daemon."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Member:
    """One agent: its credential and the one task it holds."""

    instance_id: str
    credential: str
    task_id: int


def populate(state_file: Path, fleet_file: Path, count: int, outage_seconds: float) -> list[Member]:
    """Write a fleet that was busy until `outage_seconds` ago: every instance holds a task, every lease is long over."""
    then = time.time() - outage_seconds
    fleet = load_fleet(fleet_file)
    database = Database.open(f"sqlite:///{state_file}", lambda: then)
    try:
        members: list[Member] = []
        for first in range(0, count, AT_ONCE):
            last = min(count, first + AT_ONCE)
            members += database.write(lambda conn, a=first, b=last: _members(conn, fleet, range(a, b), then))  # type: ignore[misc]
        return members
    finally:
        database.close()


def _members(conn: Connection, fleet: FleetConfig, numbers: range, then: float) -> list[Member]:
    return [_member(conn, fleet, f"h-crowd{number:07d}", then) for number in numbers]


def _member(conn: Connection, fleet: FleetConfig, instance_id: str, then: float) -> Member:
    instances.insert_intent(
        conn,
        instance_id=instance_id,
        workspace="default",
        pool="local",
        offer=OFFER,
        usd_per_hour=0.5,
        request={},
        spec_hash="",
        epoch=1,
        now=then,
        join_hash=instance_id,
        join_expires_at=then,
    )
    for state in (InstanceState.LAUNCHING, InstanceState.BOOTING, InstanceState.READY):
        assert instances.advance(conn, instance_id, state, then)
    instances.note(conn, instance_id, ref=f"ref-{instance_id}", joined_at=then, contact_at=then)
    queue.submit(conn, workspace="default", actor="crowd", uid=instance_id, spec=SPEC, fleet=fleet, now=then)
    claim = queue.claim(conn, instance_id=instance_id, free=FREE, fleet=fleet, now=then)
    assert claim is not None
    queue.started(conn, claim.task_id, claim.generation, instance_id, then)
    secret = tokens.issue(
        conn,
        workspace="default",
        kind="agent",
        actor=f"agent:{instance_id}",
        role="agent",
        now=then,
        instance_id=instance_id,
        expires_at=time.time() + 3_600,
    )
    return Member(instance_id, secret, claim.task_id)


@dataclass
class Told:
    """What the crowd heard."""

    beats: int = 0
    failures: int = 0
    stale: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    returned: set[str] = field(default_factory=set)
    waits: list[float] = field(default_factory=list)


async def come_back(
    port: int, members: list[Member], *, beat_seconds: float, until: float, rng: random.Random
) -> Told:
    """All at once, then each at its own pace, until `until` (monotonic)."""
    told, room = Told(), asyncio.Semaphore(IN_FLIGHT_MAX)
    seeds = [rng.random() for _ in members]
    await asyncio.gather(
        *(
            _live(port, member, beat_seconds, until, random.Random(seed), told, room)
            for member, seed in zip(members, seeds, strict=True)
        )
    )
    return told


async def _live(
    port: int,
    member: Member,
    beat_seconds: float,
    until: float,
    rng: random.Random,
    told: Told,
    room: asyncio.Semaphore,
) -> None:
    body: wire.Heartbeat = {"held": [{"task_id": member.task_id, "generation": 1}], "stats": {}}
    request = _request(wire.HEARTBEAT, member.credential, json.dumps(body).encode())
    streams: Streams | None = None
    failures = 0
    while (begun := time.monotonic()) < until:
        asked = 0.0
        try:
            async with room, asyncio.timeout(CALL_SECONDS_MAX):
                streams = streams or await asyncio.open_connection("127.0.0.1", port)
                status, headers, answer = await _call(streams, request)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            _closed(streams)
            status, streams = 0, None
        else:
            asked = float(headers.get("retry-after", 0))
        if status in (
            0,
            503,
        ):  # as the agent does: full jitter up to a beat, and what the server asks for at least
            told.failures += 1
            await asyncio.sleep(
                min(beat_seconds, max(asked, rng.uniform(0, min(beat_seconds, 0.5 * 2**failures))))
            )
            failures = min(failures + 1, DOUBLINGS_MAX)
            continue
        failures = 0
        told.beats += 1
        told.waits.append(time.monotonic() - begun)
        if status != 200:
            told.refused.append(f"{status} {answer}")
        else:
            told.returned.add(member.instance_id)
            told.stale += [one["task_id"] for one in answer["stale"]]
        await asyncio.sleep(min(max(0.0, until - time.monotonic()), beat_seconds * rng.uniform(0.9, 1.0)))
    _closed(streams)


def _closed(streams: Streams | None) -> None:
    if streams is not None:
        streams[1].close()


def _request(path: str, credential: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: crowd\r\nAuthorization: Bearer {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _call(streams: Streams, request: bytes) -> tuple[int, dict[str, str], Any]:
    reader, writer = streams
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)

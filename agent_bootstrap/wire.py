"""Messages between the agent and the server: plain JSON objects, described once for both sides.

All are TypedDicts, so that the agent (standard library only, Python 3.9) builds and reads plain dicts. Times on
the wire are durations in seconds, never wall clocks of the machine: its clock may be an hour off.
Routes stand beside the messages; every one but the join carries `Authorization: Bearer <agent credential>`.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, TypedDict

PREFIX = "/api/v1/agent"
JOIN = PREFIX + "/join"
"""POST JoinRequest -> Joined. Authorization: Bearer <join token>. 401 token unknown, 403 signed identity
refused, 409 used or too late, 503 our launch is not confirmed yet. The same token again soon after a lost reply gives a
fresh credential, as long as the first one was never used."""
ZIPAPP = PREFIX + "/hostler-agent.pyz"
"""GET -> bytes, header X-Hostler-Sha256. Authorization: join token (not burned by it) or agent credential."""
LEASE = PREFIX + "/lease"
"""POST LeaseRequest -> LeaseReply; held open up to `wait_seconds` while there is nothing to do."""
HEARTBEAT = PREFIX + "/heartbeat"
"""POST Heartbeat -> HeartbeatReply. Renews the leases named and the credential."""
NOTICE = PREFIX + "/notice"
"""POST PreemptionNotice -> HeartbeatReply. The instance drains from here on."""
FAILED = PREFIX + "/bootstrap-failed"
"""POST BootstrapFailed -> {}. Join token or credential; told before the machine shuts itself down."""
LEAVE = PREFIX + "/leave"
"""POST {} -> {}. Drained and done: nothing runs here any more."""
TASK = PREFIX + "/tasks/{task_id}/{generation}"
"""Prefix of what an agent says of one leased task; 409 = not the holder any more: kill its tree.
Logs, journal, artifacts and code go through the record's own routes (`tracking/wire.py`)."""
TASK_STARTED = TASK + "/started"
"""POST {} -> {}. leased -> running."""
TASK_RESULT = TASK + "/result"
"""POST Result -> {"state": ...}. Committed once; the same result again answers the same."""

EXIT_REQUEUE = 75
"""A task leaves with this code: run me again, at no cost to my retry budgets."""
EXIT_PERMANENT = 78
"""A task leaves with this code: never run me again."""


class GpuFound(TypedDict):
    uuid: str
    name: str
    memory_bytes: int


class Inventory(TypedDict):
    cpus: int
    memory_bytes: int
    disk_bytes: int
    gpus: List[GpuFound]
    python: str
    hostname: str
    agent_version: str


class JoinRequest(TypedDict):
    inventory: Inventory
    identity: Dict[str, str]
    """Signed identity of the cloud where it has one (kind, document, signature); empty otherwise."""


class Joined(TypedDict):
    instance_id: str
    credential: str
    credential_seconds: float
    heartbeat_seconds: float
    lease_ttl_seconds: float
    dead_man_seconds: float
    sold_cpus: float
    sold_memory_bytes: int
    """The machine's size as it was bought: what planning counts with. A kernel always sees a little less."""


class Lease(TypedDict):
    """A claimed task. `spec` is task.yaml as validated; `environ` is what the runner adds to the task's own."""

    task_id: int
    attempt: int
    generation: int
    ttl_seconds: float
    project: str
    name: str
    spec: Dict[str, Any]
    has_code: bool
    task_token: str
    """Bearer for the SDK inside the task: reaches this task alone, dies with this lease."""
    gpu_count: float
    cpus: float
    memory_bytes: int


class LeaseRequest(TypedDict):
    wait_seconds: float
    cpus_free: float
    memory_bytes_free: int
    disk_bytes_free: int
    gpus_free: float
    """Whole GPUs nobody uses, plus what is left of shared ones."""
    held: List[int]
    """Task ids that run here."""


class LeaseReply(TypedDict):
    lease: Optional[Lease]
    drain: bool


class Held(TypedDict):
    task_id: int
    generation: int


class Heartbeat(TypedDict):
    held: List[Held]
    stats: Dict[str, float]


class Stop(TypedDict):
    task_id: int
    generation: int
    reason: str
    """stopped | preempted | timeout"""
    grace_seconds: float


class HeartbeatReply(TypedDict):
    renewed: List[int]
    """Task ids whose lease was renewed for another TTL."""
    stale: List[Held]
    """No longer ours: kill the tree, say nothing more of it."""
    stop: List[Stop]
    drain: bool
    credential: Optional[str]
    """A fresh one when the old is past half its life."""


class PreemptionNotice(TypedDict):
    source: str
    """aws-spot | aws-rebalance | gcp | azure | kubernetes | local"""
    seconds_left: float


class BootstrapFailed(TypedDict):
    stage: str
    message: str


class Result(TypedDict):
    outcome: str
    """completed | failed | preempted | stopped | requeue | permanent | infra | timeout"""
    exit_code: Optional[int]
    reason: str
    message: str
    run_seconds: float

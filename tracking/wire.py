"""How records reach the server: the agent, the SDK outside the fleet, and `hostler sync` all speak this.

Plain JSON or bytes, described once for both sides (standard library only, Python 3.9). Every route but `CREATE`
takes the task's own token (`Authorization: Bearer`) or the agent's credential; 409 with code `STALE_GENERATION` means
that somebody else holds this task now: stop writing.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, TypedDict

PREFIX = "/api/v1/record"
CREATE = PREFIX + "/tasks"
"""POST NewRun -> Run. With a user's token: a task run outside the fleet. The same uid again answers the same run."""
TASK = PREFIX + "/tasks/{task_id}/{generation}"
LOG = TASK + "/log?offset={offset}"
"""POST bytes (<= LOG_CHUNK_BYTES) -> LogReply. Known bytes again: a no-op; a gap: 409 `LOG_GAP` with `offset`."""
JOURNAL = TASK + "/journal?rank={rank}&segment={segment}&offset={offset}"
"""POST whole journal records as bytes -> JournalReply; stored with its high-water mark in one transaction.
Go on at the reply's `offset`, whatever was sent: a batch beyond what is durable stores nothing."""
BLOB = TASK + "/blobs/{digest}"
"""HEAD -> 200 | 404; PUT bytes with Content-Length, verified against the sha256 hex digest; GET -> bytes."""
ARTIFACT = TASK + "/artifacts"
"""POST ArtifactRecord -> {"version": n}. Idempotent by (name, type, digest, step, attempt); its blob must be there."""
CHECKPOINT = TASK + "/checkpoint"
"""GET -> ArtifactRecord of the newest complete checkpoint of any attempt | 404."""
CODE = TASK + "/code"
"""GET -> tar.gz of the code snapshot | 404."""
FINISH = TASK + "/finish"
"""POST {"state": "completed"|"failed", "exit_code", "message"} -> {}. Only for runs outside the fleet."""

LOG_CHUNK_BYTES = 256 * 1024
JOURNAL_BATCH_BYTES = 1024 * 1024
BLOB_BYTES_MAX = 16 * 1024**3
CODE_BYTES_MAX = 256 * 1024**2


class NewRun(TypedDict):
    uid: str
    project: str
    name: str
    tags: List[str]
    capture: Dict[str, Any]


class Run(TypedDict):
    task_id: int
    generation: int
    task_token: str
    url: str


class LogReply(TypedDict):
    offset: int
    """Bytes of this attempt's log that are durable."""


class JournalReply(TypedDict):
    offset: int
    """Bytes of this segment that are durable."""
    broken: int


class ArtifactRecord(TypedDict, total=False):
    name: str
    type: str
    digest: str
    size: int
    step: Optional[int]
    metadata: Dict[str, Any]
    keep: Optional[int]
    """Of a checkpoint: how many of this name to keep; older ones lose their row."""
    version: int
    attempt: int

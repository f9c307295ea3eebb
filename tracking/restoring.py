"""Bring back the newest complete checkpoint: of any attempt from the server, or of this folder when there is none."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import journal, spool, wire
from .client import RETRYABLE, CallFailed, Client, Refused, backoff_seconds
from .errors import Damaged, ServerRefused, ServerUnreachable
from .place import Place

PATIENCE_SECONDS = 300.0
"""How long to keep asking a server that doesn't answer: starting over would throw away more work than this."""
BACKOFF_SECONDS_MAX = 15.0
TIMEOUT_SECONDS = 60.0
"""Of silence within a download."""


def newest(place: Place, client: Optional[Client], to: Optional[str]) -> Tuple[Optional[str], Optional[int]]:
    """(path, step) of the newest complete checkpoint, or (None, None).

    `to` is the file or folder to make; by default one under HOSTLER_IN or the run's folder. Raises ServerUnreachable
    when the server stays silent, Damaged when its bytes don't have their checksum.
    """
    if client is None or place.task_id is None:
        return _local(place, to)
    ids = {"task_id": place.task_id, "generation": place.generation}
    record = _patiently(lambda: _asked(client, wire.CHECKPOINT.format(**ids)))
    if record is None:
        return None, None
    archive = _target(place, record, None) + ".part"
    _patiently(lambda: _download(client, wire.BLOB.format(digest=record["digest"], **ids), archive))
    if spool.digest_of(archive) != record["digest"]:
        os.unlink(archive)
        raise Damaged(f"checkpoint {record['digest'][:12]} came back changed")
    return _put(archive, record, _target(place, record, to)), record.get("step")


def _asked(client: Client, path: str) -> Optional[Dict[str, Any]]:
    try:
        answer: Dict[str, Any] = client.request("GET", path).json()
    except Refused as error:
        if error.status == 404:
            return None
        raise
    return answer


def _download(client: Client, path: str, archive: str) -> None:
    os.makedirs(os.path.dirname(archive), exist_ok=True)
    client.request(
        "GET", path, into=Path(archive), limit_bytes=wire.BLOB_BYTES_MAX, timeout_seconds=TIMEOUT_SECONDS
    )


def _patiently(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    rng = random.Random()  # noqa: S311 - jitter
    attempt = 0
    while True:
        try:
            return ask()
        except RETRYABLE as error:
            if time.monotonic() > deadline:
                raise ServerUnreachable(str(error)) from error
        except CallFailed as error:
            raise ServerRefused(error.status, error.code, str(error)) from error
        time.sleep(backoff_seconds(attempt, rng, BACKOFF_SECONDS_MAX))
        attempt += 1


def _local(place: Place, to: Optional[str]) -> Tuple[Optional[str], Optional[int]]:
    """A run without a server goes on from its own folder (`resume=` names it)."""
    for record in reversed(_checkpoints(place.folder)):
        path = spool.path_of(os.path.join(place.folder, "spool"), record["digest"])
        if os.path.exists(path):
            archive = _target(place, record, None) + ".part"
            os.makedirs(os.path.dirname(archive), exist_ok=True)
            with open(path, "rb") as source, open(archive, "wb") as target:
                while chunk := source.read(spool.CHUNK_BYTES):
                    target.write(chunk)
            return _put(archive, record, _target(place, record, to)), record.get("step")
    return None, None


def _checkpoints(folder: str) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = []
    base = os.path.join(folder, "journal")
    for segment in journal.segments(base):
        with open(os.path.join(base, segment), "rb") as file:
            records, _ = journal.parse(file.read())
        found += [one[1] for one in records if one[0] == "a" and one[1].get("type") == "checkpoint"]
    return found


def _target(place: Place, record: Dict[str, Any], to: Optional[str]) -> str:
    if to is not None:
        return os.path.abspath(to)
    base = os.environ.get("HOSTLER_IN") if place.kind == "agent" else None
    name = os.path.basename(str(record.get("metadata", {}).get("filename") or "checkpoint"))
    folder = os.path.join(base or os.path.join(place.folder, "in"), "checkpoint", record["digest"][:16])
    return os.path.join(folder, name)


def _put(archive: str, record: Dict[str, Any], target: str) -> str:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if record.get("metadata", {}).get("directory"):
        spool.unpack(archive, target)
        os.unlink(archive)
    else:
        os.replace(archive, target)
    return target

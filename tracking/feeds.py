"""From a run's folder to the record: journal, artifacts, log, each feed a step at a time.

Where each feed goes on after a restart the server says: a chunk that it has already is answered with how far it got.
Nothing is removed here before the server has said that it has it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import journal
from . import wire as record
from .client import Client, Conflict, Refused
from .files import read_json, write_json

LOG_GAP = "LOG_GAP"
SCAN_BYTES = 256 * 1024
BLOB_TIMEOUT_SECONDS = 600.0
DIGEST_CHARACTERS = 64
HASH_BLOCK_BYTES = 1024 * 1024

_logger = logging.getLogger(__name__)


class Paths:
    """The record's routes of one lease."""

    def __init__(self, task_id: int, generation: int) -> None:
        self._of = {"task_id": task_id, "generation": generation}

    def log(self, offset: int) -> str:
        return record.LOG.format(offset=offset, **self._of)

    def journal(self, rank: int, segment: str, offset: int) -> str:
        return record.JOURNAL.format(rank=rank, segment=quote(segment, safe=""), offset=offset, **self._of)

    def blob(self, digest: str) -> str:
        return record.BLOB.format(digest=digest, **self._of)

    def artifact(self) -> str:
        return record.ARTIFACT.format(**self._of)

    def code(self) -> str:
        return record.CODE.format(**self._of)


class LogFeed:
    """The attempt's output."""

    def __init__(self, client: Client, paths: Paths, log: Path) -> None:
        self._client, self._paths, self._path = client, paths, log
        self._offset = 0

    def step(self) -> bool:
        """Send one chunk. False when all that is there has been sent. Raises CallFailed."""
        data = self._read()
        if not data:
            return False
        try:
            offset = int(_post_bytes(self._client, self._paths.log(self._offset), data)["offset"])
        except Conflict as conflict:
            if conflict.code != LOG_GAP:
                raise
            offset = int(
                conflict.problem["offset"]
            )  # it may lie behind: the server was restored from an older copy
        moved, self._offset = offset != self._offset, offset
        return moved

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            return file.read(record.LOG_CHUNK_BYTES)


class JournalFeed:
    """Metrics, parameters, tags: all that the journal in `out` holds."""

    def __init__(self, client: Client, paths: Paths, out: Path) -> None:
        self._client, self._paths, self._folder = client, paths, str(out / "journal")
        self._offsets: dict[str, int] = {}

    def step(self) -> bool:
        """Send a batch of each segment that has grown. Raises CallFailed."""
        moved = False
        for segment in journal.segments(self._folder):
            offset = self._offsets.get(segment, 0)
            batch = journal.read_batch(self._folder, segment, offset, record.JOURNAL_BATCH_BYTES)
            if batch is None:
                continue
            try:
                path = self._paths.journal(batch.rank, segment, batch.offset)
                self._offsets[segment] = int(_post_bytes(self._client, path, batch.data)["offset"])
            except Refused as error:  # this batch will never be taken; the ones behind it may
                _logger.warning("journal %s at %d is refused: %s", segment, offset, error)
                self._offsets[segment] = batch.end
            moved = moved or self._offsets[segment] != offset
        return moved


class ArtifactFeed:
    """Reads the journal a second time, for artifacts alone: gigabytes of a checkpoint must not hold up metrics."""

    def __init__(self, client: Client, paths: Paths, out: Path, sent: Path) -> None:
        self._client, self._paths = client, paths
        self._journal, self._spool, self._sent = str(out / "journal"), out / "spool", sent
        self._offsets: dict[str, int] = read_json(sent) or {}

    def step(self) -> bool:
        """Send the artifacts of one batch of each segment that has grown. Raises CallFailed."""
        moved = False
        for segment in journal.segments(self._journal):
            batch = journal.read_batch(self._journal, segment, self._offsets.get(segment, 0), SCAN_BYTES)
            if batch is None:
                continue
            found, _ = journal.parse(batch.data)
            artifacts = [
                item[1] for item in found if item[0] == "a" and len(item) > 1 and _is_artifact(item[1])
            ]
            for artifact in artifacts:
                self._send(artifact)
            self._offsets[segment] = batch.end
            if artifacts:
                write_json(self._sent, self._offsets)
                self._forget(artifacts)
            moved = True
        return moved

    def _send(self, artifact: dict[str, Any]) -> None:
        try:
            if self._blob_is_there(artifact["digest"]) or self._put_blob(artifact["digest"]):
                self._client.post(self._paths.artifact(), artifact)
        except Refused as error:
            _logger.warning("artifact %s is refused: %s", artifact.get("name"), error)

    def _blob_is_there(self, digest: str) -> bool:
        try:
            return self._client.request("HEAD", self._paths.blob(digest)).status == 200
        except Refused as error:
            if error.status == 404:
                return False
            raise

    def _put_blob(self, digest: str) -> bool:
        path = self._spool / digest
        if not path.is_file() or path.is_symlink():
            _logger.warning("artifact %s is not in the spool", digest)
            return False
        if _sha256(path) != digest:
            _logger.warning("artifact %s changed in the spool and is left out", digest)
            return False
        headers = {"Content-Length": str(path.stat().st_size), "Content-Type": "application/octet-stream"}
        with path.open("rb") as file:
            self._client.request(
                "PUT", self._paths.blob(digest), file, headers=headers, timeout_seconds=BLOB_TIMEOUT_SECONDS
            )
        return True

    def _forget(self, artifacts: list[dict[str, Any]]) -> None:
        for artifact in artifacts:
            (self._spool / artifact["digest"]).unlink(missing_ok=True)


def _post_bytes(client: Client, path: str, data: bytes) -> Any:
    headers = {"Content-Type": "application/octet-stream"}
    return client.request("POST", path, data, headers=headers).json()


def _is_artifact(value: object) -> bool:
    """Digests become file names: nothing but lower-case hex may."""
    digest = value.get("digest") if isinstance(value, dict) else None
    return (
        isinstance(digest, str)
        and len(digest) == DIGEST_CHARACTERS
        and all(character in "0123456789abcdef" for character in digest)
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(HASH_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()

"""From a task's folder to the record: log, journal, artifacts, each at its own pace.

Nothing here blocks the task: it writes files, these threads read them. Where each feed goes on after a restart the
server says: a chunk that it has already is answered with how far it got.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...tracking import journal
from ...tracking import wire as record
from .client import RETRYABLE, CallFailed, Client, Conflict, Refused, Unauthorized
from .clock import now
from .home import TaskFolder, read_json, write_json

POLL_SECONDS = 0.2
LOG_GAP = "LOG_GAP"
SCAN_BYTES = 256 * 1024
BLOB_TIMEOUT_SECONDS = 600.0
PAUSE_SECONDS_MAX = 15.0
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
    def __init__(self, client: Client, paths: Paths, folder: TaskFolder) -> None:
        self._client, self._paths, self._path = client, paths, folder.log
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
    def __init__(self, client: Client, paths: Paths, folder: TaskFolder) -> None:
        self._client, self._paths, self._folder = client, paths, str(folder.journal)
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

    def __init__(self, client: Client, paths: Paths, folder: TaskFolder) -> None:
        self._client, self._paths, self._folder = client, paths, folder
        self._offsets: dict[str, int] = read_json(folder.sent) or {}

    def step(self) -> bool:
        """Send the artifacts of one batch of each segment that has grown. Raises CallFailed."""
        moved = False
        name = str(self._folder.journal)
        for segment in journal.segments(name):
            batch = journal.read_batch(name, segment, self._offsets.get(segment, 0), SCAN_BYTES)
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
                write_json(self._folder.sent, self._offsets)
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
        path = self._folder.spool / digest
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
            (self._folder.spool / artifact["digest"]).unlink(missing_ok=True)


class Uploads:
    """The three feeds of one task, each on a thread of its own."""

    def __init__(
        self,
        client: Client,
        folder: TaskFolder,
        task_id: int,
        generation: int,
        *,
        on_stale: Callable[[], None],
    ) -> None:
        paths = Paths(task_id, generation)
        feeds = (LogFeed, JournalFeed, ArtifactFeed)
        self._client = client
        self._on_stale = on_stale
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._feed,
                args=(feed.__name__, feed(client, paths, folder).step),
                name=f"{feed.__name__}-{task_id}",
                daemon=True,
            )
            for feed in feeds
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, deadline: float) -> bool:
        """Send the rest, until `deadline` by `clock.now`. False if something had to be left behind."""
        self._ending.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - now()))
        done = not any(thread.is_alive() for thread in self._threads)
        self.abandon()
        return done

    def abandon(self) -> None:
        """Send nothing more."""
        self._abandoned.set()
        self._ending.set()

    def _feed(self, name: str, step: Callable[[], bool]) -> None:
        failures = 0
        while not self._abandoned.is_set():
            ending = self._ending.is_set()  # read before the step: what it finds empty then stays empty
            try:
                moved = step()
                failures = 0
            except Conflict:
                self._on_stale()
                return
            except (*RETRYABLE, Unauthorized) as error:
                self._abandoned.wait(self._client.pause_after(error, failures, PAUSE_SECONDS_MAX))
                failures += 1
                continue
            except (CallFailed, OSError, ValueError, KeyError, TypeError) as error:
                _logger.warning("%s gives up: %s", name, error)
                return
            if not moved and ending:
                return
            if not moved:
                self._ending.wait(POLL_SECONDS)


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

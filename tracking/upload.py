"""Carry what a run wrote to the server: journal records in batches, artifact bytes, then the artifact's record.

Everything can be cut off at any point and started again: the server keeps a high-water mark per segment and knows
blobs by content, so a repeat is a no-op. Nothing is removed here before the server has said that it has it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, NamedTuple, cast

from . import journal, spool, wire
from .connection import Connection
from .errors import ServerRefused


class Counts(NamedTuple):
    """What one pass did: journal bytes taken in, artifacts stored, records or files that could not be used."""

    journal_bytes: int = 0
    artifacts: int = 0
    broken: int = 0


class Uploader:
    """Uploads one task's journal and spool; `pass_once` is called again and again, by a thread or at the end."""

    def __init__(self, connection: Connection, folder: str, task_id: int, generation: int) -> None:
        self._connection = connection
        self._journal = os.path.join(folder, "journal")
        self._spool = os.path.join(folder, "spool")
        self._ids = {"task_id": task_id, "generation": generation}
        self._offsets: Dict[str, int] = {}
        self._broken: Dict[str, int] = {}

    def pass_once(self) -> Counts:
        """Send all that is there now. Raises ServerUnreachable (try later) and ServerRefused (see its code)."""
        total = Counts()
        for batch in self._batches():
            stored = self._send_artifacts(batch)
            reply = self._connection.send(
                "POST",
                wire.JOURNAL.format(rank=batch.rank, segment=batch.segment, offset=batch.offset, **self._ids),
                batch.data,
            )
            self._offsets[batch.segment] = int(reply["offset"])
            self._broken[batch.segment] = int(reply["broken"])
            total = Counts(total.journal_bytes + len(batch.data), total.artifacts + stored.artifacts)
        return total._replace(broken=sum(self._broken.values()))

    def _batches(self) -> Iterator[journal.Batch]:
        for segment in journal.segments(self._journal):
            while True:
                offset = self._offsets.get(segment, 0)
                batch = journal.read_batch(self._journal, segment, offset, wire.JOURNAL_BATCH_BYTES)
                if batch is None:
                    break
                yield batch
                if self._offsets.get(segment, 0) <= offset:  # the server didn't move on: don't spin
                    break

    def _send_artifacts(self, batch: journal.Batch) -> Counts:
        """Bytes first, record second; both before the journal's mark moves past the batch."""
        records, _ = journal.parse(batch.data)
        stored = 0
        for record in _artifacts(records):
            stored += self._send_artifact(record)
        return Counts(0, stored)

    def _send_artifact(self, record: wire.ArtifactRecord) -> int:
        digest = record["digest"]
        path = spool.path_of(self._spool, digest)
        blob = wire.BLOB.format(digest=digest, **self._ids)
        if not self._connection.exists(blob):
            if not os.path.exists(
                path
            ):  # superseded before it could be sent: a newer checkpoint took its place
                return 0
            with open(path, "rb") as file:
                self._connection.send("PUT", blob, file, length=record["size"])
        self._connection.json("POST", wire.ARTIFACT.format(**self._ids), record)
        spool.remove(self._spool, digest)
        return 1


def _artifacts(records: List[Any]) -> Iterator[wire.ArtifactRecord]:
    for record in records:
        if record[0] == "a" and len(record) > 1 and isinstance(record[1], dict) and "digest" in record[1]:
            yield cast("wire.ArtifactRecord", record[1])


def is_final(error: ServerRefused) -> bool:
    """True when the server will never take more of this run: somebody else holds the task, or it is gone."""
    return error.status in (401, 403, 404, 410) or error.code == "STALE_GENERATION"

"""Blobs in a local folder, named by the SHA-256 of their bytes: streamed in, verified, durable, then visible at once.

A blob is there when its row is. The file comes first, so a row never points to nothing; a file without a row is
what a crash left, and `sweep` takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from .database import Database, StorageFull
from .database.schema import artifacts, blobs, tasks
from .problems import Problem, too_large

DIGEST = re.compile(r"[0-9a-f]{64}")
WRITE_BYTES = 1024 * 1024
"""Gathered before a thread is asked to write them."""
GRACE_SECONDS = 24 * 3600.0
"""How long a blob may lie unreferenced: an upload whose artifact isn't told yet, a snapshot before its submit."""
SWEPT_AT_ONCE_MAX = 500
_UPLOADS = "uploads"
_LOCK = ".lock"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Blobs:
    """The blobs of one server. `folder` is made where it isn't there; it lies on the same disk as its uploads."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        self._uploads = folder / _UPLOADS
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._one_thread = threading.Lock()

    def path(self, digest: str) -> Path:
        """Where the bytes lie. Raises Problem 422 for what is no digest."""
        check_digest(digest)
        return self.folder / digest[:2] / digest

    async def put(self, digest: str, stream: AsyncIterator[bytes], *, limit_bytes: int) -> int:
        """Store a blob; returns its size in bytes. One that is there already is verified and thrown away.

        Raises Problem 413 as soon as the stream passes `limit_bytes`, 422 `DIGEST_MISMATCH`; StorageFull.
        """
        final = self.path(digest)
        upload = self._uploads / secrets.token_hex(16)
        try:
            size = await self._receive(upload, digest, stream, limit_bytes)
            await asyncio.to_thread(self._publish, upload, final, digest, size)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StorageFull(f"no room for blob {digest}: {error.strerror}") from error
            raise
        finally:
            upload.unlink(missing_ok=True)
        return size

    def sweep(self, now: float, grace_seconds: float = GRACE_SECONDS) -> int:
        """Remove blobs that nothing refers to and uploads that ended in a crash, both older than the grace.

        Returns how many blobs went. Blocking; made for a scheduler's thread.
        """
        before = now - grace_seconds
        removed = 0
        while gone := self._sweep_rows(before):
            removed += len(gone)
        self._sweep_files(before)
        return removed

    async def _receive(
        self, upload: Path, digest: str, stream: AsyncIterator[bytes], limit_bytes: int
    ) -> int:
        found = hashlib.sha256()
        size = 0
        waiting = bytearray()
        with await asyncio.to_thread(upload.open, "xb") as file:
            async for piece in stream:
                size += len(piece)
                if size > limit_bytes:
                    raise too_large("the blob", limit_bytes)
                waiting += piece
                if len(waiting) >= WRITE_BYTES:
                    await asyncio.to_thread(_write, file, found.update, waiting)
                    waiting = bytearray()
            await asyncio.to_thread(_write, file, found.update, waiting)
            if found.hexdigest() != digest:
                raise Problem(
                    422,
                    "DIGEST_MISMATCH",
                    "the bytes are not those of the digest",
                    f"{size} bytes with sha256 {found.hexdigest()} came as {digest}",
                    "the file changed or was cut on its way; send it again",
                )
            await asyncio.to_thread(os.fsync, file.fileno())
        return size

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        """Between the file's rename and its row, and between the row's end and the file's, no other may step in.

        Not another thread, and not another daemon that shares this folder.
        """
        with self._one_thread, (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _publish(self, upload: Path, final: Path, digest: str, size: int) -> None:
        with self._publishing():
            final.parent.mkdir(exist_ok=True)
            upload.replace(final)
            _sync_folder(final.parent)
            _sync_folder(self.folder)
            now = self._database.clock()
            self._database.write(lambda conn: _add_row(conn, digest, size, now))

    def _sweep_rows(self, before: float) -> list[str]:
        with self._publishing():
            gone = self._database.write(lambda conn: _forget(conn, before))
            for digest in gone:
                self.path(digest).unlink(missing_ok=True)
        return gone

    def _sweep_files(self, before: float) -> None:
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime >= before:
                    continue
                if path.parent == self._uploads:
                    path.unlink()
                elif DIGEST.fullmatch(path.name):
                    self._unlink_if_unknown(path)

    def _unlink_if_unknown(self, path: Path) -> None:
        with self._publishing(), self._database.read() as conn:
            if size_of(conn, path.name) is None:
                path.unlink()


def check_digest(digest: str) -> None:
    if not DIGEST.fullmatch(digest):
        raise Problem(
            422, "BAD_DIGEST", "that is no digest", hint="64 lower-case hex digits: the SHA-256 of the bytes"
        )


def size_of(conn: Connection, digest: str) -> int | None:
    """Bytes of a blob; None where it isn't there."""
    size = conn.execute(select(blobs.c.size).where(blobs.c.digest == digest)).scalar()
    return int(size) if size is not None else None


def touch(conn: Connection, digest: str, now: float) -> int | None:
    """`size_of`, and the blob's grace begins anew: who asks whether it is there is about to refer to it."""
    size = size_of(conn, digest)
    if size is not None:
        conn.execute(update(blobs).where(blobs.c.digest == digest).values(created_at=now))
    return size


def _write(file: BinaryIO, hashed: Callable[[bytes | bytearray], None], data: bytearray) -> None:
    hashed(data)
    file.write(data)
    file.flush()


def _add_row(conn: Connection, digest: str, size: int, now: float) -> None:
    if touch(conn, digest, now) is None:
        conn.execute(insert(blobs), {"digest": digest, "size": size, "created_at": now})


def _forget(conn: Connection, before: float) -> list[str]:
    referred = or_(
        exists().where(artifacts.c.digest == blobs.c.digest),
        exists().where(tasks.c.code_digest == blobs.c.digest),
    )
    query = select(blobs.c.digest).where(blobs.c.created_at < before, ~referred).limit(SWEPT_AT_ONCE_MAX)
    gone = list(conn.execute(query).scalars())
    if gone:
        conn.execute(delete(blobs).where(blobs.c.digest.in_(gone)))
    return gone


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

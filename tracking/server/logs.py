"""Logs of attempts: compressed chunks by byte offset, readable from any byte, never a row a line."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from .database.schema import attempts, log_chunks
from .fence import Holding
from .problems import Problem

LOG_BYTES_MAX = 256 * 1024**2
"""Of one attempt. What to keep of a longer one (head and tail) is for the agent to choose before it sends."""
READ_BYTES_MAX = 1024 * 1024
READ_BYTES_DEFAULT = 256 * 1024
TAIL_LINES_MAX = 10_000
_LEVEL = 1
"""Logs shrink five-fold at the fastest level already."""


class Slice(NamedTuple):
    """Bytes [offset, next_offset) of an attempt's log that is `end` bytes long so far."""

    attempt: int
    offset: int
    next_offset: int
    end: int
    data: bytes


def compress(data: bytes) -> bytes:
    return zlib.compress(data, _LEVEL)


def append(
    conn: Connection, task: Holding, *, offset: int, data: bytes, now: float, packed: bytes | None = None
) -> int:
    """Store what is new of `data`, which lies at `offset`. Returns how many bytes of the log are durable.

    `packed` is `compress(data)` made beforehand, to spare the writer. Raises Problem 409 `LOG_GAP` where bytes are
    missing before it, 413 `LOG_LIMIT` where the log would be over LOG_BYTES_MAX; both tell `offset`, the end.
    """
    end = length(conn, task.task_id, task.attempt)
    if offset > end:
        raise Problem(
            409,
            "LOG_GAP",
            "bytes are missing before this chunk",
            f"it begins at {offset}, the log ends at {end}",
            "go on at `offset`",
            offset=end,
        )
    fresh = data[end - offset :]
    if not fresh:
        return end
    if end + len(fresh) > LOG_BYTES_MAX:
        raise Problem(
            413,
            "LOG_LIMIT",
            "the log of this attempt is full",
            f"{end} bytes are kept, {LOG_BYTES_MAX} is the limit",
            "send no more of it; write less, or log a file as an artifact",
            offset=end,
            limit_bytes=LOG_BYTES_MAX,
        )
    row = {
        "task_id": task.task_id,
        "attempt": task.attempt,
        "offset": end,
        "length": len(fresh),
        "data": packed if packed is not None and end == offset else compress(fresh),
        "at": now,
    }
    conn.execute(insert(log_chunks), row)
    return end + len(fresh)


_LAST = select(log_chunks.c.offset, log_chunks.c.length).order_by(log_chunks.c.offset.desc()).limit(1)


def length(conn: Connection, task_id: int, attempt: int) -> int:
    """Bytes of an attempt's log that are stored."""
    of_attempt = (log_chunks.c.task_id == task_id) & (log_chunks.c.attempt == attempt)
    row = conn.execute(_LAST.where(of_attempt)).first()
    return int(row.offset + row.length) if row is not None else 0


def read(conn: Connection, task_id: int, attempt: int, offset: int, limit_bytes: int) -> Slice:
    """At most `limit_bytes` from `offset` on; past the end: no bytes, and where the end is."""
    limit_bytes = max(1, min(limit_bytes, READ_BYTES_MAX))
    end = length(conn, task_id, attempt)
    if offset >= end:
        return Slice(attempt, end, end, end, b"")
    of_attempt = (log_chunks.c.task_id == task_id) & (log_chunks.c.attempt == attempt)
    first = select(func.max(log_chunks.c.offset)).where(of_attempt, log_chunks.c.offset <= offset)
    query = (
        select(log_chunks.c.offset, log_chunks.c.data)
        .where(
            of_attempt,
            log_chunks.c.offset >= first.scalar_subquery(),
            log_chunks.c.offset < offset + limit_bytes,
        )
        .order_by(log_chunks.c.offset)
    )
    pieces = []
    for at, data in conn.execute(query):
        piece = zlib.decompress(data)
        pieces.append(piece[max(0, offset - at) : offset + limit_bytes - at])
    data = b"".join(pieces)
    return Slice(attempt, offset, offset + len(data), end, data)


def tail(conn: Connection, task_id: int, attempt: int, lines: int) -> Slice:
    """The last `lines` lines, as far as they lie within the last READ_BYTES_MAX bytes."""
    lines = max(1, min(lines, TAIL_LINES_MAX))
    end = length(conn, task_id, attempt)
    window = read(conn, task_id, attempt, max(0, end - READ_BYTES_MAX), READ_BYTES_MAX)
    data = window.data
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            break
    start = at + 1
    return Slice(attempt, window.offset + start, window.next_offset, end, data[start:])


def latest_attempt(conn: Connection, task_id: int) -> int:
    """The number of the newest attempt; 0 where none began."""
    query = select(func.max(attempts.c.number)).where(attempts.c.task_id == task_id)
    return int(conn.execute(query).scalar() or 0)

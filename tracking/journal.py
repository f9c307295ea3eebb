"""The journal: an append-only file of framed records that survives a kill at any byte.

A record is one line `CRC32 SPACE JSON LF` (checksum as 8 hex digits over the JSON bytes) written by a single
`write(2)` on an O_APPEND descriptor: a killed writer loses nothing that `append` returned from, and writers that
were forked never tear each other's lines, because each process opens a segment of its own.

Records are JSON arrays whose first item is the kind:
    ["m", step | null, time, {key: number}, context | null]      metrics; NaN and infinities as "nan" "inf" "-inf"
    ["p", {key: value}]                                          parameters
    ["a", {name, type, digest, size, step, metadata, keep}]      artifact whose bytes lie in the spool by digest
    ["g", [tag, ...]]                                            tags to add
    ["e", {key: value}]                                          environment captured: git, packages, host, argv
Unknown kinds are kept by the server as they are counted: skipped, never an error.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""Longer records are refused by the writer; a reader that meets one skips it as broken."""
SUFFIX = ".jnl"

try:  # faster where it happens to be installed; never required
    import orjson  # type: ignore[import-not-found,unused-ignore]

    def _dumps(record: Any) -> bytes:
        return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)  # type: ignore[no-any-return,unused-ignore]
except ImportError:
    _encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    _chunks: Callable[[Any], Iterable[str]] = _encoder.iterencode
    _make = getattr(json.encoder, "c_make_encoder", None)
    if _make is not None:  # `encode` builds this anew at each call, a third of the cost of a small record
        _escape = json.encoder.encode_basestring  # type: ignore[attr-defined,unused-ignore]
        _quick = _make(None, _encoder.default, _escape, None, ":", ",", False, False, False)
        _chunks = lambda record: _quick(record, 0)  # noqa: E731

    def _dumps(record: Any) -> bytes:
        return "".join(_chunks(record)).encode("utf-8", "surrogatepass")


class RecordTooLarge(ValueError):
    """A single record is over RECORD_BYTES_MAX; log it as an artifact instead."""


def frame(record: Any) -> bytes:
    """One record as the line that goes to the file. Raises RecordTooLarge, TypeError, ValueError (bare NaN)."""
    body = _dumps(record)
    if len(body) > RECORD_BYTES_MAX:
        raise RecordTooLarge(f"record of {len(body)} bytes; the limit is {RECORD_BYTES_MAX}")
    return b"%08x %s\n" % (zlib.crc32(body), body)


class Writer:
    """Appends records to segments in `folder`; safe between threads and across fork."""

    def __init__(self, folder: str, rank: int = 0) -> None:
        self._folder = folder
        self._rank = rank
        self._pid_fd: Tuple[int, int] = (-1, -1)
        os.makedirs(folder, exist_ok=True)

    def append(self, record: Any) -> None:
        """Write one record. When this returns the kernel has it. Raises OSError when the disk is full."""
        line = frame(record)
        pid, fd = self._pid_fd
        if pid != os.getpid():
            fd = self._open_segment()
        if os.write(fd, line) != len(line):  # disk full in mid-record
            os.write(fd, b"\n" + line)  # end the torn line, so that the next one is whole; ENOSPC raises here

    def close(self) -> None:
        pid, fd = self._pid_fd
        self._pid_fd = (-1, -1)
        if pid == os.getpid():
            os.close(fd)

    def _open_segment(self) -> int:
        # Two threads may both come here first: each gets a segment that is whole, the later one stays in use.
        name = f"{self._rank}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        fd = os.open(os.path.join(self._folder, name), flags, 0o644)
        self._pid_fd = (os.getpid(), fd)
        return fd


class Batch(NamedTuple):
    """Whole lines read from a segment: bytes from `offset` up to `end` (exclusive)."""

    segment: str
    rank: int
    offset: int
    end: int
    data: bytes


def segments(folder: str) -> List[str]:
    """Names of the segments in `folder`, oldest first."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: (_changed_at(folder, name), name))


def read_batch(folder: str, segment: str, offset: int, limit_bytes: int) -> Optional[Batch]:
    """Whole lines of `segment` from `offset` on, at most about `limit_bytes`; None when there is no whole line."""
    with open(os.path.join(folder, segment), "rb") as file:
        file.seek(offset)
        data = file.read(max(limit_bytes, RECORD_BYTES_MAX + 16))
    end = data.rfind(b"\n", 0, limit_bytes) + 1 or data.find(b"\n") + 1
    if end == 0:
        if len(data) <= RECORD_BYTES_MAX + 16:
            return None
        end = len(data)  # no line end within the largest record: junk, let the server count it as broken
    return Batch(segment, rank_of(segment), offset, offset + end, data[:end])


def parse(data: bytes) -> Tuple[List[Any], int]:
    """Records in `data` (whole lines) and how many lines were broken and left out."""
    records: List[Any] = []
    broken = 0
    for line in _lines(data):
        record = _parse_line(line)
        if record is None:
            broken += 1
        else:
            records.append(record)
    return records, broken


def rank_of(segment: str) -> int:
    """The rank in a segment's name; 0 where the name doesn't tell."""
    head = segment.split("-", 1)[0]
    return int(head) if head.isdigit() else 0


def _lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.split(b"\n") if line)


def _parse_line(line: bytes) -> Optional[List[Any]]:
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, list) and record else None


def _changed_at(folder: str, name: str) -> float:
    try:
        return os.stat(os.path.join(folder, name)).st_mtime
    except OSError:
        return 0.0

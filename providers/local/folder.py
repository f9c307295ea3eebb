"""What is on disk of one local instance, so that any daemon at any time can tell its state.

Files, in the order they come to be: `user-data`, `inventory.json`, `instance.json` (the instance exists from here
on), `life.lock` (held, through an inherited descriptor, by the first process for as long as it lives), `started`
(written by that process itself before it does anything else), `first.json`, and at its end `doomed.json` and
`ended.json`. Each is written whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
PRIVATE_SCRIPT = 0o700


@dataclass(frozen=True)
class Record:
    """`instance.json`: what was asked for. `digest` is over all that a retry must send unchanged."""

    token: str
    provider: str
    tags: Mapping[str, str]
    instance_type: str
    market: str
    launched_at: float
    digest: str


@dataclass(frozen=True)
class Doom:
    """`doomed.json`: the instance ends at `at` (epoch seconds), by SIGTERM first when `gentle`."""

    at: float
    reason: str
    gentle: bool


@dataclass(frozen=True)
class End:
    """`ended.json`: nothing of the instance was left at `at` (epoch seconds)."""

    at: float
    reason: str


class Folder:
    """The files of one instance. Reading methods give None where the file isn't there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def token(self) -> str:
        return self.path.name

    @property
    def console(self) -> Path:
        return self.path / "console.log"

    @property
    def notice(self) -> Path:
        return self.path / "notice.json"

    @property
    def inventory(self) -> Path:
        return self.path / "inventory.json"

    @property
    def user_data(self) -> Path:
        return self.path / "user-data"

    @property
    def started(self) -> Path:
        return self.path / "started"

    @property
    def life_lock(self) -> Path:
        return self.path / "life.lock"

    def record(self) -> Record | None:
        return _read(self.path / "instance.json", Record)

    def write_record(self, record: Record) -> None:
        write_json(self.path / "instance.json", asdict(record))

    def doom(self) -> Doom | None:
        return _read(self.path / "doomed.json", Doom)

    def write_doom(self, doom: Doom) -> None:
        write_json(self.path / "doomed.json", asdict(doom))

    def end(self) -> End | None:
        return _read(self.path / "ended.json", End)

    def write_end(self, end: End) -> None:
        write_json(self.path / "ended.json", asdict(end))

    def first(self) -> tuple[int, int] | None:
        """(pid, start ticks) of the first process, which is also its session."""
        found = _json(self.path / "first.json")
        return None if found is None else (int(found["pid"]), int(found["start_ticks"]))

    def write_first(self, pid: int, start_ticks: int) -> None:
        write_json(self.path / "first.json", {"pid": pid, "start_ticks": start_ticks})

    def is_held(self) -> bool:
        """Whether a process has the life lock: the first, one that inherited it, or one who is starting the first."""
        try:
            descriptor = os.open(self.life_lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared: looking must not look like living to somebody else who looks.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made if missing, never deleted while used); waits for it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    write_whole(path, json.dumps(value, sort_keys=True).encode(), PRIVATE_FILE)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Write aside, flush to the disk, rename into place: a reader sees all of it or the old file."""
    # Two who settle the same instance at once write the same; each needs a file of its own to do it.
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold an object")
    return found


def _read(path: Path, shape: type[T]) -> T | None:
    found = _json(path)
    return None if found is None else shape(**found)

"""One daemon per state folder: flock on a file that is never deleted."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from .failures import StartError


class StateLock:
    """Held from start to exit; the kernel lets go of it however the process ends, kill -9 included.

    The file is never deleted: with it gone, a second daemon would lock a new one beside ours.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1

    def acquire(self) -> None:
        """Raises StartError naming the holder when another daemon has it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = self._holder(handle)
            os.close(handle)
            raise StartError(message) from None
        self._handle = handle
        self.describe(url="")

    def describe(self, url: str) -> None:
        """Write down who holds the lock, for the message that a second daemon prints; nothing where nobody does."""
        if self._handle < 0:
            return
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, text, 0)

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _holder(self, handle: int) -> str:
        try:
            told = json.loads(os.pread(handle, 4096, 0))
        except ValueError:
            told = {}
        url, pid = told.get("url") or "an address it hasn't told yet", told.get("pid", "unknown")
        return (
            f"another hostler runs on {url}, pid {pid}, with the state folder {self._path.parent}; "
            "stop it first, or give this one its own daemon.state in fleet.yaml"
        )

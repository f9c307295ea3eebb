"""A task's output on disk: bounded, never blocking, never failing the task."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

READ_BYTES = 256 * 1024
"""One read of the output pipe: chunks, not lines, are what makes pumping ten times faster."""


class BoundedLog:
    """Keeps the first `head_bytes` and the last `tail_bytes` of what it is given; the gap between is marked.

    The head grows on disk as it comes, so it can be followed. The tail is known only at the end: until then it
    waits in memory.
    """

    def __init__(self, path: Path, head_bytes: int, tail_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._room = head_bytes
        self._tail_bytes = tail_bytes
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left_out = 0

    def write(self, data: bytes) -> None:
        """Take a chunk. A full disk costs output, counted as left out, never an exception."""
        head = data[: self._room] if not self._tail_size else b""
        if head:
            self._room -= len(head)
            self._append(head)
        if len(head) < len(data):
            self._keep(data[len(head) :])

    def finish(self) -> None:
        """Write the mark of the gap and the tail. Nothing may be written after it."""
        tail = b"".join(self._tail)
        over = max(0, len(tail) - self._tail_bytes)
        if self._left_out or over:
            cut = tail.find(b"\n", over) + 1 or over  # begin with a whole line where there is one
            self._left_out += cut
            tail = tail[cut:]
        self._mark()
        self._append(tail)
        self._mark()
        os.close(self._descriptor)

    def _keep(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= self._tail_bytes:
            dropped = len(self._tail.popleft())
            self._tail_size -= dropped
            self._left_out += dropped

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                self._left_out += len(view)
                return

    def _mark(self) -> None:
        if not self._left_out:
            return
        mark = f"\n[hostler] {self._left_out} bytes of output are left out here\n".encode()
        self._left_out = 0
        self._append(mark)

"""The story of a run: every line goes into one digest, the last ones are kept for telling."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from typing import Final

LINES_KEPT: Final = 4_000
WORDS_SHOWN: Final = 300


class Trace:
    """`digest()` of two runs is equal if and only if the same happened at the same times."""

    def __init__(self, clock: Callable[[], float], start: float) -> None:
        self._clock = clock
        self._start = start
        self._hash = hashlib.sha256()
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.count = 0

    def say(self, what: str) -> None:
        line = f"{self._clock() - self._start:10.2f} {what}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self.lines.append(line)
        self.count += 1

    def digest(self) -> str:
        return self._hash.hexdigest()


def short(error: object) -> str:
    """An error, or anything, on one line of a story."""
    name = type(error).__name__ if isinstance(error, BaseException) else ""
    return f"{name} {error}".strip()[:WORDS_SHOWN]

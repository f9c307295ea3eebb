"""Virtual time: what is to happen waits in one line, and time jumps from one to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Work = Callable[[], None]


class VirtualTime:
    """A clock that stands still while things happen. Equal times keep the order in which they were asked for."""

    def __init__(self, start: float) -> None:
        self.now = start
        self._line: list[tuple[float, int, Work]] = []
        self._number = 0

    def __call__(self) -> float:
        return self.now

    def at(self, when: float, work: Work) -> None:
        """Have `work` called at `when`, or now if that is past."""
        self._number += 1
        heapq.heappush(self._line, (max(when, self.now), self._number, work))

    def after(self, seconds: float, work: Work) -> None:
        self.at(self.now + seconds, work)

    def run_until(self, end: float) -> None:
        """Let everything happen that is due up to `end`."""
        while self._line and self._line[0][0] <= end:
            self.now, _, work = heapq.heappop(self._line)
            work()
        self.now = end

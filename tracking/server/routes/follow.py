"""Wakes those who follow a task's log when something came, so that nobody polls fast."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..problems import Problem

FOLLOWERS_MAX = 500


class Followers:
    """Events by task id, set by the routes that take logs in. Used on the event loop only."""

    def __init__(self) -> None:
        self._events: dict[int, set[asyncio.Event]] = {}
        self._count = 0

    @contextmanager
    def of(self, task_id: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever the task's log grows. Raises Problem 503 when too many follow already."""
        if self._count >= FOLLOWERS_MAX:
            raise Problem(
                503,
                "BUSY",
                "too many follow logs already",
                f"{FOLLOWERS_MAX} is the limit",
                "read it in pages",
            )
        event = asyncio.Event()
        self._events.setdefault(task_id, set()).add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
            waiting = self._events[task_id]
            waiting.discard(event)
            if not waiting:
                del self._events[task_id]

    def tell(self, task_id: int) -> None:
        for event in self._events.get(task_id, ()):
            event.set()


def followers_of(app: Any) -> Followers:
    followers = getattr(app.state, "log_followers", None)
    if not isinstance(followers, Followers):
        followers = app.state.log_followers = Followers()
    return followers

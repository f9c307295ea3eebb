"""What agents report is worked on a few at a time; who would wait too long is told at once to come back.

After an outage ten thousand agents report in the same second. Worked on all together, each would be answered when all
are done, long after it gave up and asked again, and nobody would ever be served. A few at a time, the first ones are
done while the rest are spread over the next seconds. What people ask for, and polls that only wait, stand in no line.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from ...agent_bootstrap import wire
from ...tracking import wire as record_wire
from ...tracking.server.problems import Problem

AT_ONCE_MAX: Final = 64
"""Requests worked on together: enough for the writer to commit them in groups."""
WAITING_MAX: Final = 512
WAIT_SECONDS_MAX: Final = 2.0
"""Agents give a heartbeat up after 0.3 TTL, at most 10 s: the answer must come well before."""
RETRY_AFTER_SECONDS_MAX: Final = 10
_IN_LINE: Final = (wire.PREFIX + "/", record_wire.PREFIX + "/tasks/")
_STREAMED: Final = "/blobs/"


class Admission:
    """ASGI middleware. Those refused are spread by chance over the next RETRY_AFTER_SECONDS_MAX seconds."""

    def __init__(self, app: ASGIApp, rng: random.Random | None = None) -> None:
        self._app = app
        self._rng = rng or random.Random()  # noqa: S311  spreads load, guards nothing
        self._room = asyncio.Semaphore(AT_ONCE_MAX)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _stands_in_line(scope["path"]):
            await self._app(scope, receive, send)
        elif await self._enter():
            try:
                await self._app(scope, receive, send)
            finally:
                self._room.release()
        else:
            await self._refusal().response()(scope, receive, send)

    async def _enter(self) -> bool:
        if self._waiting >= WAITING_MAX:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                return await self._room.acquire()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1

    def _refusal(self) -> Problem:
        problem = Problem(
            503,
            "BUSY",
            "Too many agents report at once",
            hint="send it again after the seconds in Retry-After",
        )
        problem.headers = {"Retry-After": str(self._rng.randint(1, RETRY_AFTER_SECONDS_MAX))}
        return problem


def _stands_in_line(path: str) -> bool:
    """Short requests of agents and tasks. A lease poll mostly waits, a blob takes as long as its bytes."""
    return path.startswith(_IN_LINE) and path != wire.LEASE and _STREAMED not in path

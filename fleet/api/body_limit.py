"""A cap on request bodies, counted while they stream in: nothing is buffered to find out that it is too much."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...agent_bootstrap import wire
from ...tracking.journal import RECORD_BYTES_MAX
from ...tracking.server.problems import Problem, too_large
from ...tracking.wire import BLOB_BYTES_MAX, JOURNAL_BATCH_BYTES
from ...tracking.wire import PREFIX as RECORD_PREFIX

AGENT_BODY_BYTES_MAX = 1024 * 1024
"""What an agent says of itself is small; its logs and files go to the record."""
RECORD_BODY_BYTES_MIN = RECORD_BYTES_MAX + JOURNAL_BATCH_BYTES + 1024
"""What a log chunk or a journal batch may come to: a smaller `max_body` must not cost tasks their record."""
_BLOB = re.compile(r"/api/v1/(blobs/[^/]+|record/tasks/[^/]+/[^/]+/blobs/[^/]+)")
"""Routes that stream their body to disk and verify it; everything else is read into memory."""


class BodyLimit:
    """ASGI middleware. `max_bytes` is asked at each request, so that a new configuration holds at once."""

    def __init__(self, app: ASGIApp, max_bytes: Callable[[], int]) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        if _declared(scope) > limit:
            await _refusal(limit).response()(scope, receive, send)
            return
        counted = _Counted(receive, send, limit)
        try:
            await self._app(scope, counted.receive, counted.send)
        except Exception:
            if not counted.exceeded:
                raise
        if counted.exceeded and not counted.started:
            await _refusal(limit).response()(scope, receive, send)

    def _limit(self, path: str) -> int:
        if _BLOB.fullmatch(path):
            return BLOB_BYTES_MAX
        if path.startswith(wire.PREFIX + "/"):
            return min(AGENT_BODY_BYTES_MAX, self._max_bytes())
        if path.startswith(RECORD_PREFIX + "/"):
            return max(RECORD_BODY_BYTES_MIN, self._max_bytes())
        return self._max_bytes()


def _refusal(limit: int) -> Problem:
    problem = too_large("the body of this request", limit)
    problem.headers = {"Connection": "close"}  # the rest of the body is never read
    return problem


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


class _Counted:
    """One request's channel. Past the limit the application sees a disconnect, and what it says then is dropped."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._left = receive, send, limit
        self.exceeded = False
        self.started = False

    async def receive(self) -> Message:
        if self.exceeded:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self.exceeded = True
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if self.exceeded and not self.started:
            return
        self.started = True
        await self._send(message)

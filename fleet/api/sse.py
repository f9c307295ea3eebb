"""Server-sent events: one wake-up from the database for all who listen, and each reads at its own pace.

Nothing is queued for a client. It reads on from the last event it was sent, so that a slow one costs no
memory: when its connection takes nothing for a while it is closed, and it resumes with Last-Event-ID.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from sse_starlette import EventSourceResponse, ServerSentEvent

from ...tracking.server.problems import Problem

PING_SECONDS: Final = 15
"""A comment this often keeps proxies from closing a quiet stream."""
SEND_TIMEOUT_SECONDS: Final = 30.0
"""A client that takes nothing for this long is disconnected; it can resume."""
REREAD_SECONDS: Final = 5.0
"""Also without a wake-up: another server on the same database may have written."""


class EventHub:
    """Wakes every open stream when events were committed. `changed` may be called on any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[asyncio.Event] = set()
        self.polls: set[asyncio.Future[Any]] = set()
        """Long polls held open; cancelled when the daemon stops, so that their agents get an answer."""
        self.closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which event loop the streams live on; called once, on it, at start."""
        self._loop = loop

    def changed(self) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        with contextlib.suppress(RuntimeError):  # closed between the question and the call: nobody listens
            loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End every stream and poll: the daemon stops. Called on the event loop."""
        self.closed = True
        self._wake()
        for poll in self.polls:
            poll.cancel()

    @property
    def listeners(self) -> int:
        """How many listen now: open streams, and the announcer of arrivals."""
        return len(self._listeners)

    @contextlib.contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    def _wake(self) -> None:
        for event in self._listeners:
            event.set()


async def wait_for_change(event: asyncio.Event) -> None:
    """Until `event` is set or it's time to look again."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), REREAD_SECONDS)


def streamed(content: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    """The answer of every stream route."""
    return EventSourceResponse(content, ping=PING_SECONDS, send_timeout=SEND_TIMEOUT_SECONDS, sep="\n")


def last_event_id(header: str | None, default: int) -> int:
    """The event to go on after. Raises Problem 400 when the client made its own."""
    if header is None or not header.strip():
        return default
    if not header.strip().isdigit():
        raise Problem(
            400,
            "BAD_LAST_EVENT_ID",
            "This Last-Event-ID is not one of ours",
            detail=f"it is {header[:64]!r} and not a number",
            hint="send the `id:` of the last event you got, or leave the header out to begin with the next one",
        )
    return int(header)

"""Idempotency-Key: a POST that is sent again answers what it answered the first time.

The key, a hash of the request and the answer are kept for 24 hours. What failed is not kept: it changed
nothing, so that the same key may be tried again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...agent_bootstrap import wire as agent_wire
from ...tracking import wire as record_wire
from ...tracking.server.database import DatabaseClosed, StorageFull, WriterBusy
from ...tracking.server.database.schema import idempotency
from ...tracking.server.problems import RETRY_AFTER_SECONDS, Problem
from .state import AppState

HEADER: Final = "idempotency-key"
REPLAYED_HEADER: Final = b"idempotency-replayed"
KEEP_SECONDS: Final = 24 * 3600.0
UNDER_WAY_SECONDS: Final = 60.0
"""An answer still missing after this long never comes: the daemon died on it. The key may be used again."""
KEY_CHARACTERS_MAX: Final = 128
ANSWER_BYTES_MAX: Final = 256 * 1024
_KEPT_HEADERS: Final = ("content-type", "etag", "location")
_OWN_WAY: Final = (agent_wire.PREFIX + "/", record_wire.PREFIX + "/")
"""Agents and the record have generations, uids and offsets for this; their answers may hold fresh secrets."""

_NOT_NOW: Final = (StorageFull, WriterBusy, DatabaseClosed)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept answer."""

    status: int
    headers: Mapping[str, str]
    body: str


def claim(conn: Connection, workspace: str, key: str, request_hash: str, now: float) -> Kept | None:
    """Take `key` for this request (None), or give the answer it had. Raises Problem 409 or 422."""
    where = (idempotency.c.workspace == workspace) & (idempotency.c.key == key)
    row = conn.execute(select(idempotency).where(where)).first()
    if row is not None and _is_over(row.status, row.created_at, now):
        conn.execute(delete(idempotency).where(where))
        row = None
    if row is None:
        values = {"workspace": workspace, "key": key, "request_hash": request_hash, "created_at": now}
        conn.execute(insert(idempotency).values(values))
        return None
    if row.request_hash != request_hash:
        raise _mismatch(key)
    if row.status is None:
        raise _under_way(key)
    return Kept(row.status, row.response["headers"], row.response["body"])


def keep(conn: Connection, workspace: str, key: str, answer: Kept) -> None:
    """Write down the answer of a claimed key."""
    response = {"headers": dict(answer.headers), "body": answer.body}
    where = (idempotency.c.workspace == workspace) & (idempotency.c.key == key)
    conn.execute(update(idempotency).where(where).values(status=answer.status, response=response))


def forget(conn: Connection, workspace: str, key: str) -> None:
    """Give a key back whose request failed."""
    where = (idempotency.c.workspace == workspace) & (idempotency.c.key == key)
    conn.execute(delete(idempotency).where(where, idempotency.c.status.is_(None)))


def prune(conn: Connection, now: float) -> int:
    """Delete what is older than 24 hours; how many there were."""
    return conn.execute(delete(idempotency).where(idempotency.c.created_at < now - KEEP_SECONDS)).rowcount


def _is_over(status: int | None, created_at: float, now: float) -> bool:
    return created_at < now - (UNDER_WAY_SECONDS if status is None else KEEP_SECONDS)


def _mismatch(key: str) -> Problem:
    return Problem(
        422,
        "IDEMPOTENCY_MISMATCH",
        "This Idempotency-Key came with another request before",
        detail=f"key {key!r} was used for a different method, path or body within the last 24 hours",
        hint="send a new key with each new request; keep the key only to repeat the same one",
    )


def _under_way(key: str) -> Problem:
    return Problem(
        409,
        "IDEMPOTENCY_IN_PROGRESS",
        "The first request with this Idempotency-Key is still under way",
        detail=f"key {key!r} has no answer yet",
        hint="wait a second and send the same request again",
    )


def _bad_key() -> Problem:
    return Problem(
        400,
        "BAD_IDEMPOTENCY_KEY",
        "This Idempotency-Key can't be used",
        detail=f"it must have 1 to {KEY_CHARACTERS_MAX} printable ASCII characters",
        hint="send a UUID",
    )


def _unavailable(error: Exception) -> Problem:
    return Problem(
        503,
        "STORAGE_FULL" if isinstance(error, StorageFull) else "BUSY",
        "The server can't write just now",
        detail=f"nothing of this request was stored: {error}",
        hint="send the same request with the same key again a little later",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


class Idempotency:
    """ASGI middleware inside the gate (it needs to know the workspace) and inside the body limit."""

    def __init__(self, app: ASGIApp, state: AppState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self._key(scope)
        if key is None:
            await self._app(scope, receive, send)
            return
        if not (0 < len(key) <= KEY_CHARACTERS_MAX and key.isascii() and key.isprintable()):
            await _bad_key().response()(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:
            return
        try:
            kept = await self._claim(scope, key, _hash_of(scope, body))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except _NOT_NOW as error:
            await _unavailable(error).response()(scope, receive, send)
            return
        if kept is not None:
            await _replay(send, kept)
            return
        await self._answer(scope, _Replay(body, receive), send, key)

    def _key(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].startswith(_OWN_WAY):
            return None
        return Headers(scope=scope).get(HEADER)

    async def _claim(self, scope: Scope, key: str, request_hash: str) -> Kept | None:
        workspace, now = scope["state"]["principal"].workspace, self._state.clock()
        kept: Kept | None = await self._state.database.write_async(
            lambda conn: claim(conn, workspace, key, request_hash, now)
        )
        return kept

    async def _answer(self, scope: Scope, replay: _Replay, send: Send, key: str) -> None:
        """Run the request; keep a 2xx answer before its last byte goes out, give the key back otherwise."""
        workspace, recorder = scope["state"]["principal"].workspace, _Recorder(send)
        answer: Kept | None = None
        try:
            await self._app(scope, replay.receive, recorder.send)
            answer = recorder.answer()
        finally:
            await self._settle(workspace, key, answer)
        await recorder.flush()

    async def _settle(self, workspace: str, key: str, answer: Kept | None) -> None:
        """What can't be written down is repeated by a retry: by then the task's uid, made of the key, is known."""
        try:
            if answer is None:
                await self._state.database.write_async(lambda conn: forget(conn, workspace, key))
            else:
                await self._state.database.write_async(lambda conn: keep(conn, workspace, key, answer))
        except _NOT_NOW:
            _log.warning("the answer under an Idempotency-Key could not be kept", exc_info=True)


class _Replay:
    """The body again for the application; after it what the client really does."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def receive(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Recorder:
    """Holds the answer back until it is kept: told but not kept would be repeated by the client's retry."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self._messages.append(message)

    def answer(self) -> Kept | None:
        """The whole answer if it is worth keeping: success, and not larger than we keep."""
        if not self._messages:
            return None
        start = self._messages[0]
        body = b"".join(message.get("body", b"") for message in self._messages[1:])
        if not 200 <= start["status"] < 300 or len(body) > ANSWER_BYTES_MAX:
            return None
        headers = Headers(raw=start["headers"])
        chosen = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
        return Kept(start["status"], chosen, body.decode("utf-8", "replace"))

    async def flush(self) -> None:
        for message in self._messages:
            await self._send(message)


async def _whole_body(receive: Receive) -> bytes | None:
    """None when the client went away (or the body limit cut it off) before the end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _hash_of(scope: Scope, body: bytes) -> str:
    # Who asks is part of it: one person's answer is not for another's eyes.
    who = scope["state"]["principal"].actor
    line = json.dumps([who, scope["method"], scope["path"], scope["query_string"].decode("latin-1")])
    return hashlib.sha256(line.encode() + b"\n" + body).hexdigest()


async def _replay(send: Send, kept: Kept) -> None:
    body = kept.body.encode()
    headers = [(name.encode(), value.encode("latin-1")) for name, value in kept.headers.items()]
    headers += [(b"content-length", str(len(body)).encode()), (REPLAYED_HEADER, b"true")]
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def uid_of_key(workspace: str, key: str) -> str:
    """The uid of a task submitted with `key` and no uid of its own.

    So a kill between the task's commit and the answer's still can't make a repeated submit a second task.
    """
    return "key-" + hashlib.sha256(f"{workspace}\n{key}".encode()).hexdigest()[:48]

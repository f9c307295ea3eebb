"""How agents reach the server: its own route functions called straight, or all of the ASGI application in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from ...agent_bootstrap import wire
from ...tracking.server.access import Principal, tokens
from ...tracking.server.problems import Problem
from ..api import agents as routes
from ..api.app import create_app
from ..api.state import AppState
from ..queue import QueueError

Body = dict[str, Any]


class Refused(Exception):
    """The server answered with an error. 409 and 401 are final for what was asked, 5xx asks for patience."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class Door(Protocol):
    """`post` as the agent's client does it: a path of `wire`, a bearer secret, a message; the reply, or Refused."""

    def post(self, path: str, secret: str, body: Body) -> Body: ...

    def close(self) -> None: ...


class _Asked:
    """As much of a request as routes look at."""

    def __init__(self, secret: str) -> None:
        self.headers = {"authorization": f"Bearer {secret}"}

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()  # the client stays until it has its answer
        raise AssertionError


class RouteDoor:
    """Authentication and the route function itself; no JSON, no middleware: fifty times as fast as the whole."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._loop = asyncio.new_event_loop()

    def post(self, path: str, secret: str, body: Body) -> Body:
        try:
            reply = self._loop.run_until_complete(self._route(path, secret, body))
        except Problem as problem:
            raise Refused(problem.status, problem.code) from None
        except QueueError as error:
            raise Refused(409, error.code) from None
        except Exception as error:
            # What the application answers with 500 or 503.
            raise Refused(503, type(error).__name__) from error
        return dict(reply)

    def close(self) -> None:
        self._loop.close()

    def _route(self, path: str, secret: str, body: Body) -> Awaitable[Any]:
        asked: Any = _Asked(secret)
        message: Any = body
        if path == wire.JOIN:
            return routes.join(asked, self._state, message)
        if path == wire.FAILED:
            return routes.bootstrap_failed(asked, self._state, message)
        agent = routes._agent(self._who(secret))
        if path == wire.HEARTBEAT:
            return routes.heartbeat(self._state, agent, message)
        if path == wire.LEASE:
            return routes.lease(asked, self._state, agent, message)
        if path == wire.NOTICE:
            return routes.notice(self._state, agent, message)
        if path == wire.LEAVE:
            return routes.leave(self._state, agent)
        task_id, generation, verb = path.removeprefix(wire.PREFIX + "/tasks/").split("/")
        if verb == "started":
            return routes.started(int(task_id), int(generation), self._state, agent)
        return routes.result(int(task_id), int(generation), self._state, agent, message)

    def _who(self, secret: str) -> Principal:
        with self._state.database.read() as conn:
            found = tokens.authenticate(conn, secret, self._state.clock())
        if found is None:
            raise Problem(401, "UNAUTHENTICATED", "who are you?")
        return found


CONTENT: Final = (b"content-type", b"application/json")


class ApplicationDoor:
    """The whole application: middleware, authentication, validation, JSON both ways. No socket."""

    def __init__(self, state: AppState) -> None:
        self._app = create_app(state)
        self._loop = asyncio.new_event_loop()

    def post(self, path: str, secret: str, body: Body) -> Body:
        status, data = self._loop.run_until_complete(self._ask(path, secret, json.dumps(body).encode()))
        reply = json.loads(data or b"{}")
        if status >= 400:
            raise Refused(status, str(reply.get("code", "")))
        return dict(reply)

    def close(self) -> None:
        self._loop.close()

    async def _ask(self, path: str, secret: str, data: bytes) -> tuple[int, bytes]:
        headers = [(b"authorization", f"Bearer {secret}".encode()), CONTENT]
        headers.append((b"content-length", str(len(data)).encode()))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("192.0.2.1", 40_000),
            "server": ("hostler", 80),
        }
        given = [{"type": "http.request", "body": data, "more_body": False}]
        out: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not given:
                await asyncio.Event().wait()
            return given.pop()

        async def send(message: Any) -> None:
            out.append(message)

        try:
            await self._app(scope, receive, send)
        except Exception:
            # Starlette answers 500 and raises again, for the server's log.
            if not out:
                raise
        return int(out[0]["status"]), b"".join(one.get("body", b"") for one in out[1:])


def door_of(state: AppState, *, whole: bool) -> Door:
    """`whole`: through the application; else straight to the routes."""
    return ApplicationDoor(state) if whole else RouteDoor(state)

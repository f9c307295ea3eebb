"""The gate: every path but the health ones needs a token, also those that don't exist and the OpenAPI document.

It stands before the router, so that a route added later can't forget it.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ...agent_bootstrap import wire
from ...tracking.server.access import principal
from ...tracking.server.problems import Problem

OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
JOIN_TOKEN_PATHS: Final = frozenset({wire.JOIN, wire.ZIPAPP, wire.FAILED})
"""A machine that has not joined yet shows its join token there; those routes check it themselves."""


class Gate:
    """ASGI middleware; puts the Principal under `scope["state"]["principal"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS | JOIN_TOKEN_PATHS:
            try:
                who = await principal(Request(scope))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = who
        await self._app(scope, receive, send)

"""The API as one ASGI application: routers, the gate and the limits around them, problems instead of errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from ...config import TaskSpec
from ...tracking.server import problems
from ...tracking.server.problems import Problem
from ...tracking.server.routes import router as record_router
from ..queue import QueueError, Stale, UnknownQueue, UnknownTask
from . import (
    agents,
    config,
    decisions,
    doctor,
    events,
    health,
    instances,
    offers,
    pools,
    queues,
    status,
    tasks,
)
from .admission import Admission
from .announcer import announce_arrivals
from .body_limit import BodyLimit
from .gate import Gate
from .idempotency import Idempotency
from .state import AppState

OPENAPI_PATH: Final = "/api/v1/openapi.json"
_ROUTERS: Final = tuple(
    module.router
    for module in (
        tasks,
        queues,
        pools,
        instances,
        events,
        decisions,
        config,
        status,
        doctor,
        offers,
        agents,
        health,
    )
)
_STATUS_OF: Final = {Stale: 409, UnknownTask: 404, UnknownQueue: 422}


def create_app(state: AppState) -> FastAPI:
    """The application over `state`. Every path but /livez and /readyz wants a bearer token."""
    app = FastAPI(
        title="hostler",
        version=state.version,
        summary="Training tasks on a fleet that grows and shrinks by itself, and the record of what they did.",
        openapi_url=OPENAPI_PATH,
        docs_url=None,  # their pages load scripts from other hosts
        redoc_url=None,
        lifespan=_lifespan,
        middleware=[
            Middleware(Admission),
            Middleware(Gate),
            Middleware(BodyLimit, max_bytes=lambda: state.config.fleet.daemon.max_body),
            Middleware(Idempotency, state=state),
        ],
    )
    # The record's routes read these by name.
    app.state.database, app.state.clock = state.database, state.clock
    app.state.blobs, app.state.settings = state.blobs, state.config
    app.state.hostler = state
    problems.install(app)
    app.add_exception_handler(QueueError, _on_queue_error)
    for router in (*_ROUTERS, record_router):
        app.include_router(router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: AppState = app.state.hostler
    state.hub.attach(asyncio.get_running_loop())
    forget = state.database.events_changed.subscribe(state.hub.changed)
    announcing = asyncio.create_task(announce_arrivals(state))
    try:
        yield
    finally:
        forget()
        state.hub.close()
        announcing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await announcing


async def _on_queue_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueError)
    status_code = next((code for kind, code in _STATUS_OF.items() if isinstance(error, kind)), 409)
    return Problem(status_code, error.code, error.message, hint=error.hint).response()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the keys of task.yaml in it and the token that every path wants."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        parts = document.setdefault("components", {})
        schemas = parts.setdefault("schemas", {})
        spec = TaskSpec.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= spec.pop("$defs", {}) | {"TaskSpec": spec}
        schemas["Submit"]["properties"]["spec"] = {"$ref": "#/components/schemas/TaskSpec"}
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/livez", "/readyz"):
            document["paths"][path]["get"]["security"] = []
        app.openapi_schema = document
    return app.openapi_schema

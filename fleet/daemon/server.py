"""uvicorn on our own socket, with signals left to us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI

from ...config.daemon import Tls

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than an agent's long poll, so that its connection is there for the next one."""
WAITING_CONNECTIONS: Final = 2048


class ApiServer(uvicorn.Server):
    """Ends when told by `stop`; uvicorn's own handlers would end the process with the signal's code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Take no new connections, let requests under way finish, then return from `serve`."""
        self.should_exit = True


def api_server(app: FastAPI, tls: Tls | None, grace_seconds: float) -> ApiServer:
    """A server for `app`; requests still under way `grace_seconds` after `stop` are cut off."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace_seconds)),
        backlog=WAITING_CONNECTIONS,
        server_header=False,
        date_header=False,
        ssl_certfile=None if tls is None else str(tls.cert),
        ssl_keyfile=None if tls is None else str(tls.key),
        proxy_headers=False,
    )
    return ApiServer(config)

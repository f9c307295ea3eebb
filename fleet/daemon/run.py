"""`run`: start, serve until told to stop, end in order. kill -9 at any moment is harmless: see what each part keeps."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ...config import ConfigError
from ..api.app import create_app
from ..loop.schedule import OFFERS_EVERY_SECONDS
from . import logs, signals
from .assemble import Parts, assemble
from .client_file import write_client_file
from .failures import StartError
from .paths import client_file_path
from .server import ApiServer, api_server

EXIT_OK: Final = 0
EXIT_CANNOT_START: Final = 1
EXIT_BAD_CONFIG: Final = 2
STARTED_LOOK_SECONDS: Final = 0.01

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """What is known once the daemon serves."""

    url: str
    token_file: Path


Ready = Callable[[Started], None]


def run(config_path: Path, *, ready: Ready | None = None, log_level: str = "INFO") -> int:
    """Run the daemon in the foreground; the process's exit code. `ready` is called once it serves.

    SIGTERM or SIGINT: stop in order (instances stay as they are and are adopted at the next start). SIGHUP: read
    the configuration again.
    """
    logs.set_up(log_level)
    try:
        with ExitStack() as stack:
            parts = assemble(config_path, stack)
            return asyncio.run(_serve(parts, ready))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_CONFIG
    except StartError as error:
        sys.stderr.write(f"hostler: {error}\n")
        return EXIT_CANNOT_START


async def _serve(parts: Parts, ready: Ready | None) -> int:
    daemon = parts.base.settings.fleet.daemon
    server = api_server(create_app(parts.state), daemon.tls, daemon.shutdown_grace)
    signals.listen(
        asyncio.get_running_loop(),
        stop=lambda name: _stop(parts, server, name),
        reload=lambda: _reload_aside(parts),
    )
    serving = asyncio.create_task(server.serve(sockets=[parts.base.listener]))
    try:
        await _until_started(server, serving)
        parts.leadership.begin(parts.sweeps, OFFERS_EVERY_SECONDS)
        _announce(parts, ready)
        await serving
    finally:
        parts.notifier.stopping()
        parts.state.hub.close()
        server.stop()
        await asyncio.wait([serving])
        await _end_loop(parts, daemon.shutdown_grace)
    _log.info("daemon.stopped")
    return EXIT_OK


async def _until_started(server: ApiServer, serving: asyncio.Task[None]) -> None:
    while not server.started:
        if serving.done():
            serving.result()
            raise StartError("the API could not be started; the log above says why")
        await asyncio.sleep(STARTED_LOOK_SECONDS)


def _announce(parts: Parts, ready: Ready | None) -> None:
    """Tell everyone who waits for us: the CLI by its file, a person by one line, systemd by its socket."""
    base = parts.base
    base.lock.describe(base.local_url)
    client_file = client_file_path()
    try:
        write_client_file(client_file, url=base.local_url, token_file=base.paths.admin_token)
    except OSError as error:
        _log.warning("client_file.failed", path=str(client_file), error=str(error))
    sys.stdout.write(f"hostler serves {base.local_url}, token in {base.paths.admin_token}\n")
    sys.stdout.flush()
    parts.notifier.ready(f"serves {base.local_url}", base.settings.fleet.daemon.tick)
    if ready is not None:
        ready(Started(base.local_url, base.paths.admin_token))


def _stop(parts: Parts, server: ApiServer, name: str) -> None:
    _log.info("daemon.stopping", signal=name)
    parts.notifier.stopping()
    if server.should_exit:
        server.force_exit = True  # asked twice: don't wait for requests under way
    parts.state.hub.close()
    server.stop()


def _reload_aside(parts: Parts) -> None:
    """Off the event loop: it reads a file and may open connections to clouds."""
    threading.Thread(target=_reload, args=(parts,), name="hostler-reload", daemon=True).start()


def _reload(parts: Parts) -> None:
    parts.notifier.reloading()
    try:
        changes = parts.base.settings.reload()
        _log.info("config.reloaded", changes=len(changes), differences=list(changes))
    except ConfigError as error:
        _log.error("config.refused", problems=[str(one) for one in error.problems])
    finally:
        daemon = parts.base.settings.fleet.daemon
        parts.notifier.ready(f"serves {parts.base.local_url}", daemon.tick)


async def _end_loop(parts: Parts, grace_seconds: float) -> None:
    """Let the tick under way finish. One stuck in a cloud's call is left behind, as a crash would leave it."""
    ending = threading.Thread(
        target=lambda: parts.leadership.stop(wait=True), name="hostler-stop", daemon=True
    )
    ending.start()
    await asyncio.to_thread(ending.join, grace_seconds)
    if ending.is_alive():
        _log.warning("daemon.left_a_tick_behind", grace_seconds=grace_seconds)
        with contextlib.suppress(Exception):
            parts.base.database.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_OK)

"""Every part of the daemon, made once and handed to those who need it."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ... import __version__
from ...agent_bootstrap.package import build_zipapp
from ...tracking.server.blobs import Blobs
from ..api.state import AppState, Zipapp
from ..loop.context import Context
from ..loop.schedule import Schedule, Sweep
from ..queue import Dispatcher
from ..store import leader
from . import foundation, secrets
from .boot_script import BootScript, ca_pem
from .checks import OwnChecks
from .counted import Count, LiveProviders
from .foundation import Foundation
from .housekeeping import EVERY_SECONDS, Housekeeping
from .notify import Notifier
from .ticks import AfterTick

CLOUD_CALL_THREADS: Final = 32
"""Calls to clouds under way at once; an adapter bounds its own further down."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A daemon that is put together but not started."""

    base: Foundation
    state: AppState
    schedule: Schedule
    sweeps: tuple[Sweep, ...]
    notifier: Notifier


def assemble(config_path: Path, stack: ExitStack) -> Parts:
    """Raises ConfigError and StartError. What holds a resource is on `stack`, to be undone in reverse."""
    base = foundation.lay(config_path, stack)
    state = _state(base)
    notifier = Notifier()
    context = _context(base, state, stack.enter_context(_call_threads()))
    schedule = Schedule(context, AfterTick(state, notifier))
    state.wake_loop = schedule.wake
    base.settings.on_change(schedule.reload)
    sweep = Sweep("housekeeping", EVERY_SECONDS, Housekeeping(base.database, state.blobs, base.clock))
    return Parts(base, state, schedule, (sweep,), notifier)


def _state(base: Foundation) -> AppState:
    return AppState(
        database=base.database,
        clock=base.clock,
        config=base.settings,
        blobs=Blobs(base.paths.blobs, base.database),
        dispatcher=Dispatcher(),
        zipapp=Zipapp.of(build_zipapp()),
        server_id=base.server_id,
        version=__version__,
        wake_loop=lambda: None,  # until there is a loop
        own_checks=OwnChecks(base.database, base.settings, base.paths, base.url),
        started_at=base.clock(),
    )


def _context(base: Foundation, state: AppState, calls: ThreadPoolExecutor) -> Context:
    settings, now = base.settings, base.clock()
    holder = f"{socket.gethostname()}:{os.getpid()}"
    # Agents are not woken from here: what drains and what comes back writes events, and those wake them.
    return Context(
        db=base.database,
        fleet=lambda: settings.fleet,
        providers=LiveProviders(settings.providers, _counter(state)),
        clock=base.clock,
        rng=random.SystemRandom(),
        server_id=base.server_id,
        epoch=base.database.write(lambda conn: leader.take(conn, holder, now)),
        calls=calls,
        render_user_data=BootScript(
            lambda: settings.fleet, base.url, state.zipapp.sha256, ca_pem(settings.fleet)
        ),
        join_token=lambda instance_id: secrets.join_token(base.key, instance_id),
        started_at=state.started_at,
    )


def _counter(state: AppState) -> Count:
    def count(provider: str, code: str) -> None:
        state.metrics.provider_errors.labels(provider, code).inc()

    return count


@contextmanager
def _call_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls to clouds; a call that hangs at the end is left behind, as a crash would leave it."""
    calls = ThreadPoolExecutor(CLOUD_CALL_THREADS, thread_name_prefix="hostler-call")
    try:
        yield calls
    finally:
        calls.shutdown(wait=False, cancel_futures=True)

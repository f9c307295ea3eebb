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
from ..observer.identity import IdentityGate
from ..queue import Dispatcher
from . import foundation, secrets
from .boot_script import BootScript, ca_pem
from .checks import OwnChecks
from .counted import Count, LiveProviders
from .foundation import Foundation
from .housekeeping import EVERY_SECONDS, Housekeeping
from .leadership import Leadership, ttl_of
from .notify import Notifier
from .ticks import AfterTick

CLOUD_CALL_THREADS: Final = 32
"""Calls to clouds under way at once; an adapter bounds its own further down."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A daemon that is put together but not started."""

    base: Foundation
    state: AppState
    leadership: Leadership
    sweeps: tuple[Sweep, ...]
    notifier: Notifier


def assemble(config_path: Path, stack: ExitStack) -> Parts:
    """Raises ConfigError and StartError. What holds a resource is on `stack`, to be undone in reverse."""
    base = foundation.lay(config_path, stack)
    state = _state(base)
    notifier = Notifier()
    calls = stack.enter_context(_call_threads())

    after_tick = AfterTick(state, notifier)

    def loop(epoch: int) -> Schedule:
        return Schedule(_context(base, state, calls, epoch), after_tick)

    leadership = Leadership(
        base.database,
        f"{socket.gethostname()}:{os.getpid()}",
        loop,
        ttl_seconds=ttl_of(base.settings.fleet.daemon.lease_ttl),
        following=after_tick.following,
    )
    state.wake_loop = leadership.wake
    base.settings.on_change(leadership.reload)
    sweep = Sweep("housekeeping", EVERY_SECONDS, Housekeeping(base.database, state.blobs, base.clock))
    return Parts(base, state, leadership, (sweep,), notifier)


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
        identity=IdentityGate(base.url),
    )


def _context(base: Foundation, state: AppState, calls: ThreadPoolExecutor, epoch: int) -> Context:
    settings = base.settings
    # Agents are not woken from here: what drains and what comes back writes events, and those wake them.
    return Context(
        db=base.database,
        fleet=lambda: settings.fleet,
        providers=LiveProviders(settings.providers, _counter(state)),
        clock=base.clock,
        rng=random.SystemRandom(),
        server_id=base.server_id,
        epoch=epoch,
        calls=calls,
        render_user_data=BootScript(
            lambda: settings.fleet, base.url, state.zipapp.sha256, ca_pem(settings.fleet)
        ),
        join_token=lambda instance_id: secrets.join_token(base.key, instance_id),
        # Agents must have had one lease's time to find the new leader before any of them is given up.
        started_at=base.clock(),
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

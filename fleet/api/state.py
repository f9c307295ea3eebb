"""What the routes work with; put together by the daemon (or a test) and handed to `create_app`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request  # FastAPI resolves the annotation at run time

from ...config import FleetConfig
from ...providers.base import Check, Provider
from ...tracking.server.blobs import Blobs
from ...tracking.server.database import Database
from ..observer.identity import IdentityGate
from ..queue import Dispatcher
from .metrics import Metrics
from .pulse import Pulse
from .sse import EventHub

Clock = Callable[[], float]
"""Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Zipapp:
    """The agent as served to machines; built once, so that each gets the same bytes."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> Zipapp:
        return cls(data, hashlib.sha256(data).hexdigest())


class LiveConfig(Protocol):
    """The configuration in force. It is replaced as a whole; whoever reads `fleet` twice may see two."""

    @property
    def fleet(self) -> FleetConfig: ...

    @property
    def source(self) -> str:
        """Where it came from: a path, or who applied it."""
        ...

    @property
    def loaded_at(self) -> float: ...

    def apply(self, text: str, source: str) -> Sequence[str]:
        """Put a new one in force and tell the differences. Raises ConfigError and changes nothing."""
        ...

    def providers(self) -> Mapping[str, Provider]:
        """The clouds of the configuration in force, ready to be called."""
        ...

    def broken_providers(self) -> Mapping[str, str]:
        """Those that couldn't be made (a missing library), with what to do."""
        ...


@dataclass(slots=True)
class AppState:
    """One server's parts. `wake_loop` asks for a tick now and returns at once."""

    database: Database
    clock: Clock
    config: LiveConfig
    blobs: Blobs
    dispatcher: Dispatcher
    zipapp: Zipapp
    server_id: str
    version: str
    wake_loop: Callable[[], None]
    own_checks: Callable[[], Sequence[Check]] = tuple
    """What the daemon itself looks at for `hostler doctor`; may block."""
    identity: IdentityGate = field(default_factory=lambda: IdentityGate(""))
    """What checks the clouds' signed identities at the join."""
    started_at: float = 0.0
    metrics: Metrics = field(default_factory=Metrics)
    pulse: Pulse = field(default_factory=Pulse)
    hub: EventHub = field(default_factory=EventHub)


def state_of(request: Request) -> AppState:
    """FastAPI dependency."""
    state: AppState = request.app.state.hostler
    return state

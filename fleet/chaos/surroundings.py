"""What a machine and the world around it have to do with each other: runs, their fates, and who is asked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

from ...agent_bootstrap import wire
from .clock import VirtualTime
from .ledger import Machine
from .weather import Weather


class Unreachable(Exception):
    """No answer came; what was asked may have been done all the same."""


class Around(Protocol):
    """What a machine is in: the server (if it is up), its cloud, the book of runs."""

    time: VirtualTime
    weather: Weather

    def post(self, machine: Machine, path: str, secret: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the server. Raises Unreachable, Refused."""

    def end(self, machine: Machine, why: str, *, silently: bool = False) -> None: ...

    def shut_down(self, machine: Machine, why: str) -> None: ...

    def fate_of(self, lease: wire.Lease, rng: random.Random) -> Fate: ...

    def say(self, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Fate:
    """How a run ends if nothing interferes: after so long, with this outcome; `takes_machine`: and all with it."""

    seconds: float
    outcome: str
    exit_code: int | None
    takes_machine: bool = False


@dataclass(slots=True)
class Run:
    lease: wire.Lease
    until: float
    """Without another renewal it is dead by then."""
    began: float
    alive: bool = True
    result: wire.Result | None = None
    told_started: bool = False
    watched: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.lease["task_id"], self.lease["generation"]

    @property
    def path(self) -> str:
        return wire.TASK.format(task_id=self.lease["task_id"], generation=self.lease["generation"])

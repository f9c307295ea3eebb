"""What really happened, written down by the fakes: the checkers hold the books of the server against it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ...providers.base import Offer


@dataclass(slots=True)
class Machine:
    """An instance as it is, whatever anyone says of it. Billing runs from `created_at` to `ended_at`."""

    ref: str
    cloud: str
    token: str
    pool: str
    offer: Offer
    server: str
    user_data: str
    created_at: float
    visible_at: float
    tagged_at: float
    hides_all_tags: bool
    state: str = "pending"
    ended_at: float | None = None
    told_until: float | None = None
    """Until when an ended one still stands in listings."""
    detail: str = ""
    joined_at: float | None = None
    heard_at: float | None = None
    """When the server last took a word of its agent."""
    end_asked_at: float | None = None

    @property
    def alive(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a cloud and what it was answered: '' for success, else the error's code."""

    at: float
    tick: int
    verb: str
    cloud: str
    answer: str
    token: str = ""
    ref: str = ""
    offer: Offer | None = None
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Handed:
    """A lease the server gave out, whether or not its agent ever learned of it."""

    at: float
    task_id: int
    generation: int
    attempt: int
    instance_id: str
    again: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """A result the server took."""

    at: float
    task_id: int
    generation: int
    outcome: str
    state: str


@dataclass(slots=True)
class Ledger:
    """All of it; nothing is ever taken out."""

    machines: dict[str, Machine] = field(default_factory=dict)
    by_token: dict[str, list[Machine]] = field(default_factory=lambda: defaultdict(list))
    calls: list[Call] = field(default_factory=list)
    handed: list[Handed] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    renewed: dict[tuple[int, int], float] = field(default_factory=dict)
    """(task, generation) -> when the server last took a word of its holder that names it."""
    up_since: list[float] = field(default_factory=list)
    leads: list[int] = field(default_factory=list)
    """Epochs in the order in which they began to lead."""
    led_since: float = 0.0
    stale_commits: list[str] = field(default_factory=list)
    """What a leader that is over wrote all the same."""
    refused_since: dict[str, float] = field(default_factory=dict)
    """Cloud -> since when its listing answers that our credentials are no good."""
    revived: dict[int, int] = field(default_factory=dict)
    """Task -> how often a person had it run again after its end."""
    tick: int = 0
    ticks_done: list[tuple[int, float]] = field(default_factory=list)
    rearmed: dict[str, float] = field(default_factory=dict)
    calm_since: float | None = None

    def add(self, machine: Machine) -> None:
        self.machines[machine.ref] = machine
        self.by_token[machine.token].append(machine)

    def ours_alive(self, server: str) -> list[Machine]:
        return [one for one in self.machines.values() if one.alive and one.server == server]

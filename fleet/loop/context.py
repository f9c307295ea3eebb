"""What one leader's ticks are made of; everything that is not pure is handed in here."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...config.fleet import FleetConfig
from ...providers.base import Offer, OfferKey, Provider
from ...tracking.server.database import Database
from ..executor.effects import Calls, Effects
from ..executor.intents import Terms
from ..observer.clouds import Moment
from ..observer.strays import Sightings
from ..planning import planner
from ..planning.model import Limits, Plan, Snapshot, TaskDemand
from .offers import Catalogue


class Planner(Protocol):
    """The pure function behind `plan`."""

    def __call__(
        self,
        demand: Sequence[TaskDemand],
        snapshot: Snapshot,
        offers: Sequence[Offer],
        limits: Limits,
        now: float,
    ) -> Plan:
        """Decide one tick."""


@dataclass
class Memory:
    """What ticks remember of each other. All of it may be forgotten at any time: a restart does."""

    sightings: Sightings = field(default_factory=Sightings)
    proven: set[OfferKey | tuple[str, str]] = field(default_factory=set)
    failing: dict[str, str] = field(default_factory=dict)
    """Providers that did not answer their last listing, or their notices, with the error's code."""
    last_at: float | None = None
    """When the last tick looked at the queues."""


def _wake_nobody(_ids: Sequence[str]) -> None:
    """No agent is waiting."""


def _wake_no_queue(_numbers: Mapping[str, int]) -> None:
    """No agent is waiting."""


def _nothing(_what: str) -> None:
    """No checkpoint."""


@dataclass
class Context:
    """One leader. `fleet` gives the configuration of the moment; times are epoch seconds of `clock`.

    `render_user_data(instance_id, join_token, provider)` and `join_token(instance_id)` are always
    the same for the same.
    `wake_agents(ids)` is called for instances that drain, `wake_queues({queue: n})` for tasks that came back.
    """

    db: Database
    fleet: Callable[[], FleetConfig]
    providers: Mapping[str, Provider]
    clock: Callable[[], float]
    rng: random.Random
    server_id: str
    epoch: int
    calls: Calls
    render_user_data: Callable[[str, str, str], str]
    join_token: Callable[[str], str]
    started_at: float
    wake_agents: Callable[[Sequence[str]], None] = _wake_nobody
    wake_queues: Callable[[Mapping[str, int]], None] = _wake_no_queue
    workspace: str = "default"
    plan: Planner = planner.plan
    checkpoint: Callable[[str], None] = _nothing
    memory: Memory = field(default_factory=Memory)
    offers: Catalogue = field(init=False)
    """What the providers sell; begins with what the store has kept."""

    def __post_init__(self) -> None:
        # Not made at first use: the tick and the refresh run in different threads and must share one.
        self.offers = Catalogue(self.db)

    @property
    def effects(self) -> Effects:
        """The seam through which this leader changes anything."""
        return Effects(self.db, self.epoch, self.clock, self.calls, self.checkpoint)

    @property
    def terms(self) -> Terms:
        """What all launch intents of this server have in common."""
        return Terms(self.workspace, self.server_id, self.epoch, self.render_user_data, self.join_token)

    def moment(self) -> Moment:
        """Now, with the rules of now."""
        return Moment(self.fleet(), self.workspace, self.server_id, self.clock(), self.started_at)

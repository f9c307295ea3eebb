"""Values that planning takes and gives. Nothing here knows a clock, a database or a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ...providers.base import Market, Offer, OfferKey


class InstanceState(str, Enum):
    """Life of an instance; moves forward only, through `lifecycle.LEGAL_INSTANCE`."""

    INTENDED = "intended"
    LAUNCHING = "launching"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    LOST = "lost"


class TaskState(str, Enum):
    """Life of a task; moves through `lifecycle.LEGAL_TASK`."""

    DRAFT = "draft"
    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class GpuWish:
    """One acceptable kind of GPU: normalised name ('' = any) and how many (a fraction shares one)."""

    name: str
    count: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What one task needs of a machine. `gpus` are alternatives, any one will do; empty = no GPU."""

    cpus: float = 1.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpus: tuple[GpuWish, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskDemand:
    """A queued task as the planner sees it. Times are epoch seconds; higher priority goes first."""

    task_id: int
    queue: str
    pools: tuple[str, ...]
    shape: Shape
    priority: int
    queued_at: float
    market: Market | None = None
    """Only this market, if the task or its queue says so; otherwise the pool decides."""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance that is not terminated, as the store knows it."""

    instance_id: str
    pool: str
    offer: Offer
    state: InstanceState
    created_at: float
    idle_since: float | None
    """Since when it has no lease, None while it has one; booting instances: None."""
    leases: int = 0
    free: Shape = field(default_factory=Shape)
    """What is free for further tasks: all of it while booting. `free.gpus` holds its own kind and free count."""
    usd_per_hour: float = 0.0
    age_limit_at: float | None = None


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """One entry under a pool's `offers`: GPU names accepted ('' or empty = machines without or with any GPU)."""

    gpu_names: tuple[str, ...] = ()
    gpu_count_min: int = 0
    gpu_count_max: int | None = None
    instance_types: tuple[str, ...] = ()
    cpus_min: float = 0.0
    memory_bytes_min: int = 0


@dataclass(frozen=True, slots=True)
class Fallback:
    """When a `spot_first` pool may buy on demand: after so long without spot, up to so large a share."""

    after_seconds: float
    max_share: float


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """A pool of fleet.yaml, resolved. `warm_min` is what the cron windows ask for at this moment."""

    name: str
    providers: tuple[str, ...]
    filters: tuple[OfferFilter, ...]
    market: str
    """spot | on_demand | spot_first"""
    fallback: Fallback | None
    instances_min: int
    instances_max: int
    idle_timeout_seconds: float
    max_age_seconds: float | None
    spread_zones: int
    spread_types: int
    warm_min: int = 0
    disk_bytes: int = 0
    """Disk each machine gets; 0 = not said, then a task's wish for disk is not checked."""
    protected: str = ""
    """Why nothing is launched here until a person re-arms it; empty = armed."""


@dataclass(frozen=True, slots=True)
class OfferHealth:
    """What the last errors taught: no launch of offers this covers before `blocked_until`."""

    code: str
    detail: str
    hint: str
    blocked_until: float
    budget: int = 1
    """How many launches may be open at once on this offering until one succeeds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of the whole fleet; None = no cap."""

    instances: int | None = None
    gpus: float | None = None
    usd_per_hour: float | None = None
    provider_instances: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the planner may know of the present, read in one transaction."""

    pools: Mapping[str, PoolPolicy]
    instances: tuple[InstanceView, ...]
    health: Mapping[OfferKey, OfferHealth] = field(default_factory=dict)
    frozen: str = ""
    """Why no launch at all is allowed now (start with an empty database, restore); empty = free to launch."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Buy one instance of this offer for this pool. `for_tasks` are those it was bought for."""

    pool: str
    offer: Offer
    for_tasks: tuple[int, ...] = ()
    alternatives: tuple[Offer, ...] = ()
    """Next best offers, best first: the executor fails over to these within the same tick."""


@dataclass(frozen=True, slots=True)
class Drain:
    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Termination:
    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Why something was or wasn't done. `code` is stable and listed in `explain.CODES`."""

    subject: str
    """task | instance | pool | offer"""
    subject_id: str
    code: str
    message: str
    hint: str = ""
    next_at: float | None = None
    """When it will be tried again or will change, epoch seconds."""
    rejected: tuple[tuple[str, str, str], ...] = ()
    """(offer or pool, code, why) for what was looked at and not taken."""


@dataclass(frozen=True, slots=True)
class Plan:
    launches: tuple[Launch, ...] = ()
    drains: tuple[Drain, ...] = ()
    terminations: tuple[Termination, ...] = ()
    decisions: tuple[Decision, ...] = ()

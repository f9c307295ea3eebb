"""What a task needs of a machine, as one canonical text in its row, and whether a machine has that free.

Claims compare thousands of tasks: equal needs have equal texts, so each is read and judged once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...agent_bootstrap.wire import LeaseRequest
from ...config.task import TaskSpec
from ...providers.base import Market
from ..planning.model import GpuWish, Shape
from ..planning.shapes import Room

NEEDS_REMEMBERED = 4_096
EITHER_MARKET = "spot_first"
"""A wish for a market that rules none out: spot is only preferred."""


@dataclass(frozen=True, slots=True)
class Free:
    """What an agent says it has left. `gpus` counts whole ones nobody uses and what is left of shared ones."""

    cpus: float
    memory_bytes: int
    disk_bytes: int
    gpus: float

    @classmethod
    def of_request(cls, request: LeaseRequest) -> Free:
        return cls(
            cpus=float(request["cpus_free"]),
            memory_bytes=int(request["memory_bytes_free"]),
            disk_bytes=int(request["disk_bytes_free"]),
            gpus=float(request["gpus_free"]),
        )

    def room(self, offer: Mapping[str, Any]) -> Room:
        """The same as planning counts it; `offer` (as stored with the instance) says which GPUs they are."""
        gpu = offer.get("gpu") or {}
        return Room(self.cpus, self.memory_bytes, self.disk_bytes, str(gpu.get("name", "")), self.gpus)


@dataclass(frozen=True, slots=True)
class Need:
    """A shape, and the market the task itself insists on (None: its queue or pool decides)."""

    shape: Shape
    market: str | None = None


def write_need(spec: TaskSpec) -> str:
    """The canonical text of what `spec` asks for; `read_need` reads it back."""
    resources = spec.resources
    values: dict[str, Any] = {
        "cpus": resources.cpus.min,
        "memory": resources.memory.min,
        "disk": resources.disk,
        "gpus": [[wish.name, wish.count] for wish in resources.gpu],
        "market": spec.market,
    }
    return json.dumps({name: value for name, value in values.items() if value}, separators=(",", ":"))


@lru_cache(maxsize=NEEDS_REMEMBERED)
def read_need(text: str) -> Need:
    """What `write_need` wrote; the empty text needs nothing in particular."""
    values = json.loads(text) if text else {}
    shape = Shape(
        cpus=float(values.get("cpus", 0)),
        memory_bytes=int(values.get("memory", 0)),
        disk_bytes=int(values.get("disk", 0)),
        gpus=tuple(GpuWish(name, float(count)) for name, count in values.get("gpus", ())),
    )
    return Need(shape, values.get("market"))


def market_wanted(need: Need, queue_market: str | None) -> Market | None:
    """The only market that will do, or None for either. The task's own wish goes before its queue's."""
    wanted = need.market or queue_market
    return None if wanted is None or wanted == EITHER_MARKET else Market(wanted)


def share_of(shape: Shape, gpus: float, offer: Mapping[str, Any]) -> float:
    """Which part of a machine the task holds: its largest share of CPUs, memory or GPUs, in (0, 1]."""
    gpu_count = (offer.get("gpu") or {}).get("count", 0)
    parts = [
        part / whole
        for part, whole in (
            (shape.cpus, offer.get("cpus", 0)),
            (shape.memory_bytes, offer.get("memory_bytes", 0)),
            (gpus, gpu_count),
        )
        if whole and part
    ]
    return min(1.0, max(parts)) if parts else 1.0

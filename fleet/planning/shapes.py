"""Does it fit, and what is left: arithmetic of CPUs, memory, disk and GPUs on one machine."""

from __future__ import annotations

from dataclasses import dataclass

from ...providers.base import Offer
from .model import InstanceView, Shape

EPSILON = 1e-9
"""Slack for sums of fractions such as ten tenths of a GPU."""


@dataclass(slots=True)
class Room:
    """What is free on a machine, bought or about to be; shrinks as tasks are put in."""

    cpus: float
    memory_bytes: int
    disk_bytes: int
    gpu_name: str
    gpus: float

    @classmethod
    def of_offer(cls, offer: Offer, disk_bytes: int) -> Room:
        gpu = offer.gpu
        return cls(
            offer.cpus, offer.memory_bytes, disk_bytes, gpu.name if gpu else "", gpu.count if gpu else 0
        )

    @classmethod
    def of_instance(cls, instance: InstanceView) -> Room:
        free = instance.free
        wish = free.gpus[0] if free.gpus else None
        name, count = (wish.name, wish.count) if wish else ("", 0.0)
        return cls(free.cpus, free.memory_bytes, free.disk_bytes, name, count)

    def copy(self) -> Room:
        return Room(self.cpus, self.memory_bytes, self.disk_bytes, self.gpu_name, self.gpus)

    def gpus_for(self, shape: Shape) -> float | None:
        """How many of this machine's GPUs the shape would take; None when none of its wishes can be met."""
        if not shape.gpus:
            return 0.0
        counts = [
            wish.count
            for wish in shape.gpus
            if wish.name in ("", self.gpu_name) and self.gpu_name and wish.count <= self.gpus + EPSILON
        ]
        return min(counts) if counts else None

    def fits(self, shape: Shape) -> bool:
        return (
            shape.cpus <= self.cpus + EPSILON
            and shape.memory_bytes <= self.memory_bytes
            and (not self.disk_bytes or shape.disk_bytes <= self.disk_bytes)
            and self.gpus_for(shape) is not None
        )

    def put(self, shape: Shape) -> bool:
        """Take the shape's share out of the room; False, and nothing taken, when it doesn't fit."""
        return self.fill(shape, 1) == 1

    def fill(self, shape: Shape, limit: int) -> int:
        """Put in as many of the shape as fit, at most `limit`; how many that were."""
        count = min(limit, self.times(shape))
        if count:
            self.gpus -= count * (self.gpus_for(shape) or 0.0)
            self.cpus -= count * shape.cpus
            self.memory_bytes -= count * shape.memory_bytes
            if self.disk_bytes:
                self.disk_bytes -= count * shape.disk_bytes
        return count

    def times(self, shape: Shape) -> int:
        """How many of this shape fit at once; a shape that needs nothing counts as one a CPU, at least one."""
        if not self.fits(shape):
            return 0
        ratios = [self.cpus / shape.cpus] if shape.cpus > 0 else []
        if shape.memory_bytes:
            ratios.append(self.memory_bytes / shape.memory_bytes)
        if shape.disk_bytes and self.disk_bytes:
            ratios.append(self.disk_bytes / shape.disk_bytes)
        gpus = self.gpus_for(shape)
        if gpus:
            ratios.append(self.gpus / gpus)
        return max(1, int(min(ratios) + EPSILON)) if ratios else max(1, int(self.cpus))

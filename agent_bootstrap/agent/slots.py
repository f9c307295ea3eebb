"""Who uses what of this machine: CPUs, memory, and GPUs by UUID, whole or in fractions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Dict, NamedTuple, Optional

from ..wire import Inventory, Joined

ROUNDING = 1e-6
"""Shares are floats: three thirds of a GPU fit on it."""


SHORTFALL_MAX = 0.2
"""Of a machine's size as sold, firmware, kernel and reserved memory may take this much: it still counts as whole."""


class NoRoom(Exception):
    """The lease asks for more than is free here."""


class Share(NamedTuple):
    """What one task holds; `gpus` maps a UUID to the part of that GPU."""

    cpus: float
    memory_bytes: int
    gpus: Dict[str, float]


class Free(NamedTuple):
    cpus: float
    memory_bytes: int
    gpus: float


class Slots:
    """Safe between threads."""

    def __init__(self, inventory: Inventory, joined: Optional[Joined] = None) -> None:
        """Sizes count as sold where the machine has about that: a task may ask for all of "16 GiB"."""
        sold_cpus, sold_memory = (joined["sold_cpus"], joined["sold_memory_bytes"]) if joined else (0.0, 0)
        self._cpus = float(_as_sold(inventory["cpus"], sold_cpus))
        self._memory_bytes = int(_as_sold(inventory["memory_bytes"], sold_memory))
        self._gpus = [gpu["uuid"] for gpu in inventory["gpus"]]
        self._held: dict[str, Share] = {}
        self._lock = threading.Lock()

    def take(self, holder: str, cpus: float, memory_bytes: int, gpu_count: float) -> Share:
        """Reserve for `holder`. Raises NoRoom."""
        with self._lock:
            free = self._free()
            if cpus > free.cpus + ROUNDING or memory_bytes > free.memory_bytes:
                raise NoRoom(
                    f"asked for {cpus:g} cpus and {memory_bytes} bytes, free are {free.cpus:g} and {free.memory_bytes}"
                )
            share = Share(cpus, memory_bytes, self._choose(gpu_count))
            self._held[holder] = share
            return share

    def hold(self, holder: str, share: Share) -> None:
        """Count what a task that already runs has, whether it fits or not."""
        with self._lock:
            self._held[holder] = share

    def release(self, holder: str) -> None:
        with self._lock:
            self._held.pop(holder, None)

    def free(self) -> Free:
        with self._lock:
            return self._free()

    def visible_devices(self, share: Share) -> str | None:
        """CUDA_VISIBLE_DEVICES: its own UUIDs; empty hides the others' GPUs; None where there are none to hide."""
        return ",".join(share.gpus) if self._gpus else None

    def _free(self) -> Free:
        held = self._held.values()
        return Free(
            max(0.0, self._cpus - sum(share.cpus for share in held)),
            max(0, self._memory_bytes - sum(share.memory_bytes for share in held)),
            round(sum(self._left().values()), 6),
        )

    def _left(self) -> dict[str, float]:
        left = dict.fromkeys(self._gpus, 1.0)
        for share in self._held.values():
            for uuid, part in share.gpus.items():
                if uuid in left:
                    left[uuid] = max(0.0, left[uuid] - part)
        return left

    def _choose(self, count: float) -> dict[str, float]:
        left = self._left()
        whole, fraction = int(count + ROUNDING), count - int(count + ROUNDING)
        chosen = dict.fromkeys([uuid for uuid in self._gpus if left[uuid] >= 1.0 - ROUNDING][:whole], 1.0)
        if len(chosen) < whole:
            raise NoRoom(f"asked for {count:g} GPUs, whole ones free are {len(chosen)}")
        if fraction > ROUNDING:
            chosen[_best_fit(left, chosen, fraction)] = fraction
        return chosen


def _as_sold(found: float, sold: float) -> float:
    return sold if found < sold and found >= sold * (1.0 - SHORTFALL_MAX) else found


def _best_fit(left: Mapping[str, float], taken: Mapping[str, float], fraction: float) -> str:
    """The fullest GPU that still has room: whole ones stay whole for those who need them."""
    fits: Sequence[str] = [u for u, rest in left.items() if u not in taken and rest >= fraction - ROUNDING]
    if not fits:
        raise NoRoom(f"no GPU has {fraction:g} of itself free")
    return min(fits, key=lambda uuid: left[uuid])

"""GPUs: Google's names for them in ours, their memory, and which can be attached to which N1 machines."""

from __future__ import annotations

import re

from ...config.gpus import normalise_gpu
from ..base import Gpu

GIB = 2**30
BY_GOOGLE_NAME = {
    "nvidia-h100-mega-80gb": "H100",
    "nvidia-b200": "B200",
    "nvidia-gb200": "GB200",
    "nvidia-rtx-pro-6000": "RTXPRO6000",
}
MEMORY_GIB = {
    "A100-40GB": 40,
    "A100-80GB": 80,
    "B200": 180,
    "GB200": 186,
    "H100": 80,
    "H200": 141,
    "L4": 24,
    "P100": 16,
    "P4": 8,
    "RTXPRO6000": 96,
    "T4": 16,
    "V100": 16,
}
MOST_CPUS_AND_GIB: dict[str, dict[int, tuple[int, int]]] = {
    "nvidia-tesla-t4": {1: (48, 312), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-p4": {1: (24, 156), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-v100": {1: (12, 78), 2: (24, 156), 4: (48, 312), 8: (96, 624)},
    "nvidia-tesla-p100": {1: (16, 104), 2: (32, 208), 4: (64, 208)},
}
"""GPU -> how many of it -> the largest N1 machine (vCPUs, GiB) they may be attached to."""
ATTACHABLE_SERIES = "n1"
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")


def gpu_of(accelerator: str, count: int) -> Gpu | None:
    """The GPUs by their normalised name; None for what is none (TPUs, virtual workstations)."""
    if not accelerator.startswith("nvidia-") or accelerator.endswith("-vws") or count < 1:
        return None
    name = BY_GOOGLE_NAME.get(accelerator) or _normalised(accelerator)
    return Gpu(name, count, MEMORY_GIB.get(name, 0) * GIB)


def attachable(accelerator: str, cpus: int, memory_gib: float, most_cards: int) -> tuple[int, ...]:
    """How many of these GPUs may be attached to an N1 machine of that size."""
    return tuple(
        count
        for count, (most_cpus, most_gib) in MOST_CPUS_AND_GIB.get(accelerator, {}).items()
        if cpus <= most_cpus and memory_gib <= most_gib and count <= most_cards
    )


def instance_type(machine_type: str, accelerator: str = "", count: int = 0) -> str:
    """What an offer calls it: the machine type, with what is attached (``n1-standard-8+nvidia-tesla-t4:1``)."""
    attached = series(machine_type) == ATTACHABLE_SERIES and accelerator and count
    return f"{machine_type}+{accelerator}:{count}" if attached else machine_type


def split(kind: str) -> tuple[str, str, int]:
    """(machine type, accelerator or '', how many) of an offer's instance type."""
    machine_type, _, attached = kind.partition("+")
    accelerator, _, count = attached.partition(":")
    return machine_type, accelerator, int(count) if count.isdigit() else 0


def series(machine_type: str) -> str:
    """``g2`` of ``g2-standard-4``."""
    return machine_type.partition("-")[0]


def _normalised(accelerator: str) -> str:
    try:
        return normalise_gpu(accelerator)
    except ValueError:
        # A card newer than our list is still an offer; its name is written as ours are.
        return _NOT_IN_NAMES.sub("-", accelerator.removeprefix("nvidia-").upper()).strip("-")

"""What this machine has to offer: CPUs, memory, disk, GPUs, as far as its cgroup lets us use them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ... import __version__
from ..wire import GpuFound, Inventory
from . import gpus


class BadInventory(ValueError):
    """HOSTLER_INVENTORY names a file that is not a JSON object with cpus, memory_bytes, disk_bytes and gpus."""


def take(home: Path, override: str = "", root: Path = Path("/")) -> Inventory:
    """Look at the machine, or read the file `override` names. Raises BadInventory."""
    told = _read_override(override) if override else {}
    found: list[GpuFound] = told["gpus"] if "gpus" in told else gpus.find()
    return Inventory(
        cpus=int(told.get("cpus") or cpus(root)),
        memory_bytes=int(told.get("memory_bytes") or memory_bytes(root)),
        disk_bytes=int(told.get("disk_bytes") or shutil.disk_usage(home).total),
        gpus=[GpuFound(uuid=g["uuid"], name=g["name"], memory_bytes=int(g["memory_bytes"])) for g in found],
        python=platform.python_version(),
        hostname=socket.gethostname(),
        agent_version=__version__,
    )


def cpus(root: Path = Path("/")) -> int:
    """Those we may run on, and no more than the cgroup's quota; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = [quota for quota in map(_cpu_quota, _cgroup_folders(root, "cpu")) if quota]
    return max(1, min([count, *(math.ceil(quota) for quota in quotas)]))


def memory_bytes(root: Path = Path("/")) -> int:
    """All of the machine's, or as little as a cgroup above us allows."""
    limits = [limit for folder in _cgroup_folders(root, "memory") for limit in _memory_limits(folder)]
    return min([_meminfo(root, "MemTotal"), *limits])


def memory_available_bytes(root: Path = Path("/")) -> int:
    return _meminfo(root, "MemAvailable")


def disk_free_bytes(home: Path) -> int:
    return shutil.disk_usage(home).free


def _read_override(name: str) -> dict[str, Any]:
    try:
        told = json.loads(Path(name).read_bytes())
        numbers = [told.get(key, 0) + 0 for key in ("cpus", "memory_bytes", "disk_bytes")]
        named = all(isinstance(gpu["uuid"], str) and gpu["memory_bytes"] >= 0 for gpu in told.get("gpus", []))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadInventory(f"{name}: {BadInventory.__doc__} ({error})") from error
    if not named or min(numbers) < 0:
        raise BadInventory(f"{name}: {BadInventory.__doc__}")
    return dict(told)


def _meminfo(root: Path, key: str) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/meminfo has no {key}")


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Our cgroup and all above it, v2 and v1 alike: a limit anywhere on the way up binds us."""
    base = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            top = base / controller if names else base
            below = Path(path.lstrip("/"))
            for part in [below, *below.parents]:
                yield top / part


def _cpu_quota(folder: Path) -> float:
    """CPUs' worth of time allowed, 0 for no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return 0.0 if quota == "max" else float(quota) / float(period)
    with contextlib.suppress(OSError, ValueError):
        quota_v1 = float((folder / "cpu.cfs_quota_us").read_text())
        return max(0.0, quota_v1) / float((folder / "cpu.cfs_period_us").read_text())
    return 0.0


def _memory_limits(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            yield int((folder / name).read_text())

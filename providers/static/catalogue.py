"""What the hosts offer: as fleet.yaml tells, and as they say themselves where it doesn't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...config.gpus import normalise_gpu
from ...config.static import StaticHost, StaticProvider
from ..base import Gpu, Market, Offer
from .host import REGION


def needs_facts(host: StaticHost) -> bool:
    return host.cpus is None or host.memory is None or host.gpus is None


def offers(name: str, section: StaticProvider, host: StaticHost, facts: Mapping[str, Any]) -> Iterator[Offer]:
    """One on each market: a machine of one's own is neither, and pools of both kinds may use it."""
    cpus = host.cpus or int(facts.get("cpus", 0))
    memory_bytes = host.memory or int(facts.get("memory_bytes", 0))
    if not cpus or not memory_bytes or (host.gpus is None and "gpus" not in facts):
        return
    price = host.usd_per_hour if host.usd_per_hour is not None else section.usd_per_hour
    gpu = gpu_of(host, facts.get("gpus", ()))
    for market in (Market.SPOT, Market.ON_DEMAND):
        yield Offer(name, REGION, host.name, host.name, market, float(cpus), memory_bytes, gpu, price)


def gpu_of(host: StaticHost, found: Sequence[Mapping[str, Any]]) -> Gpu | None:
    """The one kind of GPU that is sold: the one told, or that of which the machine has most."""
    sizes = {_name(gpu): int(gpu["memory_bytes"]) for gpu in found}
    if host.gpus is not None:
        return (
            Gpu(host.gpus[0].name, int(host.gpus[0].count), sizes.get(host.gpus[0].name, 0))
            if host.gpus
            else None
        )
    if not found:
        return None
    (name, count), *_ = Counter(_name(gpu) for gpu in found).most_common(1)
    return Gpu(name, count, sizes[name])


def machine(host: StaticHost) -> dict[str, object]:
    """What the agent shall say of its machine instead of looking: what fleet.yaml tells of it."""
    told: dict[str, object] = {"cpus": host.cpus, "memory_bytes": host.memory}
    if host.gpus is not None:
        told["gpus"] = int(host.gpus[0].count) if host.gpus else 0
    return {name: value for name, value in told.items() if value is not None}


def _name(gpu: Mapping[str, Any]) -> str:
    try:
        return normalise_gpu(str(gpu["name"]))
    except ValueError:  # one that we have not heard of is sold under its own name
        return "-".join(str(gpu["name"]).upper().split())

"""What a run is made of: fleet.yaml, offers, tasks and their fates, all drawn from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from ...config.fleet import FleetConfig
from ...providers.base import Market, Offer
from .surroundings import Fate

GIB: Final = 1024**3
CLOUDS: Final = ("east", "west")
TYPES: Final = {"small": (2, 8, 0.10), "large": (8, 32, 0.40)}
"""cpus, GiB, $/h on demand."""
SPOT_SHARE: Final = 0.3


@dataclass(frozen=True)
class Setting:
    """The fleet of one run and how busy it is."""

    fleet: FleetConfig
    offers: dict[str, tuple[Offer, ...]]
    tasks_an_hour: float
    burst: int


def draw(rng: random.Random) -> Setting:
    tick = rng.choice(("20s", "60s", "60s", "60s"))
    ttl = rng.choice(("60s", "120s", "180s", "240s", "240s"))
    fleet = {
        "version": 1,
        "daemon": {
            "tick": tick,
            "lease_ttl": ttl,
            "dead_man": "900s",
            "bootstrap_timeout": rng.choice(("300s", "600s")),
        },
        "limits": _limits(rng),
        "providers": {name: {"type": "local", "max_instances": rng.choice((3, 6))} for name in CLOUDS},
        "pools": {"spot": _pool(rng, "spot_first"), "firm": _pool(rng, "on_demand")},
        "queues": {
            "default": {"pools": ["spot", "firm"] if rng.random() < 0.5 else ["spot"]},
            "urgent": {"pools": ["firm"], "priority": 90},
        },
    }
    offers = {name: _offers(name, rng) for name in CLOUDS}
    return Setting(FleetConfig.from_dict(fleet), offers, rng.choice((3.0, 6.0, 12.0)), rng.choice((1, 2, 5)))


def _limits(rng: random.Random) -> dict[str, Any]:
    return {"instances": rng.choice((3, 5, 8)), "usd_per_hour": rng.choice((1.0, 1.5, 3.0))}


def _pool(rng: random.Random, market: str) -> dict[str, Any]:
    pool: dict[str, Any] = {
        "providers": list(CLOUDS) if rng.random() < 0.7 else [rng.choice(CLOUDS)],
        "market": market,
        "instances": f"{rng.choice((0, 0, 0, 1))}..{rng.choice((2, 4, 6))}",
        "idle_timeout": rng.choice(("60s", "300s", "600s")),
    }
    if market == "spot_first":
        pool["fallback"] = {"to": "on_demand", "after": rng.choice(("60s", "600s")), "max_share": 0.5}
    if rng.random() < 0.2:
        pool["max_age"] = "90m"
    if rng.random() < 0.3:
        pool["warm"] = [{"cron": "0 2 * * *", "until": "30 3 * * *", "tz": "Europe/Berlin", "min": 1}]
    return pool


def _offers(cloud: str, rng: random.Random) -> tuple[Offer, ...]:
    made = []
    for name, (cpus, gib, price) in TYPES.items():
        for zone in ("1-a", "1-b"):
            for market in Market:
                factor = SPOT_SHARE if market is Market.SPOT else 1.0
                made.append(
                    Offer(
                        provider=cloud,
                        region="1",
                        zone=zone,
                        instance_type=name,
                        market=market,
                        cpus=cpus,
                        memory_bytes=gib * GIB,
                        usd_per_hour=round(price * factor * rng.uniform(0.8, 1.2), 4),
                    )
                )
    # One that nobody knows the price of, and it would be the best: it must never be bought.
    made.append(
        Offer(cloud, "1", "1-a", "unpriced", Market.SPOT, cpus=64, memory_bytes=64 * GIB, usd_per_hour=None)
    )
    return tuple(made)


def task_of(rng: random.Random, *, poison: bool) -> dict[str, Any]:
    """A task.yaml. What becomes of it is decided at each attempt, by `fate_of`."""
    kind = "poison" if poison else rng.choices(("plain", "flaky", "exit75", "exit78"), (80, 12, 5, 3))[0]
    task: dict[str, Any] = {
        "run": ["train"],
        "name": kind,
        "queue": rng.choice(("default", "default", "urgent")),
        "resources": {"cpus": rng.choice((1, 1, 2, 4, 8)), "memory": f"{rng.choice((1, 4, 8))}GiB"},
        "retry": {"preempted": 20, "infra": 5, "error": 1},
    }
    if poison:
        task["retry"] = {"preempted": 1, "infra": rng.choice((0, 1, 2)), "error": 0}
    if rng.random() < 0.1:
        task["timeout"] = {"queue": "2h"}
    if rng.random() < 0.1:
        task["market"] = rng.choice(("spot", "on_demand"))
    return task


def fate_of(name: str, rng: random.Random) -> Fate:
    seconds = rng.choice((20.0, 240.0, 900.0, 2_000.0)) * rng.uniform(0.5, 1.5)
    if name == "poison":
        return Fate(rng.uniform(5.0, 120.0), "failed", 1, takes_machine=True)
    if name == "flaky" and rng.random() < 0.6:
        return Fate(seconds, "failed", 1)
    if name == "exit75" and rng.random() < 0.7:
        return Fate(min(seconds, 120.0), "requeue", 75)
    if name == "exit78":
        return Fate(seconds, "permanent", 78)
    return Fate(seconds, "completed", 0)

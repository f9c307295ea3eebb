"""`limits:` and `budgets:` - caps that hold before anything is launched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import Money, Name, Settings, Share, Whole

Period = Literal["day", "week", "month"]


class Limits(Settings):
    """Caps over the whole fleet, each off when absent. `usd_per_hour` is the worst case of all running."""

    instances: Whole | None = None
    gpus: Whole | None = None
    usd_per_hour: Money | None = None


class Spend(Settings):
    """Dollars per period; `soft` is the share at which `on_soft` happens."""

    usd: Money
    per: Period
    soft: Share = 0.8
    on_soft: Literal["notify", "on_demand_off"] = "notify"
    on_hard: Literal["notify", "no_new_instances", "drain"] = "no_new_instances"


class Budget(Spend):
    """One entry of `budgets:`: a named spend over the whole organisation."""

    name: Name = Field(description="shown in messages")

"""`pools:` - which offers may be bought, how many, and when they are given back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from apscheduler.triggers.base import BaseTrigger
from pydantic import AfterValidator, Field, model_validator

from .cron import cron_trigger, last_cron_time, parse_cron
from .fields import (
    NOT_A_BOOL,
    AtLeast,
    Count,
    Duration,
    GpusOrAny,
    Names,
    Positive,
    Settings,
    Share,
    Size,
    SizeRange,
    Text,
    Texts,
    TimeZone,
)
from .markets import Market
from .units import Range

DEFAULT_INSTANCES = Range(0, 10)
MAX_OFFER_FILTERS = 100
MAX_WARM_WINDOWS = 100


def _check_cron(text: str) -> str:
    parse_cron(text)
    return text


SpreadCount = Annotated[int, Field(ge=1, le=100), NOT_A_BOOL]
Cron = Annotated[Text, AfterValidator(_check_cron)]


class OfferFilter(Settings):
    """Machines a pool accepts. `count` is GPUs of one machine; `instance_types` are globs, empty allows all.

    Without `gpu` a machine may have any GPU or none; ``gpu: none`` accepts only those without one.
    `cpus` and `memory` are the least a machine must have.
    """

    gpu: GpusOrAny = None
    count: Count | None = None
    cpus: AtLeast = Range(0)
    memory: SizeRange = Range(0)
    instance_types: Texts = ()

    @model_validator(mode="after")
    def _can_match_something(self) -> OfferFilter:
        if self.count is not None and self.gpu == ():
            raise ValueError("count is a number of GPUs, and gpu: none has none; remove one of them")
        if self.count is not None and self.count.max == 0:
            raise ValueError("count 0 matches nothing; write gpu: none for machines without a GPU")
        if any(wish.count != 1 for wish in self.gpu or ()):
            raise ValueError(
                "gpu: names only here; how many a machine has goes in count, such as count: 1..4"
            )
        if self.cpus.max is not None or self.memory.max is not None:
            raise ValueError("cpus and memory are lower bounds here; write 4.. or 32GB..")
        return self

    def gpu_counts(self) -> Range:
        """How many GPUs a machine may have."""
        if self.gpu == ():
            return Range(0, 0)
        if self.count is not None:
            return self.count
        return Range(1) if self.gpu else Range(0)

    def gpu_names(self) -> tuple[str, ...]:
        """Names of the GPUs a machine may have; empty where its GPU doesn't matter or must not be."""
        return tuple(wish.name for wish in self.gpu or ())


class Fallback(Settings):
    """When a `spot_first` pool buys on demand: `after` so many seconds, up to `max_share` of instances."""

    to: Annotated[str, Field(pattern="^on_demand$")] = "on_demand"
    after: Duration = 600.0
    max_share: Share = 1.0


class Spread(Settings):
    """Over how many zones and instance types the pool's instances are kept apart."""

    zones: SpreadCount = 1
    types: SpreadCount = 1


class WarmWindow(Settings):
    """Between each `cron` and the next `until` (standard cron, in `tz`) at least `min` instances are kept."""

    cron: Cron
    until: Cron
    tz: TimeZone = "UTC"
    min: Positive

    @model_validator(mode="after")
    def _opens_and_closes(self) -> WarmWindow:
        if parse_cron(self.cron) == parse_cron(self.until):
            raise ValueError(f"cron and until are the same time ({self.cron}): the window is never open")
        return self

    def opens(self) -> BaseTrigger:
        """APScheduler trigger of the starts."""
        return cron_trigger(self.cron, self.tz)

    def closes(self) -> BaseTrigger:
        """APScheduler trigger of the ends."""
        return cron_trigger(self.until, self.tz)

    def is_open(self, now: datetime) -> bool:
        """Whether `now` (time zone aware) lies in a window: its start has come and its end has not."""
        start = last_cron_time(self.cron, self.tz, now)
        end = last_cron_time(self.until, self.tz, now)
        return start is not None and (end is None or start >= end)


class Pool(Settings):
    """`instances` is the range kept; times are seconds, `disk` bytes; empty `offers` accept any machine."""

    providers: Names
    offers: Annotated[tuple[OfferFilter, ...], Field(max_length=MAX_OFFER_FILTERS)] = ()
    market: Market = "spot"
    fallback: Fallback | None = None
    instances: Count = DEFAULT_INSTANCES
    idle_timeout: Duration = 600.0
    max_age: Duration | None = None
    spread: Spread = Spread()
    disk: Size | None = None
    warm: Annotated[tuple[WarmWindow, ...], Field(max_length=MAX_WARM_WINDOWS)] = ()

    @model_validator(mode="after")
    def _market_and_fallback_agree(self) -> Pool:
        if self.market == "spot_first" and self.fallback is None:
            raise ValueError(
                "market spot_first needs fallback, such as {to: on_demand, after: 10m, max_share: 25%}"
            )
        return self

    @model_validator(mode="after")
    def _numbers_agree(self) -> Pool:
        if self.max_age is not None and self.max_age <= 0:
            raise ValueError("max_age must be above 0; leave it out for no limit")
        high = self.instances.max
        too_warm = next((window for window in self.warm if high is not None and window.min > high), None)
        if too_warm is not None:
            raise ValueError(f"warm min {too_warm.min} is more than instances {self.instances} allows")
        return self

    def warm_min(self, now: datetime) -> int:
        """How many instances the windows open at `now` (time zone aware) ask for; 0 when all are closed."""
        return max((window.min for window in self.warm if window.is_open(now)), default=0)

"""`providers.*: {type: local}` - instances that are process groups on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from .fields import Gpus, Money, Name, Positive, Settings, Size, Whole
from .markets import OfferMarket

DEFAULT_USD_PER_HOUR: dict[OfferMarket, float] = {"spot": 0.003, "on_demand": 0.01}
"""Made-up prices, so that cost is shown and ranked on one machine as it is on clouds."""
GIB = 2**30


class LocalOffer(Settings):
    """An imitated instance type: what its tasks may count on, and its price."""

    name: Name
    cpus: Positive
    memory: Size
    gpu: Gpus = ()
    market: OfferMarket = "on_demand"
    usd_per_hour: Money = Field(
        default_factory=lambda data: DEFAULT_USD_PER_HOUR[data.get("market", "on_demand")]
    )

    @model_validator(mode="after")
    def _is_one_machine(self) -> LocalOffer:
        if len(self.gpu) > 1:
            raise ValueError("gpu: an instance has one kind of GPU, write a single NAME:COUNT")
        if self.gpu and self.gpu[0].count < 1:
            raise ValueError("gpu: an instance has whole GPUs; shares are for tasks")
        if self.usd_per_hour <= 0:
            raise ValueError("usd_per_hour must be above 0: a zero price is no price")
        if self.memory <= 0:
            raise ValueError("memory must be above 0")
        return self


class LocalProvider(Settings):
    """`cpus`, `memory` and `gpus` size each instance when `offers` is empty; `root` holds their folders."""

    type: Literal["local"]
    root: Path | None = None
    max_instances: Whole = 8
    cpus: Positive = 1
    memory: Size = GIB
    gpus: Gpus = ()
    offers: tuple[LocalOffer, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _offers_are_told_apart(self) -> LocalProvider:
        keys = [(offer.name, offer.market) for offer in self.offers]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"offers: '{twice[0]}' is there twice in market {twice[1]}")
        if len(self.gpus) > 1 or (self.gpus and self.gpus[0].count < 1):
            raise ValueError("gpus: write one kind and a whole number of it, such as L4:1")
        if self.memory <= 0:
            raise ValueError("memory must be above 0")
        return self

    def catalogue(self) -> tuple[LocalOffer, ...]:
        """The offers to sell: those written, or ``local`` on both markets, of `cpus`, `memory` and `gpus`."""
        if self.offers:
            return self.offers
        return tuple(
            LocalOffer.model_construct(
                name="local",
                cpus=self.cpus,
                memory=self.memory,
                gpu=self.gpus,
                market=market,
                usd_per_hour=price,
            )
            for market, price in DEFAULT_USD_PER_HOUR.items()
        )

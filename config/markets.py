"""The ways capacity is bought."""

from __future__ import annotations

from typing import Literal

OfferMarket = Literal["spot", "on_demand"]
"""What an offer is sold as."""
Market = Literal["spot", "on_demand", "spot_first"]
"""What a pool, queue or task may ask for; `spot_first` turns to on-demand after the pool's fallback delay."""

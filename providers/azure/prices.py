"""What VM sizes cost, by Azure's public price list. Missing or zero is no price."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from ..base import Market, ProviderError
from ..calls import BACKGROUND
from .client import Client, Json

AGE_SECONDS = 1800.0
PATH = "/api/retail/prices"
API_VERSION = "2023-01-01-preview"
SIZES_A_CALL = 15
"""The filter travels in the address, which must not get long."""
MAX_PAGES = 200
CURRENCY = "USD"
READ = "the price list"
OTHER_PRODUCTS = ("Windows", "CloudServices", "Cloud Services", "Dedicated Host")
Key = tuple[str, Market]

log = structlog.get_logger(__name__)


class Prices:
    """US dollars an hour by (size, market), kept for half an hour. `monotonic` in seconds."""

    def __init__(self, client: Client, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], tuple[float, Mapping[Key, float]]] = {}

    def of(self, region: str, sizes: Sequence[str]) -> Mapping[Key, float]:
        """Prices of `sizes` in `region`. When the list can't be read: the last known, or none, and a warning."""
        prices: dict[Key, float] = {}
        wanted = sorted(set(sizes))
        for start in range(0, len(wanted), SIZES_A_CALL):
            prices |= self._of_some(region, wanted[start : start + SIZES_A_CALL])
        return prices

    def _of_some(self, region: str, sizes: Sequence[str]) -> Mapping[Key, float]:
        asked = (region, " or ".join(f"armSkuName eq '{size}'" for size in sizes))
        with self._lock:
            at, known = self._found.get(asked, (-math.inf, {}))
        if self._monotonic() - at < AGE_SECONDS:
            return known
        try:
            fresh = self._read(*asked)
        except ProviderError as error:
            # The list is another service than the one that sells: without it the rest must go on.
            log.warning("price list unavailable", region=region, code=error.code, detail=error.detail)
            return known
        with self._lock:
            self._found[asked] = (self._monotonic(), fresh)
        return fresh

    def _read(self, region: str, which: str) -> dict[Key, float]:
        terms = f"serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '{region}'"
        rows = self._client.call(READ, region, BACKGROUND, lambda: self._rows(f"{terms} and ({which})"))
        found: dict[Key, float] = {}
        for row in rows:
            key, price = _key(row), _number(row.get("retailPrice"))
            if key is not None and price > 0:
                # Of several prices for one thing, the one by which no budget is overrun.
                found[key] = max(price, found.get(key, 0.0))
        return found

    def _rows(self, terms: str) -> list[Json]:
        # US dollars are what it tells when no currency is asked for.
        asked = {"api-version": API_VERSION, "$filter": terms}
        page = self._client.get_price_page(PATH, **asked)
        rows: list[Json] = list(page["Items"])
        for _ in range(MAX_PAGES):
            link = page.get("NextPageLink")
            if not link:
                return rows
            page = self._client.get_price_page(str(link))
            rows += page["Items"]
        raise ValueError("the pages don't end")


def _key(row: Mapping[str, Any]) -> Key | None:
    """What a row is the price of; None for Windows, low priority, reservations and other coins."""
    name, product = str(row.get("skuName") or ""), str(row.get("productName") or "")
    hourly = row.get("unitOfMeasure") == "1 Hour" and row.get("type") == "Consumption"
    if not hourly or row.get("currencyCode") != CURRENCY or "Low Priority" in name:
        return None
    if any(word in product for word in OTHER_PRODUCTS):
        return None
    market = Market.SPOT if name.endswith("Spot") else Market.ON_DEMAND
    return str(row.get("armSkuName") or ""), market


def _number(value: object) -> float:
    """A price, 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if math.isfinite(value) and value > 0 else 0.0

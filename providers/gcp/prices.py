"""What machines cost: Compute Engine's price catalogue, by vCPU, GiB of memory and GPU. Missing is no price.

Disks, addresses and traffic are not in it.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog

from ...config.gpus import normalise_gpu
from ..base import Market, ProviderError
from ..calls import BACKGROUND
from .accelerators import series
from .client import MAX_PAGES, Client

AGE_SECONDS = 6 * 3600.0
COMPUTE_ENGINE = "services/6F81-5844-456A"
URL = f"https://cloudbilling.googleapis.com/v1/{COMPUTE_ENGINE}/skus"
PAGE_SIZE = 5000
CURRENCY = "USD"
MARKETS = {"OnDemand": Market.ON_DEMAND, "Preemptible": Market.SPOT}
SHARED_CPUS = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}
"""vCPUs that a machine type with shared cores pays for."""
SKU_SERIES = {"a3-megagpu": "A3PLUS", "a3-ultragpu": "A3ULTRA"}
SKU_CARDS = {"H100 80GB PLUS": "H100-MEGA", "H100 80GB MEGA": "H100-MEGA"}
MEGA = "nvidia-h100-mega-80gb"
UNITS = {"core": ("h",), "ram": ("GiBy.h",), "gpu": ("h",)}
_SPOT = r"(?:Spot Preemptible )?"
_MACHINE = re.compile(
    rf"{_SPOT}(?P<series>[A-Z]\d+[A-Za-z]*)(?: Predefined)?(?: AMD| Arm)? Instance (?P<part>Core|Ram) running in .+"
)
_COMPUTE_OPTIMISED = re.compile(rf"{_SPOT}Compute optimized (?:Instance )?(?P<part>Core|Ram) running in .+")
_GPU = re.compile(r"Nvidia (?P<card>.+?) GPU(?: attached to Spot Preemptible VMs)? running in .+")

Part = Literal["core", "ram", "gpu"]
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PriceKey:
    """What a price is for: `kind` is the machine series (``N1``) for cores and memory, the GPU's name for GPUs."""

    region: str
    market: Market
    part: Part
    kind: str


@dataclass(frozen=True)
class Size:
    """What of a machine is paid for. `card` is Google's name of the GPU."""

    machine_type: str
    cpus: float
    memory_gib: float
    card: str = ""
    cards: int = 0


class Prices:
    """Prices in US dollars an hour. They change seldom and are kept for hours. `monotonic` in seconds."""

    def __init__(self, client: Client, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: tuple[float, Mapping[PriceKey, float]] = (-math.inf, {})

    def known(self) -> Mapping[PriceKey, float]:
        """The catalogue. Without access to it: the last known, or none, and a warning."""
        with self._lock:
            at, known = self._known
        if self._monotonic() - at < AGE_SECONDS:
            return known
        try:
            found = self.read()
        except ProviderError as error:
            log.warning("price catalogue unavailable", code=error.code, detail=error.detail)
            return known
        with self._lock:
            self._known = (self._monotonic(), found)
        return found

    def read(self) -> Mapping[PriceKey, float]:
        """The catalogue as it is now. Raises ProviderError."""
        found: dict[PriceKey, float] = {}
        for page in self._pages():
            rows = self._client.read(URL, CURRENCY, partial(_rows, page))
            for key, usd in rows:
                # Two prices for one thing: the worse one, so that no cap is broken by hoping.
                found[key] = max(usd, found.get(key, 0.0))
        return found

    def _pages(self) -> Iterator[dict[str, Any]]:
        token = ""
        for _ in range(MAX_PAGES):
            query = {
                "currencyCode": CURRENCY,
                "pageSize": PAGE_SIZE,
                **({"pageToken": token} if token else {}),
            }
            page = self._client.ask(URL, BACKGROUND, query=query)
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return


def usd_per_hour(known: Mapping[PriceKey, float], region: str, market: Market, size: Size) -> float | None:
    """The sum of all parts; None if one of them has no price."""
    kind = _series(size.machine_type)
    # Shared cores of other series have prices of their own, which we don't read.
    if size.machine_type in ("f1-micro", "g1-small"):
        return None
    cpus = SHARED_CPUS.get(size.machine_type, size.cpus)
    parts: list[tuple[Part, str, float]] = [("core", kind, cpus), ("ram", kind, size.memory_gib)]
    if size.cards:
        parts.append(("gpu", _card(size.card), float(size.cards)))
    prices = [(known.get(PriceKey(region, market, part, name)), amount) for part, name, amount in parts]
    total = sum(usd * amount for usd, amount in prices if usd is not None)
    return total if total > 0 and all(usd is not None for usd, _ in prices) else None


def _rows(page: dict[str, Any]) -> list[tuple[PriceKey, float]]:
    return [row for sku in page.get("skus", ()) for row in _prices(sku)]


def _prices(sku: dict[str, Any]) -> Iterator[tuple[PriceKey, float]]:
    market = MARKETS.get(sku["category"]["usageType"])
    what = _what(str(sku["description"]))
    if market is None or what is None:
        return
    part, kind = what
    usd = _usd(sku.get("pricingInfo") or [], UNITS[part])
    if usd > 0:
        for region in sku.get("serviceRegions", ()):
            yield PriceKey(region, market, part, kind), usd


def _what(description: str) -> tuple[Part, str] | None:
    machine = _MACHINE.fullmatch(description)
    if machine is not None:
        return ("core" if machine["part"] == "Core" else "ram"), machine["series"].upper()
    optimised = _COMPUTE_OPTIMISED.fullmatch(description)
    if optimised is not None:
        return ("core" if optimised["part"] == "Core" else "ram"), "C2"
    gpu = _GPU.fullmatch(description)
    if gpu is None:
        return None
    card = gpu["card"].upper()
    try:
        return "gpu", SKU_CARDS.get(card) or normalise_gpu(card)
    except ValueError:
        return None


def _usd(pricing: list[dict[str, Any]], units: tuple[str, ...]) -> float:
    """The newest price, in the unit that we reckon with; 0 for what is none."""
    if not pricing:
        return 0.0
    expression = pricing[-1]["pricingExpression"]
    if expression.get("usageUnit") not in units:
        return 0.0
    rates = [rate["unitPrice"] for rate in expression.get("tieredRates", ())]
    prices = [int(rate.get("units") or 0) + int(rate.get("nanos") or 0) / 1e9 for rate in rates]
    return max((usd for usd in prices if math.isfinite(usd) and usd > 0), default=0.0)


def _series(machine_type: str) -> str:
    family = "-".join(machine_type.split("-")[:2])
    return SKU_SERIES.get(family, series(machine_type).upper())


def _card(accelerator: str) -> str:
    if accelerator == MEGA:
        return "H100-MEGA"
    try:
        return normalise_gpu(accelerator)
    except ValueError:
        return accelerator

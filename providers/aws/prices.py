"""What instance types cost: on-demand by the price list, spot as of now. Missing or zero is no price."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from ..base import ProviderError
from ..calls import BACKGROUND
from .client import Client

ON_DEMAND_AGE_SECONDS = 6 * 3600.0
PRICE_LIST_REGION = "us-east-1"
"""The price list of every region is served there."""
TYPES_A_CALL = 100
CURRENCY = "USD"
_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
SPOT_PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")

log = structlog.get_logger(__name__)


class Prices:
    """Prices in US dollars an hour. On-demand ones change seldom and are kept for hours. `monotonic` in seconds."""

    def __init__(self, client: Client, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._on_demand: dict[str, tuple[float, Mapping[str, float]]] = {}

    def on_demand(self, region: str) -> Mapping[str, float]:
        """By instance type. Without access to the price list: the last known, or none, and a warning."""
        with self._lock:
            at, known = self._on_demand.get(region, (-math.inf, {}))
        if self._monotonic() - at < ON_DEMAND_AGE_SECONDS:
            return known
        try:
            found = self._read_list(region)
        except ProviderError as error:
            # Spot needs no price list: a daemon without that permission must still be able to buy it.
            log.warning("price list unavailable", region=region, code=error.code, detail=error.detail)
            return known
        with self._lock:
            self._on_demand[region] = (self._monotonic(), found)
        return found

    def spot(self, region: str, types: Sequence[str]) -> Mapping[tuple[str, str], float]:
        """By (instance type, zone), the newest each."""
        newest: dict[tuple[str, str], tuple[datetime, float]] = {}
        for start in range(0, len(types), TYPES_A_CALL):
            for row in self._spot_rows(region, types[start : start + TYPES_A_CALL]):
                key, at, price = row
                if key not in newest or at > newest[key][0]:
                    newest[key] = (at, price)
        return {key: price for key, (_, price) in newest.items() if price > 0}

    def _spot_rows(
        self, region: str, types: Sequence[str]
    ) -> Iterable[tuple[tuple[str, str], datetime, float]]:
        pages = self._client.pages(
            "ec2:describe_spot_price_history",
            region,
            BACKGROUND,
            InstanceTypes=list(types),
            ProductDescriptions=list(SPOT_PRODUCTS),
            StartTime=datetime.now(UTC),
        )
        return self._client.read(
            "ec2:DescribeSpotPriceHistory",
            region,
            lambda: [
                (
                    (row["InstanceType"], row["AvailabilityZone"]),
                    row["Timestamp"],
                    _number(row.get("SpotPrice")),
                )
                for page in pages
                for row in page["SpotPriceHistory"]
            ],
        )

    def _read_list(self, region: str) -> Mapping[str, float]:
        terms = {**_LINUX, "regionCode": region}
        pages = self._client.pages(
            "pricing:get_products",
            PRICE_LIST_REGION,
            BACKGROUND,
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            MaxResults=100,
            Filters=[{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in terms.items()],
        )
        found = self._client.read(
            "pricing:GetProducts",
            PRICE_LIST_REGION,
            lambda: [_product(json.loads(text)) for page in pages for text in page["PriceList"]],
        )
        return {kind: price for kind, price in found if price > 0}


def _product(product: dict[str, Any]) -> tuple[str, float]:
    dimensions = [
        dimension
        for term in product.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term.get("priceDimensions", {}).values()
        if dimension.get("unit") in ("Hrs", "Hours")
    ]
    prices = [_number(dimension.get("pricePerUnit", {}).get(CURRENCY)) for dimension in dimensions]
    return str(product["product"]["attributes"]["instanceType"]), max(prices, default=0.0)


def _number(text: object) -> float:
    """A price, 0 for what is none."""
    try:
        price = float(str(text))
    except ValueError:
        return 0.0
    return price if math.isfinite(price) and price > 0 else 0.0

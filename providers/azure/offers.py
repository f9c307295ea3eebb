"""What Azure sells this subscription: VM sizes x zones x markets, with prices."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog

from ...config.azure import AzureProvider as Section
from ..base import Market, Offer, ProviderError
from ..calls import BACKGROUND
from .client import Client, Json
from .images import Image, Images
from .prices import Prices
from .sizes import count_of, gpu_of

GIB = 2**30
READ = "Microsoft.Compute/skus/read"

log = structlog.get_logger(__name__)


class Catalogue:
    """Offers of all regions of one provider."""

    def __init__(self, name: str, section: Section, client: Client, images: Images, prices: Prices) -> None:
        self._name = name
        self._section = section
        self._client = client
        self._images = images
        self._prices = prices

    def offers(self) -> tuple[Offer, ...]:
        """All regions that answer; an error only when none does, so that one broken region costs only itself."""
        found: list[Offer] = []
        errors: list[ProviderError] = []
        for region in self._section.regions:
            try:
                found += self._region(region)
            except ProviderError as error:
                log.warning("offers unavailable", region=region, code=error.code, detail=error.detail)
                errors.append(error)
        if len(errors) == len(self._section.regions):
            raise errors[0]
        return tuple(found)

    def sizes(self, region: str) -> list[Json]:
        """Azure's descriptions of the sizes that fleet.yaml allows and the subscription may have."""
        rows = self._client.pages(
            READ,
            region,
            BACKGROUND,
            lambda **options: self._client.compute.resource_skus.list(
                filter=f"location eq '{region}'", **options
            ),
        )
        return [
            row
            for row in rows
            if row.get("resourceType") == "virtualMachines"
            and self._is_allowed(str(row.get("name") or ""))
            and _is_sold(row, region)
        ]

    def _region(self, region: str) -> list[Offer]:
        image = self._images.of(region)
        sizes = [row for row in self.sizes(region) if _boots(_capabilities(row), image)]
        prices = self._prices.of(region, [str(row["name"]) for row in sizes])
        return [
            offer
            for row in sizes
            for market in _markets(_capabilities(row))
            for offer in self._of_size(region, row, market, prices.get((str(row["name"]), market)))
        ]

    def _of_size(self, region: str, row: Json, market: Market, price: float | None) -> Iterator[Offer]:
        size, told = str(row["name"]), _capabilities(row)
        cpus, memory_gib = _number(told.get("vCPUs")), _number(told.get("MemoryGB"))
        gpus = count_of(told)
        gpu = gpu_of(size, gpus) if gpus else None
        if cpus <= 0 or memory_gib <= 0 or (gpus and gpu is None):
            return
        for zone in self._zones(row, region):
            yield Offer(
                provider=self._name,
                region=region,
                zone=zone,
                instance_type=size,
                market=market,
                cpus=cpus,
                memory_bytes=int(memory_gib * GIB),
                gpu=gpu,
                usd_per_hour=price,
            )

    def _zones(self, row: Json, region: str) -> Sequence[str]:
        """Zones that sell it; one empty name where Azure itself chooses because the region has none."""
        numbers = _zone_numbers(row, region)
        if not numbers:
            return () if self._section.zones else ("",)
        open_ones = numbers - _restricted_zones(row)
        wanted = open_ones & set(self._section.zones) if self._section.zones else open_ones
        return [f"{region}-{number}" for number in sorted(wanted)]

    def _is_allowed(self, size: str) -> bool:
        globs = self._section.vm_sizes
        return not globs or any(fnmatch.fnmatchcase(size.lower(), glob.lower()) for glob in globs)


def _capabilities(row: Json) -> Mapping[str, str]:
    return {str(one.get("name")): str(one.get("value")) for one in row.get("capabilities") or ()}


def _boots(told: Mapping[str, str], image: Image) -> bool:
    """Whether our image runs there."""
    architecture = told.get("CpuArchitectureType", "x64") == image.architecture
    generations = told.get("HyperVGenerations", "V1,V2").split(",")
    return architecture and (not image.generation or image.generation in generations)


def _markets(told: Mapping[str, str]) -> tuple[Market, ...]:
    spot = told.get("LowPriorityCapable", "False") == "True"
    return (Market.SPOT, Market.ON_DEMAND) if spot else (Market.ON_DEMAND,)


def _is_sold(row: Json, region: str) -> bool:
    """Whether the subscription may have it in `region` at all."""
    barred = [one for one in row.get("restrictions") or () if one.get("type") == "Location"]
    return not any(
        region.lower() in {str(value).lower() for value in _barred_values(one, "locations")} for one in barred
    )


def _barred_values(restriction: Mapping[str, Any], key: str) -> Sequence[Any]:
    info = restriction.get("restrictionInfo") or {}
    found: Sequence[Any] = info.get(key) or (restriction.get("values") or () if key == "locations" else ())
    return found


def _restricted_zones(row: Json) -> set[str]:
    barred = [one for one in row.get("restrictions") or () if one.get("type") == "Zone"]
    return {str(zone) for one in barred for zone in _barred_values(one, "zones")}


def _zone_numbers(row: Json, region: str) -> set[str]:
    return {
        str(zone)
        for info in row.get("locationInfo") or ()
        if str(info.get("location") or "").lower() == region.lower()
        for zone in info.get("zones") or ()
    }


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0.0

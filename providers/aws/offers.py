"""What EC2 sells us: instance types x zones x markets, with prices."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

import structlog

from ...config.aws import AwsProvider as Section
from ...config.gpus import normalise_gpu
from ..base import Gpu, Market, Offer, ProviderError
from ..calls import BACKGROUND
from .client import Client
from .images import Images
from .networks import Networks
from .prices import TYPES_A_CALL, Prices

MIB = 2**20
BY_MEMORY = {
    "A100": ((60 * 1024, "A100-80GB"), (0, "A100-40GB")),
    "V100": ((24 * 1024, "V100-32GB"), (0, "V100")),
}
"""EC2 gives cards of two sizes one name: (at least so many MiB, our name), the largest first."""
MARKETS = {"spot": Market.SPOT, "on-demand": Market.ON_DEMAND}
WILDCARDS = frozenset("*?[")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")

log = structlog.get_logger(__name__)


class Catalogue:
    """Offers of all regions of one provider."""

    def __init__(
        self, name: str, section: Section, client: Client, images: Images, networks: Networks, prices: Prices
    ) -> None:
        self._name = name
        self._section = section
        self._client = client
        self._images = images
        self._networks = networks
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

    def _region(self, region: str) -> list[Offer]:
        architecture = self._images.of(region).architecture
        zones = self._zones_by_type(region)
        details = [one for one in self._details(region, sorted(zones)) if _boots(one, architecture)]
        spot = self._prices.spot(region, [one["InstanceType"] for one in details if _sold(one, "spot")])
        on_demand = self._prices.on_demand(region) if details else {}
        offers = []
        for one in details:
            kind = one["InstanceType"]
            for zone in zones[kind]:
                prices = {Market.SPOT: spot.get((kind, zone)), Market.ON_DEMAND: on_demand.get(kind)}
                offers += [
                    self._offer(region, zone, one, market, prices[market])
                    for name, market in MARKETS.items()
                    if _sold(one, name)
                ]
        return offers

    def _zones_by_type(self, region: str) -> dict[str, list[str]]:
        """The types that fleet.yaml allows, with the zones that sell them and in which we have a subnet."""
        ours = sorted(self._networks.of(region))
        filters = [{"Name": "location", "Values": ours}]
        if self._section.instance_types and not any(
            set(glob) & WILDCARDS for glob in self._section.instance_types
        ):
            filters.append({"Name": "instance-type", "Values": list(self._section.instance_types)})
        pages = self._client.pages(
            "ec2:describe_instance_type_offerings",
            region,
            BACKGROUND,
            LocationType="availability-zone",
            Filters=filters,
        )
        rows = self._client.read(
            "ec2:DescribeInstanceTypeOfferings",
            region,
            lambda: [
                (str(row["InstanceType"]), str(row["Location"]))
                for page in pages
                for row in page["InstanceTypeOfferings"]
            ],
        )
        zones: dict[str, list[str]] = {}
        for kind, zone in sorted(set(rows)):
            if zone in ours and self._is_allowed(kind):
                zones.setdefault(kind, []).append(zone)
        return zones

    def _is_allowed(self, kind: str) -> bool:
        globs = self._section.instance_types
        return not globs or any(fnmatch.fnmatchcase(kind, glob) for glob in globs)

    def _details(self, region: str, types: Sequence[str]) -> Iterable[dict[str, Any]]:
        for start in range(0, len(types), TYPES_A_CALL):
            yield from self._details_of(region, types[start : start + TYPES_A_CALL])

    def _details_of(self, region: str, types: Sequence[str]) -> list[dict[str, Any]]:
        action = "ec2:DescribeInstanceTypes"
        pages = self._client.pages(
            "ec2:describe_instance_types", region, BACKGROUND, InstanceTypes=list(types)
        )
        return self._client.read(
            action, region, lambda: [one for page in pages for one in page["InstanceTypes"]]
        )

    def _offer(
        self, region: str, zone: str, one: dict[str, Any], market: Market, price: float | None
    ) -> Offer:
        action = "ec2:DescribeInstanceTypes"
        return self._client.read(
            action,
            region,
            lambda: Offer(
                provider=self._name,
                region=region,
                zone=zone,
                instance_type=one["InstanceType"],
                market=market,
                cpus=float(one["VCpuInfo"]["DefaultVCpus"]),
                memory_bytes=int(one["MemoryInfo"]["SizeInMiB"]) * MIB,
                gpu=gpu_of(one),
                usd_per_hour=price,
            ),
        )


def gpu_of(one: dict[str, Any]) -> Gpu | None:
    """The GPUs of an instance type by their normalised name, None if it has no whole one."""
    for card in (one.get("GpuInfo") or {}).get("Gpus") or ():
        count, memory_mib = (
            int(card.get("Count") or 0),
            int((card.get("MemoryInfo") or {}).get("SizeInMiB") or 0),
        )
        if count >= 1:
            return Gpu(_gpu_name(str(card.get("Name", "")), memory_mib), count, memory_mib * MIB)
    return None


def _gpu_name(name: str, memory_mib: int) -> str:
    for least_mib, ours in BY_MEMORY.get(name.upper(), ()):
        if memory_mib >= least_mib:
            return ours
    try:
        return normalise_gpu(name)
    except ValueError:
        # A card newer than our list is still an offer; its name is written as ours are.
        return _NOT_IN_NAMES.sub("-", name.upper()).strip("-")


def _boots(one: dict[str, Any], architecture: str) -> bool:
    """Whether our image runs there, and the machine is what its description says: a part of a GPU is not told well."""
    runs = architecture in (one.get("ProcessorInfo") or {}).get("SupportedArchitectures", ())
    hvm = "hvm" in one.get("SupportedVirtualizationTypes", ("hvm",))
    return runs and hvm and not (one.get("GpuInfo") and gpu_of(one) is None)


def _sold(one: dict[str, Any], usage_class: str) -> bool:
    return usage_class in one.get("SupportedUsageClasses", ())

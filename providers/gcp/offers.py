"""What Compute Engine sells us: machine types x zones x markets, with prices, and N1 machines with GPUs attached."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from ...config.gcp import GcpProvider as Section
from ..base import Gpu, Market, Offer, ProviderError
from ..calls import BACKGROUND
from .accelerators import ATTACHABLE_SERIES, attachable, gpu_of, instance_type, series
from .client import Client
from .images import Images
from .names import region_of
from .places import Places
from .prices import PriceKey, Prices, Size, usd_per_hour

MIB, MIB_IN_GIB = 2**20, 1024
GONE = frozenset({"OBSOLETE", "DELETED"})
DEFAULT_ARCHITECTURE = "X86_64"

log = structlog.get_logger(__name__)


class Catalogue:
    """Offers of all regions of one provider."""

    def __init__(
        self, name: str, section: Section, client: Client, images: Images, places: Places, prices: Prices
    ) -> None:
        self._name = name
        self._section = section
        self._client = client
        self._images = images
        self._places = places
        self._prices = prices

    def offers(self) -> tuple[Offer, ...]:
        """All regions that answer; an error only when none does, so that one broken region costs only itself."""
        architecture = self._images.image().architecture
        known = self._prices.known()
        found: list[Offer] = []
        errors: list[ProviderError] = []
        for region in self._section.regions:
            try:
                for zone in self._places.zones(region):
                    found += self._zone(zone, architecture, known)
            except ProviderError as error:
                log.warning("offers unavailable", region=region, code=error.code, detail=error.detail)
                errors.append(error)
        if len(errors) == len(self._section.regions):
            raise errors[0]
        return tuple(found)

    def _zone(self, zone: str, architecture: str, known: Mapping[PriceKey, float]) -> list[Offer]:
        cards = self._cards(zone) if self._section.accelerators else {}
        pages = self._client.pages("machineTypes.list", zone, BACKGROUND, zone=zone)
        return self._client.read(
            "machineTypes.list",
            zone,
            lambda: [
                offer
                for page in pages
                for one in page.items
                if self._is_allowed(one.name) and _boots(one, architecture)
                for gpu, size in _sizes(one, cards)
                for offer in self._both_markets(zone, gpu, size, known)
            ],
        )

    def _cards(self, zone: str) -> dict[str, int]:
        """The GPUs to attach that this zone has, with the most that one machine takes."""
        pages = self._client.pages("acceleratorTypes.list", zone, BACKGROUND, zone=zone)
        return self._client.read(
            "acceleratorTypes.list",
            zone,
            lambda: {
                one.name: one.maximum_cards_per_instance
                for page in pages
                for one in page.items
                if one.name in self._section.accelerators
            },
        )

    def _both_markets(
        self, zone: str, gpu: Gpu | None, size: Size, known: Mapping[PriceKey, float]
    ) -> Iterator[Offer]:
        region = region_of(zone)
        for market in Market:
            yield Offer(
                provider=self._name,
                region=region,
                zone=zone,
                instance_type=instance_type(size.machine_type, size.card, size.cards),
                market=market,
                cpus=size.cpus,
                memory_bytes=int(size.memory_gib * MIB_IN_GIB) * MIB,
                gpu=gpu,
                usd_per_hour=usd_per_hour(known, region, market, size),
            )

    def _is_allowed(self, machine_type: str) -> bool:
        globs = self._section.machine_types
        return not globs or any(fnmatch.fnmatchcase(machine_type, glob) for glob in globs)


def _sizes(one: Any, cards: Mapping[str, int]) -> Iterator[tuple[Gpu | None, Size]]:
    """The machine type as it is, and with every number of every GPU that may be attached to it."""
    cpus, memory_gib = one.guest_cpus, one.memory_mb / MIB_IN_GIB
    if one.accelerators:
        first = one.accelerators[0]
        gpu = gpu_of(first.guest_accelerator_type, first.guest_accelerator_count)
        # What has accelerators that we don't know is not a plain machine either.
        if gpu is not None:
            yield gpu, Size(one.name, cpus, memory_gib, first.guest_accelerator_type, gpu.count)
        return
    yield None, Size(one.name, cpus, memory_gib)
    if series(one.name) != ATTACHABLE_SERIES:
        return
    for card, most in sorted(cards.items()):
        for count in attachable(card, cpus, memory_gib, most):
            yield gpu_of(card, count), Size(one.name, cpus, memory_gib, card, count)


def _boots(one: Any, architecture: str) -> bool:
    return (one.architecture or DEFAULT_ARCHITECTURE) == architecture and one.deprecated.state not in GONE

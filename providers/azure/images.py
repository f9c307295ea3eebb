"""The machine image of a region: what a launch must say of it, and on what it runs; kept for an hour."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...config.azure import AzureProvider as Section
from ..base import InstanceNotFound, InvalidConfig, Scope
from ..calls import READING
from .client import Client, Json, plain

AGE_SECONDS = 3600.0
NEWEST = "latest"
GENERATIONS = {"V1": "V1", "V2": "V2"}
READ_IMAGE = "Microsoft.Compute/locations/publishers/artifacttypes/offers/skus/versions/read"
READ_OWN_IMAGE = "Microsoft.Compute/images/read"
READ_GALLERY = "Microsoft.Compute/galleries/images/read"


@dataclass(frozen=True)
class Image:
    """`reference` and `plan` go into the call; `root_gib` is the smallest disk it fits on, 0 when not told.

    `architecture` is ``x64`` or ``Arm64``, `generation` ``V1``, ``V2`` or empty when not told.
    """

    name: str
    reference: Mapping[str, str]
    architecture: str = "x64"
    generation: str = ""
    root_gib: int = 0
    plan: Mapping[str, str] | None = None


class Images:
    """Images by region with their age. `monotonic` is in seconds."""

    def __init__(self, client: Client, section: Section, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._section = section
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, Image]] = {}

    def of(self, region: str) -> Image:
        """Raises InvalidConfig (scope region) when there is no such image."""
        with self._lock:
            known = self._found.get(region)
        if known is not None and self._monotonic() - known[0] < AGE_SECONDS:
            return known[1]
        try:
            image = self._look_up(region)
        except InstanceNotFound as error:
            raise _missing(error.detail) from error
        with self._lock:
            self._found[region] = (self._monotonic(), image)
        return image

    def _look_up(self, region: str) -> Image:
        name = self._section.image
        if not name.startswith("/"):
            return self._of_market(region, name)
        parts = name.strip("/").split("/")
        if parts[6].lower() == "galleries":
            return self._of_gallery(region, name, parts)
        group, own = parts[3], parts[7]
        found = self._client.call(
            READ_OWN_IMAGE, region, READING, lambda: plain(self._client.compute.images.get(group, own))
        )
        return Image(name, {"id": name}, generation=_generation(found))

    def _of_market(self, region: str, urn: str) -> Image:
        publisher, offer, sku, version = urn.split(":")
        exact = self._newest(region, publisher, offer, sku) if version.lower() == NEWEST else version
        found = self._client.call(
            READ_IMAGE,
            region,
            READING,
            lambda: plain(
                self._client.compute.virtual_machine_images.get(region, publisher, offer, sku, exact)
            ),
        )
        properties = _mapping(found.get("properties"))
        reference = {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
        gib = _mapping(properties.get("osDiskImage")).get("sizeInGb") or 0
        return Image(
            urn, reference, _architecture(found), _generation(found), int(gib), _plan(properties.get("plan"))
        )

    def _newest(self, region: str, publisher: str, offer: str, sku: str) -> str:
        listed = self._client.call(
            READ_IMAGE,
            region,
            READING,
            lambda: [
                plain(one)
                for one in self._client.compute.virtual_machine_images.list(
                    region, publisher, offer, sku, top=1, orderby="name desc"
                )
            ],
        )
        if not listed:
            raise _missing(f"{publisher}:{offer}:{sku} has no image in {region}")
        return str(listed[0]["name"])

    def _of_gallery(self, region: str, name: str, parts: list[str]) -> Image:
        group, gallery, image = parts[3], parts[7], parts[9]
        found = self._client.call(
            READ_GALLERY,
            region,
            READING,
            lambda: plain(self._client.compute.gallery_images.get(group, gallery, image)),
        )
        plan = _mapping(found.get("properties")).get("purchasePlan")
        return Image(name, {"id": name}, _architecture(found), _generation(found), plan=_plan(plan))


def _architecture(found: Json) -> str:
    return str(_mapping(found.get("properties")).get("architecture") or "x64")


def _generation(found: Json) -> str:
    return GENERATIONS.get(str(_mapping(found.get("properties")).get("hyperVGeneration") or ""), "")


def _plan(plan: Any) -> Mapping[str, str] | None:
    if not isinstance(plan, Mapping) or not plan.get("name"):
        return None
    return {key: str(plan[key]) for key in ("name", "publisher", "product") if plan.get(key)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _missing(detail: str) -> InvalidConfig:
    return InvalidConfig(detail, scope=Scope.REGION, hint="correct image of this provider in fleet.yaml")

"""`providers.*: {type: gcp}` - Compute Engine. A subnetwork belongs to one region and is given per region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .daemon import check_web_url
from .fields import Settings, Text, Texts, Whole, either, no_duplicates
from .identity import WithIdentity

DEFAULT_IMAGE_FAMILY = "ubuntu-2404-lts-amd64"
DEFAULT_IMAGE_PROJECT = "ubuntu-os-cloud"
_REGION = re.compile(r"[a-z]+-[a-z]+\d{1,2}")
_PROJECT = r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$"
_RESOURCE = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"


def _check_region(text: str) -> str:
    if re.fullmatch(rf"{_REGION.pattern}-[a-z0-9]+", text):
        region = text.rpartition("-")[0]
        raise ValueError(f"'{text}' is a zone; the region is '{region}' (zones go under zones)")
    if not _REGION.fullmatch(text):
        raise ValueError(f"'{text}' is not a Google Cloud region; write one such as us-central1")
    return text


def _every_region(value: object) -> object:
    """A plain text belongs to the only region: it is filed under ``*`` until that is known."""
    return value if isinstance(value, Mapping) or value is None else {"*": value}


Region = Annotated[Text, AfterValidator(_check_region)]
Project = Annotated[Text, Field(pattern=_PROJECT, examples=["acme-ml"])]
Resource = Annotated[Text, Field(pattern=_RESOURCE)]
Subnetwork = Annotated[
    Text, Field(pattern=r"^(projects/[a-z0-9.:-]+/regions/[a-z0-9-]+/subnetworks/)?[a-z][-a-z0-9]{0,62}$")
]
_TEXT = {"type": "string"}
SubnetworkByRegion = Annotated[
    dict[str, Subnetwork],
    BeforeValidator(_every_region),
    either(_TEXT, {"type": "object", "additionalProperties": _TEXT}),
]


class GcpAuth(Settings):
    """A credentials file (service account key, workload identity federation, impersonation).

    Empty means Application Default Credentials: GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, or the machine's own
    service account.
    """

    credentials_file: Path | None = None


class GcpImage(Settings):
    """Exactly one of `family` (its newest image) and `name`, in `project` (by default the provider's)."""

    family: Resource | None = None
    name: Resource | None = None
    project: Project | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> GcpImage:
        if (self.family is None) == (self.name is None):
            raise ValueError("write exactly one of family and name")
        return self


class GcpProvider(WithIdentity):
    """Compute Engine. `machine_types` are globs (``g2-*``); empty allows all. `endpoint_url` is for emulators.

    `accelerators` are the GPUs to attach to N1 machines (``nvidia-tesla-t4``); types that have GPUs need none of it.
    """

    type: Literal["gcp"]
    auth: GcpAuth = GcpAuth()
    project: Project
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=50), AfterValidator(no_duplicates)]
    zones: Annotated[Texts, AfterValidator(no_duplicates)] = ()
    endpoint_url: Annotated[Text, AfterValidator(check_web_url)] | None = None
    network: (
        Annotated[Text, Field(pattern=r"^(projects/[a-z0-9.:-]+/global/networks/)?[a-z][-a-z0-9]{0,62}$")]
        | None
    ) = None
    subnetwork: SubnetworkByRegion = Field(default_factory=dict)
    external_ip: bool = True
    network_tags: Annotated[tuple[Resource, ...], Field(max_length=64)] = ()
    image: GcpImage = GcpImage(family=DEFAULT_IMAGE_FAMILY, project=DEFAULT_IMAGE_PROJECT)
    machine_types: Texts = ()
    accelerators: Annotated[tuple[Resource, ...], Field(max_length=20), AfterValidator(no_duplicates)] = ()
    disk_type: Resource | None = None
    service_account: Annotated[Text, Field(pattern=r"^(default|[^@\s]+@[^@\s]+)$")] | None = None
    secure_boot: bool = False
    max_instances: Whole | None = None

    @model_validator(mode="after")
    def _places_agree(self) -> GcpProvider:
        for zone in self.zones:
            if zone.rpartition("-")[0] not in self.regions:
                raise ValueError(f"zones names '{zone}', which is not in regions")
        if "*" in self.subnetwork and len(self.regions) > 1:
            raise ValueError(f"subnetwork belongs to one region: write it as {{{self.regions[0]}: ..., ...}}")
        stray = next((region for region in self.subnetwork if region not in (*self.regions, "*")), None)
        if stray is not None:
            raise ValueError(f"subnetwork names '{stray}', which is not in regions")
        if self.subnetwork and self.network is not None:
            raise ValueError("write network or subnetwork, not both: a subnetwork knows its network")
        return self

    def subnetwork_in(self, region: str) -> str | None:
        """The subnetwork to launch into; None means the network's own in that region."""
        return self.subnetwork.get(region) or self.subnetwork.get("*")

    @property
    def image_project(self) -> str:
        """The project that the image lies in."""
        return self.image.project or self.project

    def can_always_prove(self) -> bool:
        """Compute Engine gives identity tokens to machines with a service account only."""
        return self.service_account is not None

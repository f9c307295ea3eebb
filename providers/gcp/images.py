"""The machine image: the newest of a family, or one by name. Images belong to no region; kept for an hour."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...config.gcp import GcpProvider as Section
from ..base import InvalidConfig, ProviderError, Scope
from ..calls import READING
from .client import Client
from .errors import reason_of

AGE_SECONDS = 3600.0
UEFI = "UEFI_COMPATIBLE"
DEFAULT_ARCHITECTURE = "X86_64"


@dataclass(frozen=True)
class Image:
    """What a launch must know. `source` is as in fleet.yaml: a retry sends the same when a family moves on."""

    name: str
    source: str
    disk_gib: int
    architecture: str
    is_uefi: bool


class Images:
    """The one image of a provider with its age. `monotonic` is in seconds."""

    def __init__(self, client: Client, section: Section, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._section = section
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: tuple[float, Image] | None = None

    def image(self) -> Image:
        """Raises InvalidConfig (scope provider) when there is no such image."""
        with self._lock:
            known = self._known
        if known is not None and self._monotonic() - known[0] < AGE_SECONDS:
            return known[1]
        found = self._look_up()
        with self._lock:
            self._known = (self._monotonic(), found)
        return found

    def _look_up(self) -> Image:
        wanted, project = self._section.image, self._section.image_project
        folder = f"projects/{project}/global/images"
        fields: dict[str, Any] = {"image": wanted.name}
        action, source = "images.get", f"{folder}/{wanted.name}"
        if wanted.family is not None:
            action, fields = "images.getFromFamily", {"family": wanted.family}
            source = f"{folder}/family/{wanted.family}"
        try:
            found = self._client.call(action, project, READING, **{**fields, "project": project})
        except ProviderError as error:
            if isinstance(error, InvalidConfig) or reason_of(error) == "notFound":
                hint = "correct image of this provider in fleet.yaml"
                raise InvalidConfig(error.detail, scope=Scope.PROVIDER, hint=hint) from error
            raise
        return Image(
            name=found.name,
            source=source,
            disk_gib=int(found.disk_size_gb),
            architecture=found.architecture or DEFAULT_ARCHITECTURE,
            is_uefi=any(feature.type_ == UEFI for feature in found.guest_os_features),
        )

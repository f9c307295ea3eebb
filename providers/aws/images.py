"""The machine image of a region: by id, by SSM parameter, or the newest that a filter finds; kept for an hour."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...config.aws import AwsProvider as Section
from ...config.aws import ImageFilter
from ..base import InvalidConfig, Scope
from ..calls import READING
from .client import Client

AGE_SECONDS = 3600.0


@dataclass(frozen=True)
class Image:
    """What a launch must know of an AMI. `root_gib` is the smallest root disk it fits on."""

    id: str
    root_device: str
    root_gib: int
    architecture: str


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
        image = self._look_up(region)
        with self._lock:
            self._found[region] = (self._monotonic(), image)
        return image

    def _look_up(self, region: str) -> Image:
        source = self._section.image
        if source.filter is not None:
            return self._newest(region, source.filter)
        image_id = (
            self._section.image_id(region) if source.ssm is None else self._parameter(region, source.ssm)
        )
        found = self._describe(region, ImageIds=[image_id])
        if not found:
            raise _missing(f"{image_id} is not an AMI in {region}")
        return _read(found[0])

    def _parameter(self, region: str, path: str) -> str:
        answer = self._client.call("ssm:get_parameter", region, READING, Name=path)
        return self._client.read("ssm:GetParameter", region, lambda: str(answer["Parameter"]["Value"]))

    def _newest(self, region: str, wanted: ImageFilter) -> Image:
        filters = [{"Name": "name", "Values": [wanted.name]}, {"Name": "state", "Values": ["available"]}]
        found = self._describe(region, Owners=[wanted.owner], Filters=filters)
        if not found:
            raise _missing(f"{wanted.owner} has no image named {wanted.name!r} in {region}")
        return _read(max(found, key=lambda image: (image.get("CreationDate", ""), image["ImageId"])))

    def _describe(self, region: str, **what: Any) -> list[dict[str, Any]]:
        pages = self._client.pages("ec2:describe_images", region, READING, **what)
        action = "ec2:DescribeImages"
        return self._client.read(
            action, region, lambda: [image for page in pages for image in page["Images"]]
        )


def _read(image: dict[str, Any]) -> Image:
    device = image.get("RootDeviceName") or "/dev/xvda"
    disks = [
        disk.get("Ebs", {})
        for disk in image.get("BlockDeviceMappings", ())
        if disk.get("DeviceName") == device
    ]
    root_gib = max((int(disk.get("VolumeSize") or 0) for disk in disks), default=0)
    return Image(str(image["ImageId"]), device, root_gib, image.get("Architecture") or "x86_64")


def _missing(detail: str) -> InvalidConfig:
    return InvalidConfig(detail, scope=Scope.REGION, hint="correct image of this provider in fleet.yaml")

"""DescribeInstances: all of ours, page by page, in every region, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..base import TAG_SERVER, CloudInstance, CloudState, InstanceNotFound, Market
from ..calls import READING
from .client import Client

PAGE_SIZE = 1000
REGIONS_AT_ONCE = 8
STATES = {
    "pending": CloudState.PENDING,
    "running": CloudState.RUNNING,
    "shutting-down": CloudState.STOPPING,
    "stopping": CloudState.STOPPING,
    # A stopped machine still costs its disk and can be started again: it has not ended.
    "stopped": CloudState.STOPPING,
    "terminated": CloudState.TERMINATED,
}
ACTION = "ec2:DescribeInstances"


class Listing:
    """Instances that bear this server's tag."""

    def __init__(self, name: str, server_id: str, regions: Sequence[str], client: Client) -> None:
        self._name = name
        self._server_id = server_id
        self._regions = regions
        self._client = client

    def all(self) -> tuple[CloudInstance, ...]:
        """Every region's, terminated ones too for as long as EC2 shows them (about an hour)."""
        if len(self._regions) == 1:
            return self.region(self._regions[0])
        with ThreadPoolExecutor(min(REGIONS_AT_ONCE, len(self._regions)), "aws-list") as threads:
            return tuple(one for part in threads.map(self.region, self._regions) for one in part)

    def region(self, region: str, filters: Sequence[dict[str, Any]] = ()) -> tuple[CloudInstance, ...]:
        """Ours in `region` that match `filters` too."""
        ours = {"Name": f"tag:{TAG_SERVER}", "Values": [self._server_id]}
        pages = self._client.pages(
            "ec2:describe_instances", region, READING, Filters=[ours, *filters], MaxResults=PAGE_SIZE
        )
        return self._client.read(ACTION, region, lambda: tuple(self._read(region, pages)))

    def one(self, region: str, instance_id: str) -> dict[str, Any]:
        """EC2's own description. InstanceNotFound if there is none, or it doesn't bear this server's tag (yet)."""
        pages = self._client.pages("ec2:describe_instances", region, READING, InstanceIds=[instance_id])
        found = self._client.read(ACTION, region, lambda: list(_instances(pages)))
        for instance in found:
            if (
                instance.get("InstanceId") == instance_id
                and self.describe(region, instance).server == self._server_id
            ):
                return instance
        raise InstanceNotFound(f"{instance_id} in {region} is not an instance of this server")

    def describe(self, region: str, instance: dict[str, Any]) -> CloudInstance:
        """EC2's description as the port's."""
        launched = instance.get("LaunchTime")
        spot = instance.get("InstanceLifecycle") == "spot"
        return CloudInstance(
            provider=self._name,
            ref=f"{region}/{instance['InstanceId']}",
            state=STATES[instance["State"]["Name"]],
            tags={tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())},
            instance_type=instance.get("InstanceType", ""),
            region=region,
            zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
            market=(Market.SPOT if spot else Market.ON_DEMAND).value,
            launched_at=launched.timestamp() if launched is not None else None,
            address=instance.get("PublicIpAddress") or instance.get("PrivateIpAddress") or "",
            detail=_why(instance),
            identity=str(instance.get("OwnerId", "")),
        )

    def _read(self, region: str, pages: Any) -> list[CloudInstance]:
        found = [self.describe(region, instance) for instance in _instances(pages)]
        # A filter that a cloud ignores must not make another server's instances ours.
        return [instance for instance in found if instance.server == self._server_id]


def _instances(pages: Any) -> list[dict[str, Any]]:
    return [
        with_account(reservation, one)
        for page in pages
        for reservation in page["Reservations"]
        for one in reservation["Instances"]
    ]


def with_account(reservation: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """EC2 says whose an instance is on its reservation only."""
    return {**instance, "OwnerId": reservation.get("OwnerId", "")}


def _why(instance: dict[str, Any]) -> str:
    reason = instance.get("StateReason") or {}
    return str(reason.get("Message") or instance.get("StateTransitionReason") or "")

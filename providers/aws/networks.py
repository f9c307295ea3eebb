"""Zones we may launch in, and the subnet to use in each: those of fleet.yaml, or the default network's."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping

from ...config.aws import AwsProvider as Section
from ..base import InvalidConfig, Scope
from ..calls import READING
from .client import Client

AGE_SECONDS = 600.0

SubnetsByZone = Mapping[str, tuple[str, ...]]


class Networks:
    """Subnets by region and zone with their age. `monotonic` is in seconds."""

    def __init__(self, client: Client, section: Section, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._section = section
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: dict[str, tuple[float, SubnetsByZone]] = {}

    def of(self, region: str) -> SubnetsByZone:
        """Subnet ids by zone. Raises InvalidConfig (scope region) when there is nowhere to launch."""
        with self._lock:
            known = self._found.get(region)
        if known is not None and self._monotonic() - known[0] < AGE_SECONDS:
            return known[1]
        subnets = self._look_up(region)
        with self._lock:
            self._found[region] = (self._monotonic(), subnets)
        return subnets

    def subnet(self, region: str, zone: str, token: str) -> str:
        """A subnet of `zone`, always the same for the same token, spread over the zone's subnets otherwise."""
        choice = self.of(region).get(zone)
        if not choice:
            raise InvalidConfig(
                f"no subnet to launch into in {zone}",
                scope=Scope.ZONE,
                hint="add a subnet of this zone to subnets, or leave the zone out",
            )
        return choice[int(hashlib.sha256(token.encode()).hexdigest(), 16) % len(choice)]

    def _look_up(self, region: str) -> SubnetsByZone:
        wanted = self._section.subnets_in(region)
        if wanted:
            pages = self._client.pages("ec2:describe_subnets", region, READING, SubnetIds=list(wanted))
        else:
            default = [{"Name": "default-for-az", "Values": ["true"]}]
            pages = self._client.pages("ec2:describe_subnets", region, READING, Filters=default)
        action = "ec2:DescribeSubnets"
        rows = self._client.read(
            action,
            region,
            lambda: [
                (str(one["AvailabilityZone"]), str(one["SubnetId"]))
                for page in pages
                for one in page["Subnets"]
            ],
        )
        if not rows:
            raise InvalidConfig(
                f"region {region} has no default network",
                scope=Scope.REGION,
                hint="write subnets of this provider in fleet.yaml",
            )
        return {zone: tuple(sorted(one for at, one in rows if at == zone)) for zone, _ in sorted(rows)}

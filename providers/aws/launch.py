"""RunInstances: one call with our token, our tags and everything else that makes the instance ours."""

from __future__ import annotations

import math
import re
from typing import Any

from ...config.aws import AwsProvider as Section
from ..base import (
    TAG_INTENT,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Market,
    ProviderError,
    Scope,
)
from ..calls import IN_TICK
from .client import Client
from .errors import TOKEN_REUSED, code_of
from .images import Image, Images
from .listing import Listing, with_account
from .networks import Networks

GIB = 2**30
DEFAULT_DISK_GIB = 50
"""Without a `disk` in the pool: room for an environment with CUDA libraries and a modest data set."""
MAX_USER_DATA_BYTES = 16_384
"""EC2's own limit, before base64."""
MAX_TOKEN_CHARACTERS = 64
IMDS_HOPS = 1
"""Tasks in containers can't reach the instance's credentials."""
_TOKEN = re.compile(r"[\x21-\x7e]+")


class Launcher:
    """Turns launch requests into instances."""

    def __init__(
        self, client: Client, section: Section, images: Images, networks: Networks, listing: Listing
    ) -> None:
        self._client = client
        self._section = section
        self._images = images
        self._networks = networks
        self._listing = listing

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """See `Provider.launch`. A token that was used before gives what it gave then."""
        region = request.offer.region
        parameters = self.parameters(request)
        try:
            answer = self._client.call("ec2:run_instances", region, IN_TICK, creates=True, **parameters)
        except ProviderError as error:
            if code_of(error) != TOKEN_REUSED:
                raise
            return self._adopt(request, error)
        found = self._client.read(
            "ec2:RunInstances",
            region,
            lambda: [
                self._listing.describe(region, with_account(answer, one)) for one in answer["Instances"]
            ],
        )
        return LaunchResult(tuple(found), self._shortfall(request, len(found)))

    def parameters(self, request: LaunchRequest) -> dict[str, Any]:
        """The arguments of RunInstances: the same for the same request, image and network."""
        self._refuse_what_cannot_work(request)
        region, zone = request.offer.region, request.offer.zone
        image = self._images.of(region)
        asked: dict[str, Any] = {
            "ClientToken": request.token,
            "MinCount": 1,
            "MaxCount": request.count,
            "ImageId": image.id,
            "InstanceType": request.offer.instance_type,
            "UserData": request.user_data,
            "InstanceInitiatedShutdownBehavior": "terminate",
            "BlockDeviceMappings": [_root_disk(image, request.disk_bytes)],
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": IMDS_HOPS,
            },
            "TagSpecifications": _tags(request),
            "Placement": {"AvailabilityZone": zone},
            "SubnetId": self._networks.subnet(region, zone, request.token),
        }
        return {**asked, **self._from_section(region), **_market(request)}

    def _from_section(self, region: str) -> dict[str, Any]:
        section, asked = self._section, dict[str, Any]()
        if section.security_groups_in(region):
            asked["SecurityGroupIds"] = list(section.security_groups_in(region))
        if section.instance_profile is not None:
            key = "Arn" if section.instance_profile.startswith("arn:") else "Name"
            asked["IamInstanceProfile"] = {key: section.instance_profile}
        if section.key_name is not None:
            asked["KeyName"] = section.key_name
        return asked

    def _refuse_what_cannot_work(self, request: LaunchRequest) -> None:
        if request.offer.region not in self._section.regions:
            raise InvalidConfig(
                f"region {request.offer.region} is not one of this provider's",
                scope=Scope.REGION,
                hint="add it to regions",
            )
        if not _TOKEN.fullmatch(request.token) or len(request.token) > MAX_TOKEN_CHARACTERS:
            raise InvalidConfig(
                f"token {request.token!r} is not 1 to {MAX_TOKEN_CHARACTERS} ASCII characters"
            )
        if request.count < 1:
            raise InvalidConfig(f"count {request.count}: a launch asks for at least one instance")
        size_bytes = len(request.user_data.encode())
        if size_bytes > MAX_USER_DATA_BYTES:
            raise InvalidConfig(
                f"user-data has {size_bytes} bytes, EC2 takes {MAX_USER_DATA_BYTES}", scope=Scope.PROVIDER
            )

    def _adopt(self, request: LaunchRequest, error: ProviderError) -> LaunchResult:
        """The token was used with other parameters (a newer image since): what it made then is what we want."""
        filters = [{"Name": f"tag:{TAG_INTENT}", "Values": [request.token]}]
        made = [
            one for one in self._listing.region(request.offer.region, filters) if one.intent == request.token
        ]
        if not made:
            raise error
        return LaunchResult(tuple(made))

    def _shortfall(self, request: LaunchRequest, got: int) -> tuple[ProviderError, ...]:
        if got >= request.count:
            return ()
        return (InsufficientCapacity(f"{request.offer.key}: {got} of {request.count} instances"),)


def _root_disk(image: Image, disk_bytes: int | None) -> dict[str, Any]:
    wanted_gib = DEFAULT_DISK_GIB if disk_bytes is None else math.ceil(disk_bytes / GIB)
    ebs = {"VolumeType": "gp3", "VolumeSize": max(1, wanted_gib, image.root_gib), "DeleteOnTermination": True}
    return {"DeviceName": image.root_device, "Ebs": ebs}


def _tags(request: LaunchRequest) -> list[dict[str, Any]]:
    tags = {"Name": request.token, **request.tags}
    listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    kinds = ["instance", "volume"]
    if request.offer.market is Market.SPOT:
        kinds.append("spot-instances-request")
    return [{"ResourceType": kind, "Tags": listed} for kind in kinds]


def _market(request: LaunchRequest) -> dict[str, Any]:
    if request.offer.market is not Market.SPOT:
        return {}
    # One-time only: a persistent request buys another instance after each one we terminate.
    spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    if request.max_usd_per_hour is not None:
        spot["MaxPrice"] = f"{request.max_usd_per_hour:.6f}"
    return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": spot}}

"""EC2 under the contract: moto behind the fault layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import boto3
import pytest
from contract.harness import Act, FaultCase, Harness
from emulators.aws.server import AwsServer
from hostler.config.aws import AwsProvider as Section
from hostler.providers.aws.adapter import AwsProvider
from hostler.providers.base import (
    TAG_SERVER,
    AuthFailed,
    Gpu,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Market,
    Offer,
    Provider,
    ProviderContext,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)
from hostler.providers.calls import BACKGROUND, IN_TICK

REGION = "us-east-1"
IMAGE_PARAMETER = "/hostler/image"
ALWAYS = 1000

ERROR_TABLE: tuple[tuple[str, int, type[ProviderError], Scope, bool], ...] = (
    ("InsufficientInstanceCapacity", 500, InsufficientCapacity, Scope.OFFER, False),
    ("SpotMaxPriceTooLow", 400, InsufficientCapacity, Scope.OFFER, False),
    ("InsufficientFreeAddressesInSubnet", 400, InsufficientCapacity, Scope.ZONE, False),
    ("MaxSpotInstanceCountExceeded", 400, QuotaExceeded, Scope.REGION, False),
    ("VcpuLimitExceeded", 400, QuotaExceeded, Scope.REGION, False),
    ("InstanceLimitExceeded", 400, QuotaExceeded, Scope.REGION, False),
    ("RequestLimitExceeded", 503, Throttled, Scope.REGION, False),
    ("Throttling", 400, Throttled, Scope.REGION, False),
    ("Unsupported", 400, InvalidConfig, Scope.OFFER, False),
    ("InvalidAMIID.NotFound", 400, InvalidConfig, Scope.REGION, False),
    ("InvalidAMIID.Malformed", 400, InvalidConfig, Scope.REGION, False),
    ("InvalidSubnetID.NotFound", 400, InvalidConfig, Scope.ZONE, False),
    ("InvalidParameterValue", 400, InvalidConfig, Scope.REGION, False),
    ("InvalidKeyPair.NotFound", 400, InvalidConfig, Scope.REGION, False),
    ("SomethingNobodyHeardOf", 400, InvalidConfig, Scope.REGION, False),
    ("AuthFailure", 401, AuthFailed, Scope.PROVIDER, False),
    ("ExpiredToken", 400, AuthFailed, Scope.PROVIDER, False),
    ("RequestExpired", 400, AuthFailed, Scope.PROVIDER, False),
    ("UnauthorizedOperation", 403, AuthFailed, Scope.PROVIDER, False),
    ("OptInRequired", 401, AuthFailed, Scope.REGION, False),
    ("InternalError", 500, Unavailable, Scope.REGION, True),
    ("Unavailable", 503, Unavailable, Scope.REGION, True),
    ("IdempotentParameterMismatch", 400, InvalidConfig, Scope.OFFER, True),
)


class AwsHarness(Harness):
    name = "aws"

    def __init__(self, server: AwsServer, image_ids: Sequence[str]) -> None:
        super().__init__()
        self.server = server
        self.cloud = server.cloud
        self.image_id, self.newer_image_id = image_ids[:2]
        self.waits: list[float] = []
        self.cloud.reset()
        self.cloud.parameters[IMAGE_PARAMETER] = self.image_id
        self.cloud.on_demand_usd = {"g5.xlarge": "1.006000", "p4d.24xlarge": "32.7726"}

    def section(self, **changes: Any) -> Section:
        given: dict[str, Any] = {
            "type": "aws",
            "regions": [REGION],
            "endpoint_url": self.server.url,
            "image": {"ssm": IMAGE_PARAMETER},
            "instance_types": ["g5.xlarge", "t3.micro"],
        }
        return Section.model_validate({**given, **changes})

    def provider(self, server_id: str | None = None, **changes: Any) -> AwsProvider:
        context = ProviderContext(server_id or self.server_id, "/nonexistent")
        return AwsProvider("aws", self.section(**changes), context, sleep=self.waits.append)

    def offer(self, market: Market = Market.SPOT) -> Offer:
        return Offer("aws", REGION, "us-east-1a", "g5.xlarge", market, 4.0, 16 * 2**30, Gpu("A10G", 1), 0.3)

    def user_data(self) -> str:
        return "#!/bin/sh\nsleep 600\n"

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        self.cloud.lose_reply("RunInstances", times=IN_TICK.attempts)
        with pytest.raises(Unavailable) as caught:
            self.provider().launch(request)
        assert caught.value.maybe_created

    def fault_cases(self) -> Sequence[FaultCase]:
        launches = [
            FaultCase(
                f"launch {code}",
                self._failing("RunInstances", code, status),
                lambda provider: provider.launch(self.request()),
                error,
                scope,
                maybe_created,
            )
            for code, status, error, scope, maybe_created in ERROR_TABLE
        ]
        return (*launches, *self._other_verbs())

    def _other_verbs(self) -> Sequence[FaultCase]:
        def lists(provider: Provider) -> object:
            return provider.instances()

        def ends(provider: Provider) -> object:
            provider.terminate(provider.launch(self.request()).instances[0].ref)
            return None

        def offers(provider: Provider) -> object:
            return provider.offers()

        cases: tuple[tuple[str, str, int, Act, type[ProviderError], Scope], ...] = (
            ("DescribeInstances", "RequestLimitExceeded", 503, lists, Throttled, Scope.REGION),
            ("DescribeInstances", "ExpiredToken", 400, lists, AuthFailed, Scope.PROVIDER),
            ("DescribeInstances", "InternalError", 500, lists, Unavailable, Scope.REGION),
            ("TerminateInstances", "UnauthorizedOperation", 403, ends, AuthFailed, Scope.PROVIDER),
            ("TerminateInstances", "InvalidInstanceID.NotFound", 400, ends, InstanceNotFound, Scope.OFFER),
            ("GetParameter", "ParameterNotFound", 400, offers, InvalidConfig, Scope.REGION),
            (
                "DescribeInstanceTypeOfferings",
                "UnauthorizedOperation",
                403,
                offers,
                AuthFailed,
                Scope.PROVIDER,
            ),
        )
        return [
            FaultCase(
                f"{action} {code}",
                self._failing(action, code, status),
                act,
                error,
                scope,
                fresh=action == "GetParameter",
            )
            for action, code, status, act, error, scope in cases
        ]

    def _failing(self, action: str, code: str, status: int) -> Callable[[], object]:
        def arm() -> None:
            if action == "GetParameter":
                body = b'{"__type":"%s","message":"gone"}' % code.encode()
                self.cloud.answer(action, body, status=status, times=BACKGROUND.attempts)
            else:
                self.cloud.fail(action, code, status=status, times=BACKGROUND.attempts)

        return arm

    def heal(self) -> None:
        self.cloud.heal()

    def left(self) -> Sequence[str]:
        ec2 = self.ec2()
        mine = [{"Name": f"tag:{TAG_SERVER}", "Values": [self.server_id]}]
        pages = ec2.get_paginator("describe_instances").paginate(Filters=mine)
        alive = [
            one["InstanceId"]
            for page in pages
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
            if one["State"]["Name"] != "terminated"
        ]
        # Not the network interfaces: EC2 removes the first one with its instance, moto never does.
        disks = [one["VolumeId"] for one in ec2.describe_volumes(Filters=mine)["Volumes"]]
        requests = [name for name, state in self.cloud.spot_requests.items() if state == "active"]
        return [*alive, *disks, *requests]

    def ec2(self) -> Any:
        return boto3.client("ec2", region_name=REGION, endpoint_url=self.server.url)

    def missing_ref(self) -> str:
        return f"{REGION}/i-0123456789abcdef0"

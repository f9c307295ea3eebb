"""EC2 whose instances run: RunInstances boots a machine with the user-data it got, TerminateInstances ends it."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from api.daemons import DaemonProcess, daemon_process
from boot.machines import Machine, Machines, Site, site
from emulators.aws import query
from emulators.aws.cloud import Cloud, Forward
from emulators.aws.query import Answer, Request
from emulators.aws.server import AwsServer
from emulators.metadata import signing
from emulators.metadata.server import AwsMetadata

REGION = "us-east-1"
IMAGE_PARAMETER = "/hostler/image"
DUMMY_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
FLEET = """
version: 1
daemon:
  tick: 200ms
  listen: "{host}:{{port}}"
  state: "sqlite:///{{folder}}/state/state.db"
  lease_ttl: 30s
  dead_man: 90s
  bootstrap_timeout: 90s
limits: {{{{instances: 2, usd_per_hour: 1}}}}
providers:
  cloud:
    type: aws
    endpoint_url: {endpoint}
    regions: [us-east-1]
    image: {{{{ssm: /hostler/image}}}}
    instance_types: [c5.large]
    identity_trust: {trust}
pools:
  spot: {{{{providers: [cloud], market: spot, instances: 0..2, idle_timeout: 2s}}}}
queues:
  default: {{{{pools: [spot]}}}}
"""


@dataclass
class BootingCloud(Cloud):
    """The fault layer, with machines behind it."""

    boot: Callable[[str, str, str], Machine] | None = None
    """(instance id, account, user-data) -> its machine"""
    running: dict[str, Machine] = field(default_factory=dict)

    def _run_instances(self, request: Request, forward: Forward) -> Answer:
        answer = super()._run_instances(request, forward)
        if answer.status == 200:
            root = query.tree(answer.body)
            account = root.findtext("ownerId") or ""
            user_data = base64.b64decode(request.parameters["UserData"]).decode()
            for found in root.iter("instanceId"):
                name = found.text or ""
                if name not in self.running:
                    assert self.boot is not None
                    self.running[name] = self.boot(name, account, user_data)
        return answer

    def _remembering_ends(self, request: Request, answer: Answer) -> Answer:
        if request.action == "TerminateInstances" and answer.status == 200:
            for name in request.numbered("InstanceId"):
                self.running[name].pull_the_plug()
        return super()._remembering_ends(request, answer)


@dataclass
class AwsWorld:
    """A daemon that buys at the booting cloud."""

    daemon: DaemonProcess
    cloud: BootingCloud
    server: AwsServer

    @property
    def machines(self) -> list[Machine]:
        return list(self.cloud.running.values())

    def ec2(self) -> Any:
        return boto3.client("ec2", region_name=REGION, endpoint_url=self.server.url)

    def states(self) -> list[str]:
        """EC2's own word on every instance."""
        reservations = self.ec2().describe_instances()["Reservations"]
        return [one["State"]["Name"] for reservation in reservations for one in reservation["Instances"]]

    def messages(self, kind: str) -> list[str]:
        events = self.daemon.get("events", limit=200)["items"]
        return [one["message"] for one in events if one["kind"] == kind]

    def told(self) -> str:
        """All that helps to understand a failure."""
        consoles = [f"--- {one.folder}\n{one.console()}" for one in self.machines]
        return "\n".join([self.daemon.log()[-8_000:], *consoles])


@contextlib.contextmanager
def aws_world(
    folder: Path, *, make_machines: Callable[[Path, Site, ExitStack], Machines] = Machines
) -> Iterator[AwsWorld]:
    """A daemon that is not started yet, and EC2 before it."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        booted = make_machines(folder / "machines", site(stack), stack)
        server = stack.enter_context(AwsServer())
        for name, value in DUMMY_ACCOUNT.items():
            patch.setenv(name, value)
        authority = signing.authority("amazon")
        trust = folder / "amazon.pem"
        trust.write_bytes(authority.pem())
        cloud = BootingCloud()
        server.use(cloud)
        cloud.on_demand_usd = {"c5.large": "0.0850000000"}
        cloud.default_spot_usd = "0.034000"
        cloud.parameters[IMAGE_PARAMETER] = _an_image(server)
        cloud.boot = _boots(booted, signing.aws_signer(authority))
        with daemon_process(folder) as daemon:
            daemon.configure(FLEET.format(host=booted.site.host, endpoint=server.url, trust=trust))
            yield AwsWorld(daemon, cloud, server)


def _boots(booted: Machines, signer: signing.Signer) -> Callable[[str, str, str], Machine]:
    def boot(instance_id: str, account: str, user_data: str) -> Machine:
        service = AwsMetadata(instance_id, REGION, account, signer, user_data)
        return booted.boot(user_data, service)

    return boot


def _an_image(server: AwsServer) -> str:
    ec2: Any = boto3.client("ec2", region_name=REGION, endpoint_url=server.url)
    named = [
        {"Name": "name", "Values": ["ubuntu/images/*"]},
        {"Name": "architecture", "Values": ["x86_64"]},
    ]
    return str(min(image["ImageId"] for image in ec2.describe_images(Filters=named)["Images"]))

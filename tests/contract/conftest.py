"""Harnesses for the contract, and the guard that no test here reaches a real cloud."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from contract.aws_harness import REGION, AwsHarness
from contract.harness import Harness, terminate_all
from contract.local_harness import LocalHarness
from emulators.aws.server import AwsServer

_connect = socket.socket.connect


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dummy credentials, no shared files, no metadata service; a connection elsewhere fails loudly."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test wanted to reach {address}")
        _connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    _dummy_account(monkeypatch)


def _dummy_account(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture(scope="session")
def aws_server() -> Iterator[tuple[AwsServer, list[str]]]:
    """The emulator and the ids of images in it."""
    with pytest.MonkeyPatch.context() as patch, AwsServer() as server:
        _dummy_account(patch)
        ec2: Any = boto3.client("ec2", region_name=REGION, endpoint_url=server.url)
        named = [
            {"Name": "name", "Values": ["ubuntu/images/*"]},
            {"Name": "architecture", "Values": ["x86_64"]},
        ]
        found = ec2.describe_images(Filters=named)["Images"]
        yield server, sorted(image["ImageId"] for image in found)


@pytest.fixture
def aws(aws_server: tuple[AwsServer, list[str]], only_loopback: None) -> Iterator[AwsHarness]:
    """EC2; at the end nothing may be left."""
    harness = AwsHarness(*aws_server)
    yield harness
    harness.cloud.reset()
    _end(harness)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalHarness]:
    """The local provider; at the end no process may be left."""
    harness = LocalHarness(tmp_path)
    yield harness
    harness.heal()
    _end(harness)
    harness.close()


@pytest.fixture(params=["local", "aws"])
def harness(request: pytest.FixtureRequest) -> Harness:
    """Every adapter in turn."""
    found: Harness = request.getfixturevalue(request.param)
    return found


def _end(harness: Harness) -> None:
    terminate_all(harness.provider())
    assert harness.left() == []

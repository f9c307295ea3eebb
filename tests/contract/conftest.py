"""Harnesses for the contract, and the guard that no test here reaches a real cloud."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from contract.aws_harness import REGION, AwsHarness
from contract.harness import Harness, terminate_all
from contract.local_harness import LocalHarness
from emulators.aws.server import AwsServer

if TYPE_CHECKING:
    from contract.azure_harness import AzureHarness
    from contract.gcp_harness import GcpHarness
    from contract.kubernetes_harness import KubernetesHarness
    from contract.sshd import Sshd
    from contract.static_harness import StaticHarness
    from emulators.azure.server import AzureServer
    from emulators.gcp.server import GcpServer
    from emulators.kubernetes.server import KubernetesServer

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


@pytest.fixture(scope="session")
def gcp_server() -> Iterator[GcpServer]:
    """The emulator of Compute Engine."""
    # Google's libraries take seconds to import: only who tests them pays.
    from emulators.gcp.server import GcpServer

    with GcpServer() as server:
        yield server


@pytest.fixture
def gcp(
    gcp_server: GcpServer, only_loopback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GcpHarness]:
    """Compute Engine; at the end nothing may be left, and everything said was as Google's schema has it."""
    from contract.gcp_harness import GcpHarness

    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    harness = GcpHarness(gcp_server, tmp_path)
    yield harness
    violations = list(harness.cloud.violations)
    harness.cloud.reset()
    gcp_server.revoked = False
    _end(harness)
    assert violations + harness.cloud.violations == []


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """The emulator of Azure, over TLS."""
    from emulators.azure.server import AzureServer

    with AzureServer(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture
def azure(
    azure_server: AzureServer, only_loopback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AzureHarness]:
    """Azure; at the end nothing may be left, and everything said was as the SDK's types have it."""
    from contract.azure_harness import SECRET_VARIABLE, AzureHarness

    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    harness = AzureHarness(azure_server, tmp_path)
    monkeypatch.setenv(SECRET_VARIABLE, harness.cloud.secret)
    yield harness
    harness.heal()
    _end(harness)
    harness.close()
    assert harness.cloud.violations == []


@pytest.fixture(scope="session")
def kubernetes_server() -> Iterator[KubernetesServer]:
    """A fake cluster whose role is the one that our documentation has people apply."""
    from emulators.kubernetes.server import KubernetesServer

    with KubernetesServer() as server:
        yield server


@pytest.fixture
def kubernetes(
    kubernetes_server: KubernetesServer, only_loopback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KubernetesHarness]:
    """Pods; at the end nothing may be left, and all that was answered was as the API's schemas have it."""
    from contract.kubernetes_harness import KubernetesHarness

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    harness = KubernetesHarness(kubernetes_server, tmp_path)
    yield harness
    harness.cluster.reset()
    _end(harness)
    wrong, harness.cluster.wrong_answers = harness.cluster.wrong_answers, []
    assert wrong == []


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalHarness]:
    """The local provider; at the end no process may be left."""
    harness = LocalHarness(tmp_path)
    yield harness
    harness.heal()
    _end(harness)
    harness.close()


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Sshd], Path]]:
    """A few sshds, and the key that they all take."""
    from contract.static_harness import machines_in

    found, key = machines_in(tmp_path_factory.mktemp("machines"))
    yield found, key
    for machine in found:
        machine.stop()


@pytest.fixture
def static(
    machines: tuple[list[Sshd], Path], only_loopback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StaticHarness]:
    """Hosts over real sshds; at the end each is free, and no process of an instance is left."""
    from contract.static_harness import StaticHarness

    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    harness = StaticHarness(tmp_path, *machines)
    yield harness
    try:
        harness.heal()
        _end(harness)
    finally:
        harness.close()


@pytest.fixture(params=["local", "aws", "azure", "gcp", "kubernetes", "static"])
def harness(request: pytest.FixtureRequest) -> Harness:
    """Every adapter in turn."""
    found: Harness = request.getfixturevalue(request.param)
    return found


def _end(harness: Harness) -> None:
    terminate_all(harness.provider())
    assert harness.left() == []

"""The agent that our user-data brings up on a machine of each cloud proves who it is, and hears the cloud's notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from api.serving import FLEET, Served, serving, wait_until
from boot.machines import Machine, Machines, Site
from emulators.metadata import signing
from emulators.metadata.server import AwsMetadata, AzureMetadata, GcpMetadata, Service
from hostler.agent_bootstrap.package import build_zipapp
from hostler.fleet.api.state import Zipapp
from hostler.fleet.daemon.boot_script import BootScript
from hostler.fleet.observer.identity import IdentityGate
from hostler.fleet.store import instances

ID = "h-aaaaaaaaaaaa"
TOKEN = "hj_the-join-token"
SUBSCRIPTION = "8d10da13-8125-4ba9-a717-bf7490507b3d"
SUBNET = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/ml/providers/Microsoft.Network/virtualNetworks/n/subnets/s"
)
SECTIONS = {
    "aws": "type: aws, regions: [us-east-1]",
    "gcp": "type: gcp, project: acme-ml, regions: [us-central1], service_account: default",
    "azure": f"type: azure, subscription: {SUBSCRIPTION}, resource_group: ml, regions: [eastus], subnets: {SUBNET}",
}
REFS = {"aws": "us-east-1/i-0a1b", "gcp": f"us-central1-a/{ID}", "azure": ID}
IDENTITIES = {"aws": "123456789012", "gcp": "4520031799277581759", "azure": AzureMetadata("").vm_id}
PATIENCE_SECONDS = 60.0


@dataclass
class World:
    """A server that knows one launch, and machines to boot for it."""

    served: Served
    machines: Machines
    google: signing.GoogleSigner
    folder: Path

    def configure(self, kind: str) -> None:
        trust = self.folder / "trust"
        authority = signing.authority("cloud")
        trust.write_bytes(self.google.key_set() if kind == "gcp" else authority.pem())
        section = f"here: {{{SECTIONS[kind]}, identity: required, identity_trust: {trust}}}"
        text = FLEET.replace("here: {type: local, max_instances: 3}", section)
        # The fleet would dial this one; the machines of this test are told the server's real address by the script.
        text = text.replace('listen: "127.0.0.1:0"', 'listen: "127.0.0.1:0", url: "https://fleet.example"')
        assert section in text and "fleet.example" in text
        self.served.settings.apply(text.replace("STATE", str(self.folder / "state.db")), "the test")

    def launched(self, kind: str, *, known: bool = True) -> str:
        """The row of a launch, and the user-data that it was sent with."""
        self.configure(kind)
        self.served.launching(ID, TOKEN)
        ref, identity = (REFS[kind], IDENTITIES[kind]) if known else (None, None)
        self.note(ref=ref, identity=identity)
        state = self.served.state
        script = BootScript(lambda: state.config.fleet, self.served.url, state.zipapp.sha256, "")
        return script(ID, TOKEN, "here")

    def note(self, **values: Any) -> None:
        self.served.database.write(lambda conn: instances.note(conn, ID, **values))

    def row(self) -> dict[str, Any]:
        with self.served.database.read() as conn:
            found = instances.get(conn, ID)
        assert found is not None
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        with self.served.client() as client:
            shown = client.get("/api/v1/events", params={"limit": 100}).json()
        return [one for one in shown["items"] if one["kind"] == kind]

    def until(self, machine: Machine, state: str) -> None:
        try:
            wait_until(lambda: self.row()["state"] == state, PATIENCE_SECONDS)
        except AssertionError:
            raise AssertionError(f"{self.row()}\n{machine.console()}") from None


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        served = stack.enter_context(serving(tmp_path))
        served.state.zipapp = Zipapp.of(build_zipapp())
        served.state.identity = IdentityGate(served.url)
        yield World(served, Machines(tmp_path, Site(), stack), signing.GoogleSigner(), tmp_path)


def metadata_of(kind: str, world: World) -> Service:
    authority = signing.authority("cloud")
    if kind == "aws":
        return AwsMetadata("i-0a1b", signer=signing.aws_signer(authority))
    if kind == "gcp":
        return GcpMetadata(ID, signer=world.google)
    return AzureMetadata(ID, subscription=SUBSCRIPTION, signer=authority.signer("metadata.azure.com"))


NOTICES: Mapping[str, Callable[[Any], object]] = {
    "aws": lambda service: service.interrupt(),
    "gcp": lambda service: service.preempt(),
    "azure": lambda service: service.preempt(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SECTIONS)
def test_a_machine_joins_with_its_signed_identity_and_hears_its_notice(kind: str, world: World) -> None:
    machine = world.machines.boot(world.launched(kind), metadata_of(kind, world))
    world.until(machine, "ready")
    (ready,) = world.events("instance.ready")
    assert "signed identity verified" in ready["message"]

    NOTICES[kind](machine.service)
    world.until(machine, "draining")
    assert world.row()["reason"] == "PREEMPTED"
    assert machine.process.wait(PATIENCE_SECONDS) == 0, machine.console()
    if kind == "azure":
        assert machine.service.started == ["event-1"]


@pytest.mark.slow
def test_a_machine_that_is_faster_than_the_answer_to_its_launch_joins_once_that_is_known(
    world: World,
) -> None:
    machine = world.machines.boot(world.launched("aws", known=False), metadata_of("aws", world))
    wait_until(lambda: world.served.wakes, PATIENCE_SECONDS)
    assert world.row()["state"] == "booting"
    world.note(ref=REFS["aws"], identity=IDENTITIES["aws"])
    world.until(machine, "ready")


@pytest.mark.slow
def test_a_stolen_join_token_does_not_let_another_machine_in(world: World) -> None:
    thief = AwsMetadata("i-0fff", signer=signing.aws_signer(signing.authority("cloud")))
    machine = world.machines.boot(world.launched("aws"), thief)
    world.until(machine, "terminating")
    assert world.row()["joined_at"] is None
    assert world.events("instance.join_refused")[0]["data"]["code"] == "IDENTITY_WRONG_INSTANCE"
    assert machine.process.wait(PATIENCE_SECONDS) != 0
    assert TOKEN not in machine.console()

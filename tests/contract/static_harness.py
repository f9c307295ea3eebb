"""Static hosts under the contract: real sshds, a folder each as the home; a host gives one instance at a time."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from contract.harness import FaultCase, Harness
from contract.sshd import Sshd, keygen
from hostler.config.static import StaticProvider as Section
from hostler.providers.base import (
    AuthFailed,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Offer,
    ProviderContext,
    Scope,
    Unavailable,
)
from hostler.providers.static.adapter import StaticProvider
from hostler.providers.static.connection import Connection
from hostler.providers.static.where import Where

SLEEPER = "exec python3 -c 'import time; time.sleep(600)'\n"
HOSTS = 3


class Clock:
    """The time, and what a test adds to it: for waits between questions to a silent host."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


def machines_in(folder: Path, count: int = HOSTS) -> tuple[list[Sshd], Path]:
    """Machines that run and take the one key that is given with them."""
    folder.mkdir(exist_ok=True)
    key = keygen(folder / "id_ed25519")
    machines = [Sshd(folder / f"host-{number}") for number in range(count)]
    for machine in machines:
        machine.trust(key.with_suffix(".pub"))
        machine.start()
    return machines, key


class StaticHarness(Harness):
    name = "static"
    offer_capacity = 1

    def __init__(
        self, folder: Path, machines: Sequence[Sshd], key: Path, *, grace_seconds: float = 1.0
    ) -> None:
        super().__init__()
        self.folder = folder
        self.state_dir = folder / "state"
        self.grace_seconds = grace_seconds
        self.machines = machines
        self.key = key
        self._next = itertools.cycle(range(len(machines)))
        self.monotonic, self.clock = Clock(), Clock()
        self._made: list[StaticProvider] = []

    def section(self, **changes: object) -> Section:
        hosts = [
            {"ssh": one.ssh, "name": one.folder.name, "host_key": one.host_key, "home": str(one.home)}
            for one in self.machines
        ]
        return Section.model_validate(
            {"type": "static", "hosts": hosts, "key_file": str(self.key), **changes}
        )

    def provider(self, server_id: str | None = None, section: Section | None = None) -> StaticProvider:
        made = StaticProvider(
            "lab",
            section or self.section(),
            ProviderContext(server_id or self.server_id, str(self.state_dir)),
            clock=self.clock,
            monotonic=self.monotonic,
            grace_seconds=self.grace_seconds,
        )
        self._made.append(made)
        return made

    def offer(self) -> Offer:
        """Of one host after the other: each gives one instance only."""
        return self.offer_of(next(self._next))

    def offer_of(self, number: int) -> Offer:
        machine = self.machines[number].folder.name
        return next(offer for offer in self.offers() if offer.zone == machine)

    def offers(self) -> Sequence[Offer]:
        if not hasattr(self, "_offers"):
            self._offers = self.provider().offers()
        return self._offers

    def user_data(self) -> str:
        return SLEEPER

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        """The connection breaks with the answer on its way: the host has done what it was asked."""
        provider = self.provider()
        heard = Connection._reply

        def lose(self: Connection, status: int, out: str, said: str) -> dict[str, object]:
            heard(self, status, out, said)
            raise Unavailable("the reply was lost", scope=Scope.ZONE, maybe_created=True)

        Connection._reply = lose  # type: ignore[method-assign]
        try:
            provider.launch(request)
        except Unavailable as error:
            assert error.maybe_created
        finally:
            Connection._reply = heard  # type: ignore[method-assign]
        provider.close()

    def fault_cases(self) -> Sequence[FaultCase]:
        first = replace(self.request(), offer=self.offer_of(0))
        second = replace(first, token=self.token())
        unknown = replace(first, offer=replace(first.offer, instance_type="unheard-of", zone="unheard-of"))
        machine = self.machines[0]
        return (
            FaultCase(
                "the host is in use",
                lambda: self.provider().launch(first),
                lambda provider: provider.launch(second),
                InsufficientCapacity,
                Scope.OFFER,
            ),
            FaultCase(
                "the token was used with other parameters",
                lambda: None,
                lambda provider: provider.launch(replace(first, user_data="exit 0\n")),
                InvalidConfig,
                Scope.OFFER,
            ),
            FaultCase(
                "an unknown host",
                lambda: None,
                lambda provider: provider.launch(unknown),
                InvalidConfig,
                Scope.INSTANCE_TYPE,
            ),
            FaultCase(
                "nothing answers",
                machine.stop,
                lambda provider: provider.launch(first),
                Unavailable,
                Scope.ZONE,
                fresh=True,
            ),
            FaultCase(
                "the key is not accepted",
                lambda: (machine.folder / "authorized_keys").write_text(""),
                lambda provider: provider.launch(first),
                AuthFailed,
                Scope.ZONE,
                fresh=True,
            ),
            FaultCase(
                "the host key is not known",
                lambda: None,
                lambda _: self.provider(section=self._nobody_vouches()).launch(first),
                AuthFailed,
                Scope.ZONE,
                fresh=True,
            ),
            FaultCase(
                "no host answers",
                self._switch_all_off,
                lambda provider: provider.instances(),
                Unavailable,
                Scope.ZONE,
                fresh=True,
            ),
        )

    def _switch_all_off(self) -> None:
        for machine in self.machines:
            machine.stop()

    def _nobody_vouches(self) -> Section:
        empty = self.folder / "known_hosts"
        empty.touch()
        hosts = [
            {"ssh": one.ssh, "name": one.folder.name, "home": str(one.home), "known_hosts": str(empty)}
            for one in self.machines
        ]
        return self.section(hosts=hosts)

    def heal(self) -> None:
        self.monotonic.ahead_seconds += 3_600.0
        for machine in self.machines:
            machine.trust(self.key.with_suffix(".pub"))
            if machine.process is None:
                machine.start()

    def left(self) -> Sequence[str]:
        """Folders of instances on the hosts, processes of theirs, and what the ledger still holds."""
        folders = [str(path) for one in self.machines for path in one.home.glob("on-*/instance*")]
        return [*folders, *map(str, self.processes())]

    def processes(self) -> list[int]:
        """Pids whose environment or command names a host's home."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                told = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            except OSError:
                continue
            inside = any(str(one.home).encode() in told for one in self.machines)
            if inside and int(path.name) != os.getpid() and b"sshd" not in told:
                found.append(int(path.name))
        return found

    def missing_ref(self) -> str:
        return f"{self.machines[0].folder.name}/h-missing"

    def close(self) -> None:
        for provider in self._made:
            provider.close()
        for machine in self.machines:
            shutil.rmtree(machine.home)
            machine.home.mkdir()

    def where(self, number: int) -> Where:
        section = self.section()
        return Where.of(section, section.hosts[number])

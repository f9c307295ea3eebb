"""Machines that run our user-data: a process in a scratch folder, in a network namespace of its own where root may."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
from emulators.metadata.server import MetadataServer, Service

T = TypeVar("T")
METADATA_ADDRESS = ("169.254.169.254", 80)
CLONE_NEWNET = 0x40000000
INVENTORY: dict[str, Any] = {"cpus": 4, "memory_bytes": 8 << 30, "disk_bytes": 50 << 30, "gpus": []}
_libc = ctypes.CDLL(None, use_errno=True)


class Site:
    """Where machines stand: on loopback, told by the clouds' variables where their metadata service is."""

    host = "127.0.0.1"

    def place(self, _number: int, service: Service, stack: ExitStack) -> tuple[MetadataServer, list[str]]:
        """A machine's metadata service, and what to put before its command."""
        return stack.enter_context(MetadataServer(service)), []

    def environ(self, metadata: MetadataServer) -> dict[str, str]:
        return metadata.environ()


class NamespaceSite(Site):
    """A network namespace each, on a bridge of our own; the metadata service has its real address in there."""

    def __init__(self, stack: ExitStack) -> None:
        self._name = f"hb{os.getpid() % 100_000}"
        self._net = f"198.18.{os.getpid() % 250}"
        self.host = f"{self._net}.1"
        for verb in ("add", "del"):  # a container's root may be root enough for the one and not for the other
            _ip("netns", verb, f"{self._name}-0")
        _ip("link", "add", self._name, "type", "bridge")
        stack.callback(_ip, "link", "del", self._name)
        _ip("addr", "add", f"{self.host}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def place(self, number: int, service: Service, stack: ExitStack) -> tuple[MetadataServer, list[str]]:
        space, outside = f"{self._name}-{number}", f"{self._name}v{number}"
        _ip("netns", "add", space)
        stack.callback(_ip, "netns", "del", space)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", outside, "master", self._name, "up")
        _ip("-n", space, "addr", "add", f"{self._net}.{number + 1}/24", "dev", "eth0")
        _ip("-n", space, "addr", "add", f"{METADATA_ADDRESS[0]}/32", "dev", "lo")
        for device in ("lo", "eth0"):
            _ip("-n", space, "link", "set", device, "up")
        metadata = MetadataServer(service, *METADATA_ADDRESS)
        inside(space, metadata.__enter__)
        stack.push(metadata)
        return metadata, ["ip", "netns", "exec", space]

    def environ(self, metadata: MetadataServer) -> dict[str, str]:
        # Google's has a name, which nothing resolves in here; the others are found at their address.
        return {"GCE_METADATA_HOST": METADATA_ADDRESS[0]}


def site(stack: ExitStack) -> Site:
    """The best that this system allows."""
    try:
        return NamespaceSite(stack) if os.geteuid() == 0 else Site()
    except (OSError, subprocess.CalledProcessError):
        return Site()


def inside(space: str, work: Callable[[], T]) -> T:
    """Run `work` in a thread that has entered a namespace: the sockets it opens are in there for good."""
    results: list[T] = []

    def enter() -> None:
        with Path(f"/run/netns/{space}").open() as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {space}")
        results.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results, f"nothing could be started in {space}"
    return results[0]


@dataclass
class Machine:
    """One booted machine. `service` is its metadata service, which a test turns."""

    folder: Path
    process: subprocess.Popen[bytes]
    service: Any
    metadata: MetadataServer

    def console(self) -> str:
        return (self.folder / "console").read_text()

    def pull_the_plug(self) -> None:
        """End everything that runs on it, as a cloud does."""
        for one in self.processes():
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def processes(self) -> list[psutil.Process]:
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if one.environ().get("HOSTLER_HOME") == str(self.folder):
                    found.append(one)
        return found


@dataclass
class Machines:
    """Boots machines below `folder` and clears them away at the end."""

    folder: Path
    site: Site
    stack: ExitStack
    booted: list[Machine] = field(default_factory=list)

    def boot(self, user_data: str, service: Service) -> Machine:
        """Run `user_data` as the first boot would, but never as the host's own: no unit, no power-off."""
        number = len(self.booted) + 1
        folder = self.folder / f"machine-{number}"
        folder.mkdir(parents=True)
        (folder / "inventory.json").write_text(json.dumps(INVENTORY))
        (folder / "user-data").write_text(user_data)
        metadata, before = self.site.place(number, service, self.stack)
        environ = {
            "PATH": os.environ["PATH"],
            "HOSTLER_HOME": str(folder),
            "HOSTLER_PYTHON": sys.executable,
            "HOSTLER_LOCAL": "1",
            "HOSTLER_INVENTORY": str(folder / "inventory.json"),
            **self.site.environ(metadata),
        }
        with (folder / "console").open("ab") as console:
            process = subprocess.Popen(
                [*before, "sh", str(folder / "user-data")],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        machine = Machine(folder, process, service, metadata)
        self.stack.callback(machine.pull_the_plug)
        self.booted.append(machine)
        return machine


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)

"""Whole systems as machines: Debian with systemd and cloud-init in a container, which boots our user-data by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from boot.machines import Machine, Machines, NamespaceSite
from emulators.metadata.server import AwsMetadata, Service

TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2"}
"""What has to be there, and the Debian package that has it."""
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,cloud-init,python3,iproute2,ca-certificates"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostler" / f"boot-{SUITE}"
NSPAWN = (
    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
    *("--volatile=overlay", "--console=pipe"),
)
CLOUD_INIT = """\
datasource_list: [Ec2]
datasource:
  Ec2:
    metadata_urls: ["http://169.254.169.254"]
    strict_id: false
    timeout: 5
    max_wait: 30
network: {config: disabled}
"""


def what_is_missing() -> str:
    """Why no system can be booted here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: a container with its own init"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"needs Debian's packages {', '.join(missing)}" if missing else ""


def built() -> Path:
    """The root file system; built once and kept. Never changed by a boot: each writes to an overlay in memory."""
    if not CACHE.exists():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        new = CACHE.with_name(f"{CACHE.name}.{os.getpid()}")
        subprocess.run(
            ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(new)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (new / "etc/cloud/cloud.cfg.d/99-test.cfg").write_text(CLOUD_INIT)
        (new / "etc/cloud/ds-identify.cfg").write_text("policy: enabled\n")
        (new / "etc/machine-id").write_text("")
        (new / "etc/hostname").unlink(missing_ok=True)
        new.rename(CACHE)
    return CACHE


class Container(Machine):
    """A booted system. It ends when its first process does, as a machine that is switched off."""

    def pull_the_plug(self) -> None:
        # The container's own init, not nspawn: that one then clears up its mounts.
        for init in self.processes():
            init.kill()
        self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []


@dataclass
class Booted(Machines):
    """Machines that boot the system of `image`: cloud-init fetches the user-data from the metadata service."""

    image: Path = field(kw_only=True)

    def boot(self, user_data: str, service: Service) -> Machine:
        assert isinstance(service, AwsMetadata)
        assert isinstance(self.site, NamespaceSite), "containers need namespaces of their own"
        service.user_data, service.allow_v1 = user_data, True
        number = len(self.booted) + 1
        folder = self.folder / f"machine-{number}"
        folder.mkdir(parents=True)
        metadata, (*_, space) = self.site.place(number, service, self.stack)
        with (folder / "console").open("ab") as console:
            process = subprocess.Popen(
                [
                    *NSPAWN,
                    f"--directory={self.image}",
                    f"--machine={space}",
                    f"--network-namespace-path=/run/netns/{space}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        machine = Container(folder, process, service, metadata)
        self.stack.callback(machine.pull_the_plug)
        self.booted.append(machine)
        return machine

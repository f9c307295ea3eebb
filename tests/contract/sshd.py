"""Real sshds on loopback: each a host of its own, with its own key, port and home."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_SECONDS = 20.0
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PermitUserEnvironment no
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
MaxStartups 100
LogLevel VERBOSE
SetEnv PATH={path}
"""


def needs_sshd() -> str:
    """Where sshd lies; without it the test is skipped, or fails in CI, which installs it."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found and shutil.which("ssh-keygen"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("sshd is missing; CI installs openssh-server")
    pytest.skip("needs sshd: apt-get install openssh-server")


@dataclass
class Sshd:
    """One machine, as far as SSH can tell. `stop` and `start` are its power switch; its instances run on."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    python: str = field(default_factory=lambda: str(Path(sys.executable).parent))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        keygen(self.folder / "host_key")
        self.port = self.port or free_port()

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def ssh(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def instance(self) -> Path:
        """The folder of the instance it holds; there is none while it is free."""
        (root,) = self.home.glob("on-*")
        return root / "instance"

    def trust(self, public_key: Path) -> None:
        (self.folder / "authorized_keys").write_text(public_key.read_text())

    def start(self) -> None:
        sshd = needs_sshd()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        path = f"{self.python}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        config = self.folder / "sshd_config"
        config.write_text(CONFIG.format(port=self.port, folder=self.folder, path=path))
        with (self.folder / "sshd.log").open("ab") as log:
            command = [sshd, "-D", "-e", "-f", str(config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            told = (self.folder / "sshd.log").read_text()
            assert self.process.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.02)

    def answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """No more answers, and sessions that are open are cut."""
        if self.process is None:
            return
        for pid in [*self.sessions(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(10)
        self.process = None

    def sessions(self) -> Sequence[int]:
        """Processes of sshd that serve a connection: they are sshd's children and theirs."""
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            named = [int(child) for child in children]
            found += [child for child in named if _command(child).startswith("sshd")]
        return found[1:]

    def renew_host_key(self) -> None:
        """As after an installation from scratch, or with somebody in between."""
        self.stop()
        for path in self.folder.glob("host_key*"):
            path.unlink()
        keygen(self.folder / "host_key")
        self.start()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def keygen(path: Path, passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", str(path)]
    needs_sshd()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

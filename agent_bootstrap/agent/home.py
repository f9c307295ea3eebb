"""The agent's folder: what lies where, and how it is written so that a crash never leaves half a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = "/var/lib/hostler-agent"


@dataclass(frozen=True)
class TaskFolder:
    """One leased task's folder, named by its id and generation so that two leases never share one."""

    path: Path

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def inputs(self) -> Path:
        return self.path / "in"

    @property
    def out(self) -> Path:
        return self.path / "out"

    @property
    def journal(self) -> Path:
        return self.out / "journal"

    @property
    def spool(self) -> Path:
        return self.out / "spool"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def stop_file(self) -> Path:
        return self.path / "stop.json"

    @property
    def exit_file(self) -> Path:
        return self.path / "exit.json"

    @property
    def record(self) -> Path:
        """The lease and the GPUs it was given: what a restarted agent adopts the task by."""
        return self.path / "lease.json"

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def control(self) -> Path:
        """FIFO the shim takes commands from."""
        return self.path / "control"

    @property
    def lock(self) -> Path:
        """Locked by the shim as long as it lives; the kernel lets go even after a kill -9."""
        return self.path / "shim.lock"

    @property
    def errors(self) -> Path:
        return self.path / "shim.err"

    @property
    def sent(self) -> Path:
        """Up to where in each journal segment the artifacts are on the server."""
        return self.path / "artifacts.json"

    def make(self) -> None:
        self.path.mkdir(parents=True, mode=0o700)
        for folder in (self.work, self.inputs, self.out, self.journal, self.spool):
            folder.mkdir()
        self.log.touch(mode=0o600)


@dataclass(frozen=True)
class Home:
    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def join_token(self) -> Path:
        return self.path / "join-token"

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def credential(self) -> Path:
        return self.path / "credential"

    @property
    def drain_flag(self) -> Path:
        return self.path / "drain"

    @property
    def lock(self) -> Path:
        return self.path / "agent.lock"

    @property
    def tasks(self) -> Path:
        return self.path / "tasks"

    def task(self, task_id: int, generation: int) -> TaskFolder:
        return TaskFolder(self.tasks / f"{task_id}-{generation}")

    def ca_file(self) -> str | None:
        """The pinned certificate authority, or None to trust what the system trusts."""
        try:
            return str(self.ca) if self.ca.stat().st_size else None
        except OSError:
            return None

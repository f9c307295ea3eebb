"""Daemons as real processes, for tests that start, kill and restart them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from api.serving import wait_until

CODE = """
import faulthandler, signal, sys
from pathlib import Path
from hostler.fleet.daemon import run
faulthandler.register(signal.SIGUSR1)
sys.exit(run(Path(sys.argv[1])))
"""
START_SECONDS = 60.0
FLEET = """
version: 1
daemon:
  tick: 200ms
  listen: "127.0.0.1:{port}"
  state: "sqlite:///{folder}/state/state.db"
  lease_ttl: 30s
  dead_man: 60s
  bootstrap_timeout: 60s
limits: {{instances: 2, usd_per_hour: 1}}
providers:
  here:
    type: local
    max_instances: 2
    offers:
      - {{name: small, cpus: 1, memory: 1GiB, market: spot, usd_per_hour: 0.01}}
pools:
  local: {{providers: [here], market: spot, instances: 0..2, idle_timeout: 2s}}
queues:
  default: {{pools: [local]}}
"""


@dataclass
class DaemonProcess:
    """One state folder and, while it runs, the daemon over it."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    stopped: list[int] = field(default_factory=list)

    def start(self, *, wait: bool = True) -> None:
        if not (self.folder / "fleet.yaml").exists():
            self.configure()
        self.client_file.unlink(missing_ok=True)
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CODE, str(self.folder / "fleet.yaml")],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOSTLER_CLIENT_FILE": str(self.client_file)},
            )
        if wait:
            wait_until(lambda: self.client_file.exists() or self.process_ended(), START_SECONDS)
            assert not self.process_ended(), self.log()

    def configure(self, text: str = FLEET) -> None:
        (self.folder / "fleet.yaml").write_text(text.format(folder=self.folder, port=self.port))

    def process_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    @property
    def client_file(self) -> Path:
        return self.folder / "client.json"

    @property
    def url(self) -> str:
        return str(json.loads(self.client_file.read_text())["url"])

    def client(self) -> httpx.Client:
        told = json.loads(self.client_file.read_text())
        token = Path(told["token_file"]).read_text().strip()
        return httpx.Client(
            base_url=told["url"], headers={"Authorization": f"Bearer {token}"}, timeout=30.0, trust_env=False
        )

    def get(self, path: str, **params: Any) -> Any:
        with self.client() as client:
            answer = client.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def submit(self, **spec: Any) -> int:
        with self.client() as client:
            answer = client.post("/api/v1/tasks", json={"spec": spec})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def wait_for_state(self, task_id: int, *states: str, seconds: float = 60.0) -> dict[str, Any]:
        def reached() -> bool:
            return self.get(f"tasks/{task_id}")["state"] in states

        wait_until(reached, seconds)
        task: dict[str, Any] = self.get(f"tasks/{task_id}")
        return task

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, seconds: float = 30.0) -> int:
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10.0)


@contextmanager
def daemon_process(folder: Path, *, port: int = 0) -> Iterator[DaemonProcess]:
    """A daemon's folder; whatever still runs from it at the end is killed, instances too."""
    daemon = DaemonProcess(folder, port)
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        for one in instance_processes(folder):
            one.kill()


def instance_processes(folder: Path) -> list[psutil.Process]:
    """Processes that work below `folder`: the instances' agents and tasks."""
    found = []
    for one in psutil.process_iter():
        try:
            home = one.environ().get("HOSTLER_HOME", "")
        except (psutil.Error, OSError):
            continue
        if home.startswith(str(folder)):
            found.append(one)
    return found

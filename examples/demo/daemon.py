"""The demo's daemon: started as a person would start it, asked over its REST API, ended with SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
HERE = Path(__file__).parent


class DemoFailed(Exception):
    """Something that the demo promises did not happen."""


class Daemon:
    """`hostler up` on a fresh state folder and a free port, plus the CLI and REST API of it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.log = state / "daemon.log"
        port = _free_port()
        self.environ = {
            **os.environ,
            "HOSTLER_DEMO_PORT": str(port),
            "HOSTLER_DEMO_STATE": str(state),
            "HOSTLER_CLIENT_FILE": str(state / "client.json"),
        }
        self._hostler = str(Path(sys.executable).with_name("hostler"))
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._hostler, "up", "--config", str(HERE / "fleet.yaml")],
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.state,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"the daemon did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        token = (self.state / "admin.token").read_text().strip()
        self._api.headers["Authorization"] = f"Bearer {token}"

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise DemoFailed("the daemon did not stop when asked to") from None

    def cli(self, *words: str) -> str:
        """`hostler WORDS`, as a person would type it."""
        done = subprocess.run(
            [self._hostler, *words], env=self.environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DemoFailed(f"hostler {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def get(self, path: str, **query: Any) -> Any:
        answer = self._api.get(f"/api/v1/{path}", params=query)
        answer.raise_for_status()
        return answer.json()

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(path, **query)["items"]
        return found

    def _ready(self) -> bool:
        try:
            return self._api.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""A daemon of the tests' own, and calls of the program in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 30.0
FLEET = """\
version: 1
daemon: {{tick: 200ms, listen: "127.0.0.1:{port}", state: "sqlite:///{folder}/state/state.db", lease_ttl: 6s}}
limits: {{instances: 2, usd_per_hour: 1}}
providers:
  here:
    type: local
    max_instances: 2
    offers:
      - {{name: small, cpus: 1, memory: 1GiB, market: spot, usd_per_hour: 0.01}}
      - {{name: small, cpus: 1, memory: 1GiB, market: on_demand, usd_per_hour: 0.03}}
pools:
  local: {{providers: [here], market: spot, instances: 0..2, idle_timeout: 5m}}
queues:
  default: {{pools: [local], priority: 50}}
"""
LAUNCHER = "from hostler.fleet.cli import main; main()"


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(client_file: Path) -> dict[str, str]:
    """This process's, without what would lead to another daemon."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}
    return {**kept, "HOSTLER_CLIENT_FILE": str(client_file), "COLUMNS": "200"}


def call(*arguments: object) -> Done:
    """One command line in this process."""
    from hostler.fleet.cli import program

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program.run([str(one) for one in arguments])
    return Done(int(code), out.getvalue(), err.getvalue())


def start(*arguments: object, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Any:
    """One command line in a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ if environ is None else environ),
        cwd=cwd,
    )


def eventually(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `what`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.05)
    return value


class Daemon:
    """`hostler up` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "fleet.yaml"
        self.client_file = folder / "client.json"
        self.process: Any = None
        self._write_config(0)

    def start(self) -> None:
        self.client_file.unlink(missing_ok=True)
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, "up", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env=environment(self.client_file),
                cwd=self.folder,
            )
        eventually(self._is_up, START_SECONDS_MAX)

    @property
    def url(self) -> str:
        return str(json.loads(self.client_file.read_text())["url"])

    def restart(self) -> None:
        """On the same port: agents and clients find it again."""
        self._write_config(int(self.url.rpartition(":")[2]))
        self.start()

    def kill(self) -> None:
        """As a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End its instances, then it."""
        for one in call("instances", "-o", "json").json:
            call("terminate", one["id"])
        eventually(lambda: call("instances", "-o", "json").json == [], END_SECONDS_MAX)
        self.process.terminate()
        assert self.process.wait(END_SECONDS_MAX) == 0

    def _is_up(self) -> bool:
        log = (self.folder / "daemon.log").read_text
        assert self.process.poll() is None, log()
        return self.client_file.exists()

    def _write_config(self, port: int) -> None:
        self.config.write_text(FLEET.format(folder=self.folder, port=port))


@contextlib.contextmanager
def daemon_in(folder: Path, patch: Any) -> Iterator[Daemon]:
    """A running one that the program finds by itself; its instances are ended with it."""
    made = Daemon(folder)
    for name in [one for one in os.environ if one.startswith("HOSTLER_")]:
        patch.delenv(name)
    patch.setenv("HOSTLER_CLIENT_FILE", str(made.client_file))
    made.start()
    try:
        eventually(lambda: call("offers", "-o", "json").json)  # until then a task is told that nothing fits
        yield made
        made.stop()
    finally:
        if made.process.poll() is None:
            made.kill()

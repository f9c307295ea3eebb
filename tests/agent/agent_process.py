"""A real agent process started from the zipapp, as the bootstrap script starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from agent.wire_server import JOIN_TOKEN
from hostler.agent_bootstrap import package

GIBIBYTE = 1024**3


class AgentProcess:
    def __init__(
        self,
        home: Path,
        url: str,
        *,
        gpus: int = 0,
        cpus: int = 4,
        python: str = sys.executable,
        **environ: str,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.python = python
        self.notice = home / "notice.json"
        inventory = home / "inventory.json"
        machine: dict[str, Any] = {"cpus": cpus, "memory_bytes": 8 * GIBIBYTE, "disk_bytes": 100 * GIBIBYTE}
        machine["gpus"] = [
            {"uuid": f"GPU-{number}", "name": "T4", "memory_bytes": 16 * GIBIBYTE} for number in range(gpus)
        ]
        inventory.write_text(json.dumps(machine))
        (home / "agent.pyz").write_bytes(package.build_zipapp())
        (home / "join-token").write_text(JOIN_TOKEN)
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOSTLER_HOME": str(home),
            "HOSTLER_URL": url,
            "HOSTLER_LOCAL": "1",
            "HOSTLER_INVENTORY": str(inventory),
            "HOSTLER_NOTICE_FILE": str(self.notice),
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> AgentProcess:
        with (self.home / "console").open("ab") as console:
            self.process = subprocess.Popen(
                [self.python, str(self.home / "agent.pyz")],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        return self

    def kill(self) -> None:
        """The agent alone, as the kernel or an operator would."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = 20.0) -> int:
        assert self.process
        return self.process.wait(seconds)

    def console(self) -> str:
        return (self.home / "console").read_text()

    def processes(self) -> list[int]:
        """All that run on this instance, by the environment they inherited or the folder they work in."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str(self.home).encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        for _ in range(200):
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process:
                self.process.poll()
            if not left:
                return
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False

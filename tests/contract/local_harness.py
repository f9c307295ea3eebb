"""The local provider under the contract; a lost reply is a daemon killed right after the start."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from contract.harness import FaultCase, Harness
from hostler.config.local import LocalProvider as Section
from hostler.providers.base import (
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Offer,
    ProviderContext,
    Scope,
    Unavailable,
)
from hostler.providers.local import processes
from hostler.providers.local.adapter import LocalProvider

SLEEPER = "exec python3 -c 'import time; time.sleep(600)'\n"
KILLED_DAEMON = """
import os, pickle, signal, sys
from hostler.config.local import LocalProvider as Section
from hostler.providers.local.adapter import LocalProvider
section, context, request, last_step = pickle.loads(bytes.fromhex(sys.argv[1]))
def die(step):
    if step == last_step:
        os.kill(os.getpid(), signal.SIGKILL)
LocalProvider("here", Section.model_validate(section), context, after_step=die).launch(request)
"""


class LocalHarness(Harness):
    name = "local"

    def __init__(self, state_dir: Path, *, max_instances: int = 20, grace_seconds: float = 1.0) -> None:
        super().__init__()
        self.state_dir = state_dir
        self.grace_seconds = grace_seconds
        self.section = Section(type="local", max_instances=max_instances)
        self._made: list[LocalProvider] = []

    def context(self, server_id: str | None = None) -> ProviderContext:
        return ProviderContext(server_id or self.server_id, str(self.state_dir))

    def provider(self, server_id: str | None = None) -> LocalProvider:
        made = LocalProvider("here", self.section, self.context(server_id), grace_seconds=self.grace_seconds)
        self._made.append(made)
        return made

    def offer(self) -> Offer:
        return self.provider().offers()[0]

    def user_data(self) -> str:
        return SLEEPER

    def folder(self, token: str) -> Path:
        return self.state_dir / "local" / token

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        self.kill_daemon_in_launch(request, after="started")

    def kill_daemon_in_launch(self, request: LaunchRequest, after: str) -> None:
        """Run the launch in a process of its own that is killed by SIGKILL when the step `after` is done."""
        given = pickle.dumps((self.section.to_dict(), self.context(), request, after)).hex()
        done = subprocess.run(
            [sys.executable, "-c", KILLED_DAEMON, given], check=False, capture_output=True, text=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr

    def fault_cases(self) -> Sequence[FaultCase]:
        known = self.request()
        unknown = replace(known, token=self.token(), offer=replace(self.offer(), instance_type="unheard-of"))
        return (
            FaultCase(
                "no capacity",
                lambda: self._narrow(0),
                lambda provider: provider.launch(known),
                InsufficientCapacity,
                Scope.PROVIDER,
            ),
            FaultCase(
                "an unknown type",
                lambda: None,
                lambda provider: provider.launch(unknown),
                InvalidConfig,
                Scope.INSTANCE_TYPE,
            ),
            FaultCase(
                "the folder can't be made",
                self._put_a_file_in_the_way,
                lambda provider: provider.launch(known),
                Unavailable,
                Scope.PROVIDER,
                maybe_created=True,
            ),
        )

    def heal(self) -> None:
        self._narrow(self.section.max_instances)
        root, aside = self.state_dir / "local", self.state_dir / "aside"
        if root.is_file():
            root.unlink()
        if aside.exists():
            aside.rename(root)

    def _put_a_file_in_the_way(self) -> None:
        root = self.state_dir / "local"
        if root.exists():
            root.rename(self.state_dir / "aside")
        root.write_text("a file is in the way")

    def _narrow(self, max_instances: int) -> None:
        for provider in self._made:
            provider._section = self.section.model_copy(update={"max_instances": max_instances})

    def left(self) -> Sequence[str]:
        return [str(asdict(process)) for process in self.processes()]

    def processes(self, token: str = "") -> list[processes.Process]:
        inside = str(self.folder(token)) if token else f"{self.state_dir}/local/"
        return [one for one in processes.everything().values() if one.home.startswith(inside)]

    def missing_ref(self) -> str:
        return "local-h-missing"

    def close(self) -> None:
        for provider in self._made:
            provider.close()

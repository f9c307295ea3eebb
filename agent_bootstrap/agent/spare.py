"""Shims waiting for work: one is always started ahead of need, so that a task doesn't wait for an interpreter."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from .shim import Job

MODULE = "hostler.agent_bootstrap.agent.shim"
_logger = logging.getLogger(__name__)


class ShimFailed(Exception):
    """The shim ended before it could start the command."""


class Spares:
    """Safe between threads."""

    def __init__(self, library: Path | None) -> None:
        self._environ = dict(os.environ)
        if library:
            self._environ["PYTHONPATH"] = str(library)
        self._spare: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Start a spare unless there is one."""
        with self._lock:
            if self._spare is None or self._spare.poll() is not None:
                self._spare = self._spawn()

    def run(self, job: Job) -> subprocess.Popen[bytes]:
        """Hand `job` to a shim; returns when the command runs or could not be run. Raises ShimFailed, OSError."""
        with self._lock:
            shim, self._spare = self._spare, None
        if shim is None or not _hand(shim, job):
            shim = self._spawn()
            if not _hand(shim, job):
                raise ShimFailed("a new shim took no job")
        assert shim.stdout is not None
        answer = shim.stdout.readline()
        shim.stdout.close()
        if not answer:
            raise ShimFailed(f"the shim ended with code {shim.wait()}")
        return shim

    def close(self) -> None:
        """Let the waiting one end; those at work are not touched."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and spare.stdin is not None and spare.stdout is not None:
            spare.stdin.close()
            spare.stdout.close()
            spare.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Not in a session of its own: whoever ends the agent's process group means its tasks too.
        return subprocess.Popen(
            [sys.executable, "-m", MODULE],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )


def _hand(shim: subprocess.Popen[bytes], job: Job) -> bool:
    assert shim.stdin is not None
    try:
        line = memoryview(json.dumps(job).encode() + b"\n")
        while line:
            line = line[shim.stdin.write(line) :]
        shim.stdin.close()
    except (BrokenPipeError, ValueError):
        return False
    return True

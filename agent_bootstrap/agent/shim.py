"""The shim: one small process a task, which outlives the agent.

It owns the process tree, the output pipe, the deadlines and the exit record. It is started ahead of need and waits
for its job on stdin, so that a task does not wait for an interpreter. From then on it talks through the task's folder:
commands come by the FIFO `control`, the end is `exit.json`, its life is the lock on `shim.lock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, TypedDict

from ...tracking.files import write_json
from .clock import now
from .home import TaskFolder
from .output import READ_BYTES, BoundedLog
from .stop import TIMEOUT_GRACE_SECONDS, Stopping, announce, plan_stop, sooner
from .tree import Tree

PIPE_BYTES = 1024 * 1024
WAIT_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 5.0
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class Job(TypedDict):
    """What the agent asks of a shim. Times by `clock.now`; `run_seconds` 0 = no limit."""

    folder: str
    command: List[str]
    shell: bool
    environ: Dict[str, str]
    lease_until: float
    run_seconds: float
    log_head_bytes: int
    log_tail_bytes: int


class Exit(TypedDict):
    """How it ended. `reason`: exit | signal | oom | timeout | stopped | preempted | lost | stale | not_started."""

    exit_code: Optional[int]
    signal: Optional[int]
    reason: str
    message: str
    run_seconds: float


class Shim:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = TaskFolder(Path(job["folder"]))
        self._log = BoundedLog(self._folder.log, job["log_head_bytes"], job["log_tail_bytes"])
        self._tree = Tree(self._folder.path)
        self._lease_until = job["lease_until"]
        self._stopping: Stopping | None = None
        self._verdict = ""
        """lost or stale: the lease is gone and nobody wants to hear of this run."""
        self._started = now()
        self._control = _open_fifo(self._folder.control)
        self._half_line = b""
        self._select = selectors.DefaultSelector()
        self._output = -1

    def start(self) -> str:
        """Start the leader. Gives why it could not be, or nothing."""
        reading, writing = os.pipe()
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(reading, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE_BYTES)
        self._output = reading
        self._started = now()
        try:
            self._tree.leader = self._spawn(writing)
        except OSError as error:
            return f"can't run {self._job['command'][0]!r}: {error.strerror or error}"
        except subprocess.SubprocessError as error:
            return f"can't run {self._job['command'][0]!r}: {error}"
        finally:
            os.close(writing)
        return ""

    def run(self) -> Exit:
        """Watch until the leader has ended and nothing of its tree is left."""
        os.set_blocking(self._output, False)
        self._select.register(self._output, selectors.EVENT_READ, self._pump)
        self._select.register(self._control, selectors.EVENT_READ, self._obey)
        self._select.register(_wake_on_child(), selectors.EVENT_READ, _swallow)
        self._tree.reap()
        while self._tree.leader_status is None:
            for key, _ in self._select.select(self._wait_seconds()):
                key.data(key.fd)
            self._tree.reap()
            if self._tree.leader_status is None:
                self._enforce(now())
        run_seconds = now() - self._started
        left = self._tree.destroy()
        self._drain()
        return self._exit(run_seconds, left)

    def close(self, ended: Exit) -> None:
        self._log.finish()
        write_json(self._folder.exit_file, ended)
        self._tree.close()

    def not_started(self, why: str) -> Exit:
        code = EXIT_NOT_FOUND if "No such file" in why else EXIT_NOT_EXECUTABLE
        self._log.write(f"[hostler] {why}\n".encode())
        return Exit(exit_code=code, signal=None, reason="not_started", message=why, run_seconds=0.0)

    def _spawn(self, writing: int) -> int:
        process = subprocess.Popen(
            self._job["command"],
            cwd=str(self._folder.work),
            env=self._job["environ"],
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
            preexec_fn=self._tree.enter,  # noqa: PLW1509 - this process has one thread
        )
        process.returncode = 0  # the tree reaps; Popen must not wait for it as well
        return process.pid

    def _wait_seconds(self) -> float:
        times = [self._lease_until]
        if self._stopping:
            times.append(self._stopping.kill_at)
        elif self._job["run_seconds"]:
            times.append(self._started + self._job["run_seconds"])
        return min(max(0.0, min(times) - now()), WAIT_SECONDS_MAX)

    def _enforce(self, at: float) -> None:
        if at >= self._lease_until:
            self._end_lease("lost")
        elif self._stopping:
            if at >= self._stopping.kill_at:
                self._tree.destroy()
        elif self._job["run_seconds"] and at >= self._started + self._job["run_seconds"]:
            self._stop(plan_stop("timeout", at, TIMEOUT_GRACE_SECONDS))

    def _end_lease(self, verdict: str) -> None:
        self._verdict = verdict
        self._tree.destroy()

    def _stop(self, stopping: Stopping) -> None:
        before = self._stopping
        self._stopping = sooner(before, stopping)
        if self._stopping == before:
            return
        with contextlib.suppress(OSError):  # a full disk must not keep the signal from the task
            announce(self._folder.stop_file, self._stopping, now())
        if before is None:
            self._tree.signal_leader(signal.SIGTERM, through_shell=self._job["shell"])

    def _pump(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._select.unregister(descriptor)
            return False
        self._log.write(data)
        return True

    def _drain(self) -> None:
        end = now() + DRAIN_SECONDS_MAX
        while self._output in self._select.get_map() and self._pump(self._output) and now() < end:
            continue

    def _obey(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            *lines, self._half_line = (self._half_line + os.read(descriptor, READ_BYTES)).split(b"\n")
            for line in lines:
                self._command(json.loads(line))

    def _command(self, command: dict[str, Any]) -> None:
        if "lease_until" in command:
            self._lease_until = float(command["lease_until"])
        if "end" in command:
            self._end_lease(str(command["end"]))
        if "stop" in command and self._tree.leader_status is None:
            self._stop(Stopping(*command["stop"]))

    def _exit(self, run_seconds: float, left: list[int]) -> Exit:
        status = self._tree.leader_status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = None if number else os.WEXITSTATUS(status)
        message = f"killed by {_signal_name(number)}" if number else f"exit code {code}"
        if left:
            message += f"; processes that would not die: {left[:10]}"
        reason = self._reason(number)
        if reason == "oom":
            message = "killed by the kernel: the machine ran out of memory"
        return Exit(
            exit_code=code, signal=number, reason=reason, message=message, run_seconds=round(run_seconds, 3)
        )

    def _reason(self, number: int | None) -> str:
        if self._verdict:
            return self._verdict
        if self._stopping:
            return self._stopping.reason
        if number == signal.SIGKILL and self._tree.out_of_memory():
            return "oom"
        return "signal" if number else "exit"


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def _open_fifo(path: Path) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)  # open for writing too: never at its end


def _wake_on_child() -> int:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, _noted)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def _swallow(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, READ_BYTES)


def _noted(number: int, frame: object) -> None:
    """A handler rather than SIG_IGN: what is ignored would stay ignored in the user's command."""


def _survive_polite_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _noted)


def _redirect(folder: TaskFolder) -> None:
    """Let go of the agent's terminal or journal, which may end before we do."""
    errors = os.open(folder.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(errors, 2)
    os.close(errors)
    os.close(nothing)


def main() -> int:
    """Wait for a job on stdin; answer one line on stdout when the command runs; stay until it is over."""
    _survive_polite_signals()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0  # the agent has ended and never needed us
    job: Job = json.loads(line)
    folder = TaskFolder(Path(job["folder"]))
    lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    shim = Shim(job)
    failure = shim.start()
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"started\n")
    _redirect(folder)
    shim.close(shim.not_started(failure) if failure else shim.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())

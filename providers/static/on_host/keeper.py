"""The keeper: one process an instance, which owns the tree that its user-data becomes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from .life import release
from .places import boot_id, locked, read, write
from .processes import KILL_SECONDS_MAX

KEEPER_PAUSE_SECONDS = 0.2
LOCK_TRIES = 100
LOCK_PAUSE_SECONDS = 0.01
PR_SET_CHILD_SUBREAPER = 36


def keep(root_name: str) -> int:
    """Run the instance's user-data to its end, or to the end that is asked for, and release the host."""
    root = Path(root_name)
    folder = root / "instance"
    life = (folder / "life.lock").open("ab")
    if not take(life):
        return 0
    if (folder / "started.json").exists() or (folder / "doom.json").exists():
        return 0
    import ctypes  # the keeper alone needs it

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    write(folder / "started.json", {"pid": os.getpid(), "boot_id": boot_id()})
    record = read(folder / "record.json")
    script = run_script(folder, record)
    reason = watch(folder, script.pid, asked)
    with locked(root):
        return 0 if release(root, record, reason) else 1


def take(life: IO[bytes]) -> bool:
    """Lock `life`; False when another keeper holds it. Those who only look hold it too, but for microseconds."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def run_script(folder: Path, record: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the user-data in a session of its own. To be kept: once forgotten, it would take the exit status itself."""
    environ = dict(record.get("environ") or {})
    environ.update(
        HOSTLER_HOME=str(folder), HOSTLER_LOCAL="1", HOSTLER_CLOUD="", HOSTLER_PYTHON=sys.executable
    )
    if (folder / "inventory.json").exists():
        environ["HOSTLER_INVENTORY"] = str(folder / "inventory.json")
    with (folder / "console.log").open("ab") as console, Path(os.devnull).open("rb") as nothing:
        return subprocess.Popen(
            ["/bin/sh", str(folder / "user-data")],
            cwd=str(folder),
            env=environ,
            stdin=nothing,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def watch(folder: Path, script: int, asked: list[float]) -> str:
    """Wait for the script's end, ours to ask for once somebody wants it. Gives the reason."""
    deadline = None
    while True:
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == script:
                return "terminated" if deadline else f"its script ended with {ended_with(status)}"
            if pid:
                continue
        doom = read(folder / "doom.json")
        if deadline is None and (doom or asked):
            deadline = time.monotonic() + float(doom.get("grace_seconds", KILL_SECONDS_MAX))
            # The leader alone: the agent says good-bye; what it leaves behind is killed right after.
            with contextlib.suppress(ProcessLookupError):
                os.kill(script, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            return "terminated"
        time.sleep(KEEPER_PAUSE_SECONDS)


def ended_with(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit code {os.WEXITSTATUS(status)}"

"""What state the instance of a host is in, and its release."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .places import boot_id, read, write
from .processes import KILL_SECONDS_MAX, PAUSE_SECONDS, kill_all

KEPT_ENDED = 50
KEEPER_LATE_SECONDS = 30.0
LOG_TAIL_BYTES = 64 * 1024


def described(record: dict[str, Any], state: str) -> dict[str, Any]:
    kept = ("token", "server", "tags", "instance_type", "market", "launched_at", "reason")
    return {**{name: record.get(name) for name in kept}, "state": state}


def settle(root: Path) -> str:
    """pending | running | stopping for what is in `instance`; one that is over is released. Empty: nothing is there."""
    folder = root / "instance"
    record = read(folder / "record.json")
    if not record:
        return ""
    doomed = (folder / "doom.json").exists()
    if lives(folder) and not (doomed and end_keeper(folder)):
        return "stopping" if doomed else "running"
    if not (folder / "started.json").exists() and not doomed:
        return "pending"
    started = read(folder / "started.json")
    rebooted = bool(started) and started.get("boot_id") != boot_id()
    reason = (
        "terminated"
        if doomed
        else "the machine was started anew"
        if rebooted
        else "its processes were killed"
    )
    return "" if release(root, record, reason) else "stopping"


def end_keeper(folder: Path) -> bool:
    """Kill a keeper that is long overdue with the end that was asked of it (stopped, or stuck). False if it is not."""
    doom = read(folder / "doom.json")
    if time.time() - float(doom.get("at", 0)) < float(doom.get("grace_seconds", 0)) + KEEPER_LATE_SECONDS:
        return False
    pid = int(read(folder / "started.json").get("pid", 0))
    try:
        # Its number may be another's by now.
        if os.fsencode(folder / "program.py") not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return False
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return wait_for(lambda: not lives(folder), KILL_SECONDS_MAX)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def lives(folder: Path) -> bool:
    """Whether a keeper holds the life lock; the kernel lets go of it whatever it died of."""
    with (folder / "life.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def release(root: Path, record: dict[str, Any], reason: str) -> bool:
    """Kill what is left, say how it ended, remove the folder. False while something will not die."""
    folder = root / "instance"
    if not kill_all(folder):
        return False
    ended = {**record, "ended_at": time.time(), "reason": reason}
    ended.pop("environ", None)
    with contextlib.suppress(OSError), (folder / "console.log").open("rb") as console:
        console.seek(max(0, console.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        write(root / "ended" / (record["token"] + ".log"), console.read())
    write(root / "ended" / (record["token"] + ".json"), ended)
    trash = root / (".trash-" + record["token"])
    folder.rename(trash)
    for left in root.glob(".trash-*"):
        shutil.rmtree(str(left), ignore_errors=True)
    old = sorted((root / "ended").glob("*.json"), key=lambda path: path.stat().st_mtime)[:-KEPT_ENDED]
    for path in old:
        path.unlink()
        with contextlib.suppress(OSError):
            path.with_suffix(".log").unlink()
    return True

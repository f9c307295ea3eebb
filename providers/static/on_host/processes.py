"""Which processes of this machine belong to an instance, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from .places import read

KILL_SECONDS_MAX = 10.0
PAUSE_SECONDS = 0.05


def kill_all(folder: Path) -> bool:
    """SIGKILL, round after round, until nothing belongs to the instance. False if something won't die."""
    end = time.monotonic() + KILL_SECONDS_MAX
    while True:
        reap()
        left = belonging_to(folder)
        if not left:
            return True
        if time.monotonic() > end:
            return False
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


def reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def belonging_to(folder: Path) -> set[int]:
    """Live processes whose environment names the folder, that have it open and no terminal, or descend from such."""
    parents: dict[int, int] = {}
    ours: set[int] = set()
    marks = (b"=" + os.fsencode(folder), b"=" + os.fsencode(folder) + b"/")
    for name in os.listdir("/proc"):  # noqa: PTH208 - names, not paths
        if not name.isdigit():
            continue
        stat = stat_of(int(name))
        if stat is None:
            continue
        pid = int(name)
        parents[pid] = int(stat[1])
        # A person who looks around in the folder has a terminal.
        if is_marked(pid, marks) or (stat[4] == b"0" and has_open(pid, folder)):
            ours.add(pid)
    keeper = read(folder / "started.json").get("pid")
    roots = ours | ({keeper} if keeper == os.getpid() else set())
    above = {os.getpid(), 1} | ancestors(os.getpid(), parents)
    return (ours | descendants(roots, parents)) - above


def stat_of(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat after the command's name; None for what has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if not fields or fields[0] in (b"Z", b"X") else fields


def is_marked(pid: int, marks: tuple[bytes, bytes]) -> bool:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(
        entry.startswith(b"HOSTLER_") and (entry.endswith(marks[0]) or marks[1] in entry) for entry in entries
    )


def has_open(pid: int, folder: Path) -> bool:
    place = Path(f"/proc/{pid}")
    try:
        links = [place / "cwd", *(place / "fd").iterdir()]
    except OSError:
        return False
    inside = str(folder) + "/"
    for link in links:
        with contextlib.suppress(OSError):
            if f"{link.readlink()}/".startswith(inside):
                return True
    return False


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while pid in parents and pid not in found:
        found.add(pid)
        pid = parents[pid]
    return found


def descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found

"""Finding and ending every process that belongs to an instance, through /proc.

A process belongs when its environment names the instance's folder as HOSTLER_HOME, when it descends from such a
one, when it shares a session with one, or when it is in the session that the instance began with and still has the
instance's folder open (a double-forked child that wiped its environment). Pids are used again by the kernel: each
is kept with its start time and signalled through a pidfd whose process is looked at once more.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LOOK_AGAIN_SECONDS = 0.01
HOME_VARIABLE = b"HOSTLER_HOME="
_STATE, _PARENT, _SESSION, _START = 0, 1, 3, 19
"""Fields of /proc/PID/stat, counted from the one after the command's closing bracket."""


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it; `start_ticks` since boot tells it from a later one with the same pid."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    home: str

    def signal(self, number: int) -> None:
        """Send a signal to this very process; nothing happens if it has gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            now = read(self.pid)
            if now is not None and now.start_ticks == self.start_ticks:
                signal.pidfd_send_signal(descriptor, number)
        except (ProcessLookupError, PermissionError):
            return
        finally:
            os.close(descriptor)


def read(pid: int) -> Process | None:
    """The process, or None when it is gone, a zombie, or not ours to look at."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[_STATE] in (b"Z", b"X"):
        return None
    home = _home(pid)
    return Process(pid, int(fields[_PARENT]), int(fields[_SESSION]), int(fields[_START]), home)


def _home(pid: int) -> str:
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(HOME_VARIABLE):
            return os.fsdecode(entry[len(HOME_VARIABLE) :])
    return ""


def everything() -> dict[int, Process]:
    """All live processes of this machine by pid."""
    found = (read(int(entry)) for entry in os.listdir(PROC) if entry.isdigit())  # noqa: PTH208  # once a tick
    return {process.pid: process for process in found if process is not None}


def belonging_to(
    folder: Path, first: tuple[int, int] | None, machine: dict[int, Process]
) -> tuple[Process, ...]:
    """The processes of the instance in `folder`. `first` is (pid, start ticks) of its first process, if known."""
    home = str(folder)
    ours = {pid for pid, process in machine.items() if process.home == home}
    ours |= _strays(folder, first, machine)
    sessions = {machine[pid].session for pid in ours if _leads_own_session(machine, pid, ours)}
    ours |= {pid for pid, process in machine.items() if process.session in sessions}
    ours |= _descendants(ours, machine)
    return tuple(machine[pid] for pid in sorted(ours - _ourselves(machine)))


def _leads_own_session(machine: dict[int, Process], pid: int, ours: set[int]) -> bool:
    """Whether the session of `pid` was begun by the instance and not, say, by the shell of a person looking in."""
    leader = machine[pid].session
    return leader in ours or leader not in machine


def _strays(folder: Path, first: tuple[int, int] | None, machine: dict[int, Process]) -> set[int]:
    if first is None:
        return set()
    session, start_ticks = first
    leader = machine.get(session)
    if leader is not None and leader.start_ticks != start_ticks:
        return set()
    members = (process for process in machine.values() if process.session == session)
    return {process.pid for process in members if process.pid == session or _has_open(process.pid, folder)}


def holding(path: Path) -> tuple[Process, ...]:
    """Processes that keep `path` open: the last trace of one that left its session and wiped its environment.

    Another daemon may have it open for the moment of a look, so only those are given that still do a little later.
    """
    before = {process.pid: process for process in everything().values() if _has_open(process.pid, path)}
    if before:
        time.sleep(LOOK_AGAIN_SECONDS)
    ourselves = _ourselves(everything()) if before else set()
    return tuple(one for pid, one in before.items() if pid not in ourselves and _has_open(pid, path))


def _has_open(pid: int, path: Path) -> bool:
    """Whether `pid` has `path`, or something in it, open or as its working folder."""
    inside = f"{path}/"
    links = [PROC / str(pid) / "cwd"]
    try:
        links += list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    return any(f"{_target(link)}/".startswith(inside) for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _descendants(roots: Iterable[int], machine: dict[int, Process]) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in machine.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def _ourselves(machine: dict[int, Process]) -> set[int]:
    """This process and those above it: a daemon that runs inside an instance must not end itself."""
    line: set[int] = set()
    pid = os.getpid()
    while pid in machine and pid not in line:
        line.add(pid)
        pid = machine[pid].parent
    return line | {1}

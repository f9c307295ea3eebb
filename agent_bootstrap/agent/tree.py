"""The processes of one task as a whole: whatever they fork, they can be counted and killed.

Two ways at once: a child subreaper (orphans, double forks included, become children of the shim) and, where root
and cgroup v2 allow, a cgroup of the task's own, whose `cgroup.kill` no fork can outrun.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from .clock import now

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_SECONDS_MAX = 10.0
"""A process in uninterruptible sleep can't die; longer than this nobody waits for it."""
KILL_PAUSE_SECONDS = 0.005
CGROUP_PREFIX = "hostler-task-"
NAME_CHARACTERS = 16
LEFT_OVER_SECONDS = 60.0
OOM_SCORE_OF_TASK = b"500"
"""When memory runs out the task goes first, not its shim or the agent."""


def become_subreaper() -> bool:
    """Orphaned descendants become this process's children. False where the kernel has no such thing."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def parents() -> dict[int, int]:
    """Parent of every process of this machine. Zombies too: with its first thread gone a process looks like one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
    return found


def descendants(root: int) -> list[int]:
    """All processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def marked(variable: str, value: str) -> list[int]:
    """Processes whose environment carries `variable=value`: what a task left behind when its shim was killed."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


class Cgroup:
    """A cgroup v2 folder of our own below the one we run in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder_of_task: Path) -> Cgroup | None:
        """None where cgroup v2 is not there or not ours to write."""
        own = _own_cgroup()
        if own is None or os.geteuid() != 0:
            return None
        folder = own / _cgroup_name(folder_of_task)
        try:
            folder.mkdir(exist_ok=True)
            if not (folder / "cgroup.kill").exists():  # kernel before 5.14
                folder.rmdir()
                return None
        except OSError:
            return None
        return cls(folder)

    @classmethod
    def find(cls, folder_of_task: Path) -> Cgroup | None:
        own = _own_cgroup()
        folder = own / _cgroup_name(folder_of_task) if own else None
        return cls(folder) if folder and folder.is_dir() else None

    def enter(self) -> None:
        """Move the calling process in. Where that fails the subreaper still holds the tree."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")

    def empty(self) -> bool:
        try:
            return b"populated 0" in (self.folder / "cgroup.events").read_bytes()
        except OSError:
            return True

    def oom_kills(self) -> int:
        return _counter(self.folder / "memory.events")

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _cgroup_name(folder_of_task: Path) -> str:
    """Several fleets may share a machine and number their tasks alike: the folder tells them apart."""
    return CGROUP_PREFIX + hashlib.sha256(os.fsencode(folder_of_task)).hexdigest()[:NAME_CHARACTERS]


def remove_left_over() -> None:
    """Remove empty cgroups of tasks whose shim and agent were killed together: nobody else would."""
    own = _own_cgroup()
    if own is None or os.geteuid() != 0:
        return
    for folder in own.glob(CGROUP_PREFIX + "*"):
        with contextlib.suppress(OSError):  # not empty: in use
            if time.time() - folder.stat().st_ctime > LEFT_OVER_SECONDS:  # a new one may not be entered yet
                folder.rmdir()


def _own_cgroup() -> Path | None:
    with contextlib.suppress(OSError, StopIteration, IndexError):
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        fields = next(line.split() for line in mounts if " - cgroup2 " in line)
        paths = Path("/proc/self/cgroup").read_text().splitlines()
        path = next(line.split(":", 2)[2] for line in paths if line.startswith("0::"))
        root = fields[3]
        below = os.path.relpath(path, root) if path.startswith(root) else "."
        return Path(fields[4]) / below
    return None


def _counter(path: Path, key: bytes = b"oom_kill") -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_bytes().splitlines():
            name, _, count = line.partition(b" ")
            if name == key:
                return int(count)
    return 0


class Tree:
    """The leader and everything below it, owned by the calling process, which reaps for all of them."""

    def __init__(self, folder_of_task: Path) -> None:
        self.leader = 0
        self.leader_status: int | None = None
        self._subreaper = become_subreaper()
        self._cgroup = Cgroup.create(folder_of_task)
        self._oom_before = self._oom_kills()

    def enter(self) -> None:
        """In the forked leader, before it becomes the user's command."""
        _prctl(
            PR_SET_PDEATHSIG, signal.SIGKILL
        )  # should the shim be killed, the task doesn't run on unwatched
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(OOM_SCORE_OF_TASK)
        if self._cgroup:
            self._cgroup.enter()

    def reap(self) -> bool:
        """Collect whoever has ended. False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self.leader_status = status

    def signal_leader(self, number: int, *, through_shell: bool) -> None:
        """To the leader alone: a signal to the group would kill data loaders in the middle of a checkpoint.

        A shell of ours as the leader waits for the commands it runs and hands no signal on: those get it too,
        but not the reading end of a pipe (`train | tee`), which ends by itself.
        """
        targets = [self.leader]
        if through_shell:
            commands = [pid for pid, parent in parents().items() if parent == self.leader]
            targets += [pid for pid in commands if not _reads_a_pipe(pid)]
        kill(targets, number)

    def destroy(self) -> list[int]:
        """Kill everything, round after round until nothing is left. Gives the pids that would not die."""
        end = now() + KILL_SECONDS_MAX
        while True:
            if self._cgroup:
                self._cgroup.kill()
            left = descendants(os.getpid())
            kill(left if self._subreaper else [self.leader])
            children = self.reap()
            if not children and (self._cgroup is None or self._cgroup.empty()):
                return []
            if now() > end:
                return left
            time.sleep(KILL_PAUSE_SECONDS)

    def out_of_memory(self) -> bool:
        """Whether the kernel's OOM killer struck since the start: in our cgroup if it counts, else anywhere."""
        return self._oom_kills() > self._oom_before

    def close(self) -> None:
        if self._cgroup:
            self._cgroup.remove()

    def _oom_kills(self) -> int:
        own = self._cgroup
        if own and (own.folder / "memory.events").exists():
            return own.oom_kills()
        return _counter(Path("/proc/vmstat"))


def _reads_a_pipe(pid: int) -> bool:
    try:
        return str(Path(f"/proc/{pid}/fd/0").readlink()).startswith("pipe:")
    except OSError:
        return False


def sweep(folder_of_task: Path, marker: tuple[str, str]) -> None:
    """Kill what is left of a task whose shim is gone."""
    cgroup = Cgroup.find(folder_of_task)
    end = now() + KILL_SECONDS_MAX
    while now() < end:
        if cgroup:
            cgroup.kill()
        left = marked(*marker)
        kill(left)
        if not left and (cgroup is None or cgroup.empty()):
            break
        time.sleep(KILL_PAUSE_SECONDS)
    if cgroup:
        cgroup.remove()

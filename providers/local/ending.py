"""What state an instance is in, and the kills that are due. Called again and again, by any daemon, at any time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from ..base import CloudState
from . import processes
from .folder import Doom, End, Folder
from .processes import Process

GRACE_SECONDS = 5.0
"""From SIGTERM to SIGKILL of an instance that is terminated, as a machine that is shut down gets."""
EMPTY_LOOKS = 2
"""A process that forks and exits while /proc is read can be missed once."""

Machine = dict[int, Process]


def settle(folder: Folder, now: float, machine: Machine | None = None) -> CloudState:
    """The instance's state; kills what should be gone by `now` (epoch seconds). Waits for nothing.

    `machine` spares a look at /proc when many instances are settled at once. It is never proof that all is gone.
    """
    if folder.end() is not None:
        return CloudState.TERMINATED
    doom, lives = folder.doom(), _lives(folder)
    if lives and (doom is None or now < doom.at):
        return CloudState.STOPPING if doom is not None and doom.gentle else CloudState.RUNNING
    if doom is None and not folder.started.exists():
        return CloudState.RUNNING if folder.is_held() else CloudState.PENDING
    left = _left(folder, machine) or (processes.holding(folder.life_lock) if folder.is_held() else ())
    if left and doom is not None and doom.gentle and now < doom.at:
        return CloudState.STOPPING
    for process in left:
        process.signal(signal.SIGKILL)
    if left or not _nothing_left(folder):
        return CloudState.STOPPING
    folder.write_end(End(at=now, reason=doom.reason if doom is not None else "its first process ended"))
    return CloudState.TERMINATED


def condemn(folder: Folder, doom: Doom) -> None:
    """Set the end of an instance, or bring it forward; the caller holds the lock over all local instances."""
    known = folder.doom()
    if known is None or (doom.at, not doom.gentle) < (known.at, not known.gentle):
        folder.write_doom(doom)


def ask_to_end(folder: Folder) -> None:
    """SIGTERM to all that belongs to the instance."""
    for process in _left(folder, None):
        process.signal(signal.SIGTERM)


def see_to_the_end(folder: Folder, clock: Callable[[], float], wait: Callable[[float], bool]) -> None:
    """Settle until nothing is left. `wait(seconds)` gives True when the daemon is closing: others go on later."""
    pause_seconds = 0.05
    while settle(folder, clock()) is not CloudState.TERMINATED:
        if wait(pause_seconds):
            return
        pause_seconds = min(0.5, pause_seconds * 1.5)


def _left(folder: Folder, machine: Machine | None) -> Sequence[Process]:
    found = processes.everything() if machine is None else machine
    return processes.belonging_to(folder.path, folder.first(), found)


def _nothing_left(folder: Folder) -> bool:
    return not any(_left(folder, None) for _ in range(EMPTY_LOOKS)) and not folder.is_held()


def _lives(folder: Folder) -> bool:
    """Whether the first process is there, as the machine's init would be; what it left behind doesn't count."""
    had_started = _pid_told(folder) is not None
    first = folder.first() or _find_first(folder)
    if first is None:
        # Not even its first deed is done: it lives if it is just being started.
        return not had_started and folder.is_held()
    process = processes.read(first[0])
    return process is not None and process.start_ticks == first[1]


def _find_first(folder: Folder) -> tuple[int, int] | None:
    """For a daemon that was killed right after the start, before it wrote down which process is the first."""
    home, told = str(folder.path), _pid_told(folder)
    if told is None:
        return None
    for process in processes.everything().values():
        if process.home == home and process.pid == process.session == told:
            folder.write_first(process.pid, process.start_ticks)
            return process.pid, process.start_ticks
    return None


def _pid_told(folder: Folder) -> int | None:
    """The pid that the first process wrote as its first deed; None while it hasn't."""
    try:
        text = folder.started.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None

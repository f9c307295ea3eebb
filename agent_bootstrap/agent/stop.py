"""How a task is asked to end: a file, a signal to its leader, and a time at which its whole tree is killed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from ...tracking.files import write_json

RESERVE_SECONDS_MAX = 5.0
"""Kept back at the end of a grace for what comes after the kill: flushing logs and checkpoint, the report."""
RESERVE_SHARE = 0.2
"""Of a short grace no more than this is kept back."""
TIMEOUT_GRACE_SECONDS = 10.0
"""What a task gets after its run timeout to write a last checkpoint."""


class Stopping(NamedTuple):
    """A stop under way; times by `clock.now`."""

    reason: str
    deadline: float
    kill_at: float


def plan_stop(reason: str, now: float, grace_seconds: float) -> Stopping:
    """When to kill for a grace that begins now."""
    grace = max(0.0, grace_seconds)
    reserve = min(RESERVE_SECONDS_MAX, RESERVE_SHARE * grace)
    return Stopping(reason, now + grace, now + grace - reserve)


def sooner(old: Stopping | None, new: Stopping) -> Stopping:
    """A second request never gives more time and never changes why; it may only take time away."""
    if old is None or new.kill_at < old.kill_at:
        return new if old is None else Stopping(old.reason, new.deadline, new.kill_at)
    return old


def announce(path: Path, stopping: Stopping, now: float) -> None:
    """Write STOP_FILE: `deadline_seconds` from now is what counts, `deadline` is the same by the wall clock."""
    left = max(0.0, stopping.kill_at - now)
    message = {"reason": stopping.reason, "deadline_seconds": left, "deadline": time.time() + left}
    write_json(path, message)

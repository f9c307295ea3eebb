"""What became of a task, in the words of the wire: by what the agent knows, never by the exit code alone."""

from __future__ import annotations

from typing import NamedTuple, Optional

from .. import wire
from .shim import Exit

MESSAGE_CHARACTERS_MAX = 2000
_STOPPED = ("preempted", "stopped", "timeout")
_UNHEARD = ("lost", "stale")


class Fate(NamedTuple):
    """A result to be; an empty `outcome` is never reported: the lease was lost."""

    outcome: str
    exit_code: Optional[int]
    reason: str
    message: str
    run_seconds: float

    def result(self) -> wire.Result:
        return wire.Result(
            outcome=self.outcome,
            exit_code=self.exit_code,
            reason=self.reason,
            message=self.message[:MESSAGE_CHARACTERS_MAX],
            run_seconds=self.run_seconds,
        )


def fate_of(ended: Exit | None) -> Fate:
    """None: the shim was killed and left no record."""
    if ended is None:
        return Fate("infra", None, "lost", "the task's shim was killed; nothing is known of its end", 0.0)
    reason = ended["reason"]
    outcome = _outcome(reason, ended["exit_code"])
    return Fate(outcome, ended["exit_code"], reason, ended["message"], ended["run_seconds"])


def _outcome(reason: str, code: int | None) -> str:
    if reason in _UNHEARD:
        return ""
    if reason in _STOPPED:
        return reason
    codes = {0: "completed", wire.EXIT_REQUEUE: "requeue", wire.EXIT_PERMANENT: "permanent"}
    return "failed" if code is None else codes.get(code, "failed")

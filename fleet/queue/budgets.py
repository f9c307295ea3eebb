"""After an attempt: run again or not. Pure arithmetic on counts; each way to fail has a budget of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ...config.task import Retry
from ..planning.model import TaskState

REQUEUES_MAX = 1_000
"""How often a task may ask to be run again at no cost: a task that does nothing else must end some day."""
ERROR_BACKOFF_SECONDS = 5.0
INFRA_BACKOFF_SECONDS = 1.0
BACKOFF_MAX_SECONDS = 300.0
BACKOFF_DOUBLINGS_MAX = 16


class Ending(str, Enum):
    """How an attempt ended; the values are those of `attempts.outcome` but for the three kinds of failure."""

    COMPLETED = "completed"
    FAILED = "failed"
    PERMANENT = "permanent"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    INFRA = "infra"
    LOST = "lost"
    STOPPED = "stopped"
    REQUEUE = "requeued"

    @property
    def outcome(self) -> str:
        return "failed" if self in (Ending.PERMANENT, Ending.TIMEOUT) else self.value


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the task was submitted, or last requeued by a person."""

    attempts: int = 0
    preempted: int = 0
    infra: int = 0
    errors: int = 0
    requeues: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the task goes. `wait_seconds` is its back-off if it goes back to the queue."""

    state: TaskState
    counts: Counts
    message: str = ""
    wait_seconds: float = 0.0


def retry_of(spec: Mapping[str, Any]) -> Retry:
    return Retry.model_validate(spec.get("retry") or {})


def attempts_max(retry: Retry) -> int:
    """All that its budgets allow together: a task that was claimed more often than this is poison."""
    return 1 + retry.preempted + retry.infra + retry.error + REQUEUES_MAX


def verdict(ending: Ending, counts: Counts, retry: Retry) -> Verdict:
    """Decide on an attempt that is over (it is in `counts.attempts`) and that nobody asked to stop."""
    if ending is Ending.COMPLETED:
        return Verdict(TaskState.COMPLETED, counts)
    if ending is Ending.STOPPED:
        return Verdict(TaskState.STOPPED, counts)
    if ending is Ending.PERMANENT:
        return Verdict(TaskState.FAILED, counts, "it asked not to be run again")
    if ending is Ending.TIMEOUT:
        return Verdict(TaskState.FAILED, counts, "it ran longer than timeout.run allows")
    again = _again(ending, counts, retry)
    if again.state is TaskState.QUEUED and counts.attempts >= attempts_max(retry):
        return Verdict(TaskState.DEAD, again.counts, f"{counts.attempts} attempts are all it may have")
    return again


def _again(ending: Ending, counts: Counts, retry: Retry) -> Verdict:
    if ending is Ending.FAILED:
        used = counts.errors + 1
        return _within(
            "error",
            used,
            retry.error,
            replace(counts, errors=used),
            # Without any retry it has plainly failed; one that failed again and again is given up on.
            otherwise=TaskState.DEAD if retry.error else TaskState.FAILED,
            wait_seconds=backoff_seconds(ERROR_BACKOFF_SECONDS, used),
        )
    if ending is Ending.PREEMPTED:
        used = counts.preempted + 1
        return _within("preempted", used, retry.preempted, replace(counts, preempted=used))
    if ending is Ending.REQUEUE:
        used = counts.requeues + 1
        return _within("requeue", used, REQUEUES_MAX, replace(counts, requeues=used))
    used = counts.infra + 1
    # A machine that vanished can't fail the next attempt too; one that reports a failure may.
    wait = backoff_seconds(INFRA_BACKOFF_SECONDS, used) if ending is Ending.INFRA else 0.0
    return _within("infra", used, retry.infra, replace(counts, infra=used), wait_seconds=wait)


def _within(
    budget: str,
    used: int,
    allowed: int,
    counts: Counts,
    *,
    otherwise: TaskState = TaskState.DEAD,
    wait_seconds: float = 0.0,
) -> Verdict:
    if used <= allowed:
        return Verdict(TaskState.QUEUED, counts, f"retry {used} of {allowed} ({budget})", wait_seconds)
    return Verdict(otherwise, counts, f"no retry left: {allowed} allowed ({budget})")


def backoff_seconds(first_seconds: float, failures: int) -> float:
    """Doubles with each failure (1, 2, ...), up to `BACKOFF_MAX_SECONDS`; the same input, the same wait."""
    doublings = min(max(failures - 1, 0), BACKOFF_DOUBLINGS_MAX)
    return min(first_seconds * 2.0**doublings, BACKOFF_MAX_SECONDS)

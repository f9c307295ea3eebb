"""The one table of legal transitions for tasks and for instances."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .model import InstanceState as I
from .model import TaskState as T

LEGAL_INSTANCE: Mapping[I, frozenset[I]] = MappingProxyType(
    {
        # An intent whose call never went out, or was refused for good, ends without having been billed.
        I.INTENDED: frozenset({I.LAUNCHING, I.TERMINATED}),
        # The agent may join before the launch call's answer is recorded: hence READY straight from LAUNCHING.
        I.LAUNCHING: frozenset({I.BOOTING, I.READY, I.DRAINING, I.TERMINATING, I.TERMINATED, I.LOST}),
        I.BOOTING: frozenset({I.READY, I.DRAINING, I.TERMINATING, I.TERMINATED, I.LOST}),
        I.READY: frozenset({I.DRAINING, I.TERMINATING, I.TERMINATED, I.LOST}),
        I.DRAINING: frozenset({I.TERMINATING, I.TERMINATED, I.LOST}),
        I.TERMINATING: frozenset({I.TERMINATED}),
        # Lost = its cloud no longer lists it, but has not said that it ended: it may show up again and must then die.
        I.LOST: frozenset({I.TERMINATING, I.TERMINATED}),
        I.TERMINATED: frozenset(),
    }
)

LEGAL_TASK: Mapping[T, frozenset[T]] = MappingProxyType(
    {
        T.DRAFT: frozenset({T.QUEUED, T.STOPPED}),
        T.QUEUED: frozenset({T.LEASED, T.STOPPED, T.FAILED, T.DEAD}),
        T.LEASED: frozenset({T.RUNNING, T.STOPPING, T.QUEUED, T.COMPLETED, T.FAILED, T.STOPPED, T.DEAD}),
        T.RUNNING: frozenset({T.STOPPING, T.QUEUED, T.COMPLETED, T.FAILED, T.STOPPED, T.DEAD}),
        T.STOPPING: frozenset({T.QUEUED, T.COMPLETED, T.FAILED, T.STOPPED, T.DEAD}),
        # A person may ask for a finished task to run once more.
        T.COMPLETED: frozenset({T.QUEUED}),
        T.FAILED: frozenset({T.QUEUED}),
        T.STOPPED: frozenset({T.QUEUED}),
        T.DEAD: frozenset({T.QUEUED}),
    }
)

TERMINAL_TASK: frozenset[T] = frozenset({T.COMPLETED, T.FAILED, T.STOPPED, T.DEAD})
HOLDING_TASK: frozenset[T] = frozenset({T.LEASED, T.RUNNING, T.STOPPING})
"""States in which an agent holds the task's lease."""

LIVE_INSTANCE: frozenset[I] = frozenset(set(I) - {I.TERMINATED})
"""States that may cost money; every cap counts these."""
SUPPLY_INSTANCE: frozenset[I] = frozenset({I.INTENDED, I.LAUNCHING, I.BOOTING, I.READY})
"""States that will serve tasks, now or once booted."""


def may_move_instance(before: I, after: I) -> bool:
    return after in LEGAL_INSTANCE[before]


def may_move_task(before: T, after: T) -> bool:
    return after in LEGAL_TASK[before]

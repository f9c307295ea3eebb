"""Names of states as the tables hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, or_

from ..planning.lifecycle import HOLDING_TASK, TERMINAL_TASK
from ..planning.model import TaskState

HOLDING: Final = tuple(sorted(state.value for state in HOLDING_TASK))
TERMINAL: Final = tuple(sorted(state.value for state in TERMINAL_TASK))
DRAFT: Final = TaskState.DRAFT.value
QUEUED: Final = TaskState.QUEUED.value
LEASED: Final = TaskState.LEASED.value
RUNNING: Final = TaskState.RUNNING.value
STOPPING: Final = TaskState.STOPPING.value
STOPPED: Final = TaskState.STOPPED.value

STOP_ASKED: Final = "stopped"
"""`tasks.stop_reason` when somebody asked for the end of the task."""
STOP_PREEMPTED: Final = "preempted"
"""`tasks.stop_reason` when its machine is about to be taken away; the task itself goes on elsewhere."""


def among(column: ColumnElement[Any], states: Iterable[str]) -> ColumnElement[bool]:
    """`column IN (states)` for statements that are compiled once."""
    return or_(*(column == state for state in states))

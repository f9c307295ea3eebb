"""What the queue refuses. Each has a stable `code`, a message and a `hint` that says what to do."""

from __future__ import annotations

from collections.abc import Iterable

from ...config.nearest import did_you_mean


class QueueError(Exception):
    """Nothing was changed."""

    code = "QUEUE_ERROR"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Stale(QueueError):
    """The sender does not hold this task (any more): it must kill the task's processes and say nothing more of it."""

    code = "STALE_GENERATION"

    def __init__(self, task_id: int, generation: int) -> None:
        super().__init__(
            f"generation {generation} of task {task_id} is over", "kill its processes; its lease is not yours"
        )
        self.task_id = task_id
        self.generation = generation


class UnknownTask(QueueError):
    """There is no such task in this workspace."""

    code = "UNKNOWN_TASK"

    def __init__(self, task_id: int) -> None:
        super().__init__(f"there is no task {task_id}", "hostler ps shows the tasks there are")
        self.task_id = task_id


class UnknownQueue(QueueError):
    """fleet.yaml has no queue of this name."""

    code = "UNKNOWN_QUEUE"

    def __init__(self, queue: str, known: Iterable[str]) -> None:
        names = sorted(known)
        hint = did_you_mean(queue, names) or f"queues of this fleet: {', '.join(names) or '(none)'}"
        super().__init__(f"there is no queue '{queue}'", hint)
        self.queue = queue


class WrongState(QueueError):
    """The task is in a state that does not allow this."""

    code = "WRONG_STATE"

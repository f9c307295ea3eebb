"""The runs this agent holds, from lease to acknowledged result."""

from __future__ import annotations

import threading

from .. import wire
from .runner import Run


class HeldRuns:
    """Safe between threads; `changed` is set whenever one comes or goes."""

    def __init__(self) -> None:
        self._runs: dict[tuple[int, int], Run] = {}
        self._lock = threading.Lock()
        self.changed = threading.Event()

    def add(self, run: Run) -> None:
        with self._lock:
            self._runs[run.key] = run
        self.changed.set()

    def remove(self, run: Run) -> None:
        with self._lock:
            self._runs.pop(run.key, None)
        self.changed.set()

    def get(self, task_id: int, generation: int) -> Run | None:
        with self._lock:
            return self._runs.get((task_id, generation))

    def all(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def of_tasks(self, task_ids: list[int]) -> list[Run]:
        return [run for run in self.all() if run.key[0] in task_ids]

    def named(self) -> list[wire.Held]:
        return [wire.Held(task_id=run.key[0], generation=run.key[1]) for run in self.all()]

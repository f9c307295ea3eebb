"""`hostler stop`, `hostler requeue`: one act on each of some tasks."""

from __future__ import annotations

import time
from typing import Any

import typer

from . import output
from .failures import Failure
from .options import Output, TaskIds
from .session import connect
from .task_columns import task_columns


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work")(stop)
    app.command(rich_help_panel="work")(requeue)


def stop(task_ids: TaskIds, form: Output = output.Format.TABLE) -> None:
    """End tasks: at once where they wait, asked first where they run. Ended already: no change."""
    _each(task_ids, "stop", form)


def requeue(task_ids: TaskIds, form: Output = output.Format.TABLE) -> None:
    """Run finished tasks once more, with fresh retry budgets."""
    _each(task_ids, "requeue", form)


def _each(task_ids: list[int], act: str, form: output.Format) -> None:
    """All of them, whatever becomes of one; the first failure is how the command ends."""
    done: list[Any] = []
    failures: list[Failure] = []
    with connect() as client:
        for task_id in task_ids:
            try:
                done.append(client.post(f"/api/v1/tasks/{task_id}/{act}"))
            except Failure as failure:
                failures.append(failure)
    if done:
        output.rows(done, task_columns(time.time()), form, empty="")
    for further in failures[1:]:
        output.note("\n".join(further.lines()))
    if failures:
        raise failures[0]

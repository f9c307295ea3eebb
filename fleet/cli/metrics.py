"""`hostler metrics`: what a task logged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import output
from .options import Output, TaskId
from .output import Column
from .session import connect
from .words import NOTHING, ago, clock, number

POINTS_DEFAULT = 50


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="registry")(metrics)


def metrics(
    task_id: TaskId,
    key: Annotated[str | None, typer.Argument(help="Show this metric's points.")] = None,
    context: Annotated[str, typer.Option(help="The metric's context, such as val.")] = "",
    points: Annotated[
        int, typer.Option("--points", "-n", help="At most so many; more are averaged.", min=1)
    ] = POINTS_DEFAULT,
    attempt: Annotated[int | None, typer.Option(help="Of this attempt only.", min=1)] = None,
    form: Output = output.Format.TABLE,
) -> None:
    """List a task's metrics with their last, least and greatest values, or show the points of one."""
    path, now = f"/api/v1/tasks/{task_id}/metrics", time.time()
    with connect() as client:
        if key is None:
            found, _ = client.pages(path, limit=0)
            output.rows(found, metric_columns(now), form, empty=f"task {task_id} has logged no metrics")
            return
        params = {"key": key, "context": context, "max_points": points, "attempt": attempt}
        chart = client.get(f"{path}/points", params)
    output.one(chart, form, lambda: output.print_table(chart["points"], _point_columns(chart, now), form))


def metric_columns(now: float) -> Sequence[Column]:
    return (
        Column("METRIC", lambda one: one["key"]),
        Column("CONTEXT", lambda one: one["context"] or NOTHING, wide=True),
        Column("LAST", lambda one: number(one["last"]), right=True),
        Column("STEP", lambda one: number(one["last_step"]), right=True),
        Column("MIN", lambda one: number(one["min"]), right=True),
        Column("MAX", lambda one: number(one["max"]), right=True),
        Column("COUNT", lambda one: str(one["count"]), right=True),
        Column("ATTEMPT", lambda one: str(one["last_attempt"]), wide=True, right=True),
        Column("UPDATED", lambda one: ago(one["updated_at"], now)),
    )


def _point_columns(chart: dict[str, Any], now: float) -> Sequence[Column]:
    shown = [
        Column("STEP", lambda one: number(one["step"]), right=True),
        Column("TIME", lambda one: clock(one["time"], now)),
        Column("VALUE", lambda one: number(one["value"]), right=True),
    ]
    if not chart["sampled"]:
        return [*shown, Column("ATTEMPT", lambda one: str(one["attempt"]), right=True)]
    return [
        *shown,
        Column("MIN", lambda one: number(one["min"]), right=True),
        Column("MAX", lambda one: number(one["max"]), right=True),
        Column("POINTS", lambda one: str(one["count"]), right=True),
    ]

"""`hostler show`: all that is known of one task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import typer

from . import output
from .artifacts import artifact_columns
from .metrics import metric_columns
from .options import Output, TaskId
from .output import Column, Row
from .session import connect
from .task_columns import why
from .words import NOTHING, ago, clock, span, usd

ROWS_MAX = 1000


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work")(show)


def show(task_id: TaskId, form: Output = output.Format.TABLE) -> None:
    """Show a task: its attempts, parameters, last metrics, artifacts."""
    path = f"/api/v1/tasks/{task_id}"
    with connect() as client:
        task = client.get(path)
        task["attempts"] = client.get(f"{path}/attempts")["items"]
        task["params"] = client.get(f"{path}/params")["params"]
        task["metrics"], _ = client.pages(f"{path}/metrics", limit=ROWS_MAX)
        task["artifacts"], _ = client.pages(f"{path}/artifacts", limit=ROWS_MAX)
    output.one(task, form, lambda: _print(task, form, time.time()))


def _print(task: dict[str, Any], form: output.Format, now: float) -> None:
    facts = _facts(task, now)
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        typer.echo(f"{name.ljust(width)}  {output.on_one_line(value)}")
    params = [{"key": key, "value": value} for key, value in task["params"].items()]
    _section("attempts", task["attempts"], attempt_columns(now), form)
    _section("params", params, _PARAM_COLUMNS, form)
    _section("metrics", task["metrics"], metric_columns(now), form)
    _section("artifacts", task["artifacts"], artifact_columns(now), form)


def _section(title: str, items: Sequence[Row], columns: Sequence[Column], form: output.Format) -> None:
    if items:
        typer.echo(f"\n{title}")
        output.print_table(items, columns, form)


def _facts(task: dict[str, Any], now: float) -> list[tuple[str, str]]:
    spec = task.get("spec") or {}
    facts = [
        ("task", f"{task['id']}  {task['name']}"),
        ("state", f"{task['state']}  {'' if why(task) == NOTHING else why(task)}".rstrip()),
        ("project", task["project"]),
        ("queue", f"{task['queue'] or NOTHING}, priority {task['priority']}"),
        ("tags", ", ".join(task["tags"])),
        ("instance", task["instance_id"] or ""),
        (
            "submitted",
            f"{clock(task['created_at'], now)} ({ago(task['created_at'], now)}) by {task['actor']}",
        ),
        ("finished", clock(task["finished_at"], now) if task["finished_at"] else ""),
        ("ran", span(task["run_seconds"])),
        ("cost", usd(task["usd"])),
        ("retries", f"{task['preempted']} preempted, {task['infra']} infra, {task['errors']} error"),
        ("command", " ".join(spec.get("run", ()))),
        ("code", (task["code_digest"] or "")[:12]),
        ("message", task["message"] or ""),
    ]
    return [(name, value) for name, value in facts if value]


def attempt_columns(now: float) -> Sequence[Column]:
    return (
        Column("ATTEMPT", lambda one: str(one["number"]), right=True),
        Column("INSTANCE", lambda one: one["instance_id"] or NOTHING),
        Column("BEGAN", lambda one: clock(one["started_at"] or one["claimed_at"], now)),
        Column("TOOK", lambda one: _took(one, now), right=True),
        Column("OUTCOME", lambda one: one["outcome"] or "running"),
        Column(
            "EXIT", lambda one: NOTHING if one["exit_code"] is None else str(one["exit_code"]), right=True
        ),
        Column("REASON", lambda one: one["exit_reason"] or NOTHING),
        Column("LOST", lambda one: span(one["lost_seconds"]), wide=True, right=True),
        Column("MESSAGE", lambda one: one["message"] or NOTHING, wide=True),
    )


def _took(attempt: Row, now: float) -> str:
    began = attempt["started_at"]
    return NOTHING if began is None else span((attempt["finished_at"] or now) - began)


_PARAM_COLUMNS = (
    Column("KEY", lambda one: str(one["key"])),
    Column("VALUE", lambda one: str(one["value"])),
)

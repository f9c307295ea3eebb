"""`hostler ps`, `hostler tasks`: tasks in a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .failures import usage
from .options import Interval, Limit, Output, Watch, seconds_of
from .session import connect
from .task_columns import UNFINISHED, task_columns
from .words import plural

if TYPE_CHECKING:
    from .client import Client

LIMIT_DEFAULT = 50
STATES = (*UNFINISHED, "completed", "failed", "stopped", "dead")

States = Annotated[list[str] | None, typer.Option("--state", "-s", help="In this state; may be repeated.")]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Of this queue.")]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Of this project.")]
Tag = Annotated[str | None, typer.Option("--tag", "-t", help="With this tag.")]
Name = Annotated[str | None, typer.Option(help="With this in its name.")]
Instance = Annotated[str | None, typer.Option(help="Held by this instance now.")]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work")(ps)
    app.command(rich_help_panel="registry")(tasks)


def ps(
    every: Annotated[bool, typer.Option("--all", "-a", help="Finished ones too.")] = False,
    state: States = None,
    queue: Queue = None,
    project: Project = None,
    tag: Tag = None,
    name: Name = None,
    instance: Instance = None,
    limit: Limit = LIMIT_DEFAULT,
    watch: Watch = False,
    interval: Interval = "2s",
    form: Output = output.Format.TABLE,
) -> None:
    """List tasks that are not finished, newest first (--all: every task)."""
    params = _params(list(state or ([] if every else UNFINISHED)), queue, project, tag, name, instance)
    if watch:
        _watch(params, limit, form, seconds_of(interval, "--interval") or 0.0)
        return
    with connect() as client:
        found, more = client.pages("/api/v1/tasks", params, limit=limit)
    empty = (
        "no tasks" if every or state else "no unfinished tasks; `hostler ps --all` lists the finished ones"
    )
    output.rows(found, task_columns(time.time()), form, empty=empty)
    if more:
        output.note(f"the newest {len(found)} are shown; --limit 0 shows all")


def tasks(
    state: States = None,
    queue: Queue = None,
    project: Project = None,
    tag: Tag = None,
    name: Name = None,
    instance: Instance = None,
    limit: Limit = LIMIT_DEFAULT,
    form: Output = output.Format.TABLE,
) -> None:
    """List tasks in every state, newest first."""
    ps(True, state, queue, project, tag, name, instance, limit, False, "2s", form)


def _params(
    states: list[str], queue: Any, project: Any, tag: Any, name: Any, instance: Any
) -> dict[str, Any]:
    for state in states:
        if state not in STATES:
            raise usage(f"--state: there is no state {state!r}", hint=f"one of {', '.join(STATES)}")
    named = {"queue": queue, "project": project, "tag": tag, "name": name, "instance": instance}
    return {"state": states, **named}


def _watch(params: dict[str, Any], limit: int, form: output.Format, interval_seconds: float) -> None:
    from .watch import watch

    if not form.is_table:
        raise usage("--watch is for tables", hint="`hostler events -f -o jsonl` gives programs each change")
    with connect() as client:
        watch(
            lambda: _drawn(client, params, limit, form),
            lambda: _print(client, params, limit, form),
            interval_seconds,
        )


def _drawn(client: Client, params: dict[str, Any], limit: int, form: output.Format) -> Any:
    from rich.console import Group
    from rich.text import Text

    found, more = client.pages("/api/v1/tasks", params, limit=limit)
    now = time.time()
    head = f"{time.strftime('%H:%M:%S')}  {plural(len(found), 'task')}{' and more' if more else ''}"
    return Group(Text(head, "dim"), output.rich_table(*output.grid(found, task_columns(now), form)))


def _print(client: Client, params: dict[str, Any], limit: int, form: output.Format) -> None:
    found, _ = client.pages("/api/v1/tasks", params, limit=limit)
    output.print_table(found, task_columns(time.time()), form)

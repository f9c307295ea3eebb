"""`hostler events`: what happened, and what happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import output
from .options import Output
from .output import Column
from .session import connect
from .words import NOTHING, clock


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="fleet")(events)


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    task: Annotated[int | None, typer.Option(help="Of this task.", min=1)] = None,
    instance: Annotated[str | None, typer.Option(help="Of this instance.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Such as task.queued, or task. for all of tasks.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="The last so many first.", min=0)] = 50,
    form: Output = output.Format.TABLE,
) -> None:
    """Print events, oldest first; with --follow each new one as it comes."""
    params: dict[str, Any] = {"task": task, "instance": instance, "kind": list(kind or ())}
    with connect() as client:
        # Where nothing was yet the stream begins at the first event: none is lost between the two requests.
        newest = client.pages("/api/v1/events", params, limit=max(1, limit))[0]
        past = newest[:limit][::-1]
        if not follow:
            output.rows(past, _columns(time.time()), form, empty="no events")
            return
        for one in past:
            _print(one, form)
        from .client import read_json
        from .follow import follow as follow_stream

        after = str(newest[0]["id"]) if newest else "0"
        for event in follow_stream(client, "/api/v1/events/stream", params, last_event_id=after):
            _print(read_json(event.data), form)


def _columns(now: float) -> Sequence[Column]:
    return (
        Column("TIME", lambda one: clock(one["at"], now)),
        Column("EVENT", lambda one: one["kind"]),
        Column("TASK", lambda one: NOTHING if one["task_id"] is None else str(one["task_id"]), right=True),
        Column("INSTANCE", lambda one: one["instance_id"] or NOTHING),
        Column("ACTOR", lambda one: one["actor"], wide=True),
        Column("MESSAGE", lambda one: one["message"]),
    )


def _print(event: dict[str, Any], form: output.Format) -> None:
    """One line an event: a list that never ends has no closing bracket, so `json` means `jsonl`."""
    if not form.is_table:
        output.data(event, output.Format.JSONL if form is output.Format.JSON else form)
        return
    about = f"task {event['task_id']}" if event["task_id"] is not None else event["instance_id"] or ""
    line = f"{clock(event['at'], time.time())}  {event['kind']:<22}  {about:<14}  {event['message']}"
    typer.echo(output.on_one_line(line).rstrip())

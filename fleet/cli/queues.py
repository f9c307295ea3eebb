"""`hostler queues`: what waits where."""

from __future__ import annotations

import time
from collections.abc import Sequence

import typer

from . import output
from .options import Output
from .output import Column, Row
from .session import connect
from .words import NOTHING, span


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="fleet")(queues)


def queues(form: Output = output.Format.TABLE) -> None:
    """List queues with their tasks."""
    with connect() as client:
        found = client.get("/api/v1/queues")["items"]
    output.rows(found, queue_columns(time.time()), form, empty="no queues")


def queue_columns(now: float) -> Sequence[Column]:
    return (
        Column("QUEUE", lambda one: one["name"] if one["configured"] else f"{one['name']} (removed)"),
        Column("POOLS", lambda one: ",".join(one["pools"] or ()) or NOTHING),
        Column(
            "PRIORITY", lambda one: NOTHING if one["priority"] is None else str(one["priority"]), right=True
        ),
        Column("MARKET", lambda one: one["market"] or NOTHING, wide=True),
        Column("QUEUED", lambda one: _count(one, "queued"), right=True),
        Column("RUNNING", lambda one: _count(one, "leased", "running", "stopping"), right=True),
        Column("COMPLETED", lambda one: _count(one, "completed"), right=True),
        Column("FAILED", lambda one: _count(one, "failed", "dead"), right=True),
        Column("STOPPED", lambda one: _count(one, "stopped"), wide=True, right=True),
        Column("LONGEST WAIT", lambda one: _wait(one, now), right=True),
    )


def _count(queue: Row, *states: str) -> str:
    return str(sum(queue["tasks"].get(state, 0) for state in states))


def _wait(queue: Row, now: float) -> str:
    since = queue["oldest_queued_at"]
    return NOTHING if since is None else span(now - since)

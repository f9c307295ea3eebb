"""Tasks in tables."""

from __future__ import annotations

from collections.abc import Sequence

from .output import Column, Row
from .words import NOTHING, ago, span, usd

UNFINISHED = ("draft", "queued", "leased", "running", "stopping")


def why(task: Row) -> str:
    """In a word: why it waits, or why it ended as it did."""
    if task["state"] == "queued" and task.get("decision"):
        return str(task["decision"]["code"])
    if task["state"] == "stopping":
        return str(task["stop_reason"] or NOTHING)
    if task["state"] in UNFINISHED or task["state"] == "completed":
        return NOTHING
    reason = task["exit_reason"] or NOTHING
    return f"{reason} {task['exit_code']}" if task["exit_code"] else str(reason)


def task_columns(now: float) -> Sequence[Column]:
    return (
        Column("ID", lambda task: str(task["id"]), right=True),
        Column("NAME", lambda task: task["name"]),
        Column("PROJECT", lambda task: task["project"], wide=True),
        Column("QUEUE", lambda task: task["queue"] or NOTHING),
        Column("STATE", lambda task: task["state"]),
        Column("WHY", why),
        Column("PRIORITY", lambda task: str(task["priority"]), wide=True, right=True),
        Column("ATTEMPT", lambda task: str(task["attempt"]), right=True),
        Column("INSTANCE", lambda task: task["instance_id"] or NOTHING),
        Column("AGE", lambda task: ago(task["created_at"], now).removesuffix(" ago")),
        Column("RAN", lambda task: span(task["run_seconds"] or None), right=True),
        Column("COST", lambda task: usd(task["usd"] or None), right=True),
        Column("TAGS", lambda task: ",".join(task["tags"]) or NOTHING, wide=True),
        Column("MESSAGE", lambda task: task["message"] or NOTHING, wide=True),
    )

"""`hostler explain`: why something is as it is, from the decisions that the control loop stored."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from . import output
from .options import InstanceId, Output, TaskId
from .session import connect
from .show import attempt_columns
from .task_columns import UNFINISHED, why
from .words import NOTHING, ago, clock, plural, span, usd, usd_per_hour

TASKS_MAX: Final = 500
SHOWN_PER_CODE: Final = 10
group = typer.Typer(
    help="Say why a task waits, an instance is kept, a queue stands still.", no_args_is_help=True
)
History = Annotated[bool, typer.Option("--history", help="The decisions before it too.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="explain", rich_help_panel="fleet")


@group.command()
def task(task_id: TaskId, history: History = False, form: Output = output.Format.TABLE) -> None:
    """Why a task waits, or how it ended."""
    with connect() as client:
        found = client.get(f"/api/v1/tasks/{task_id}/explain")
    output.one(found, form, lambda: _print(task_lines(found, time.time(), history)))


@group.command()
def instance(instance_id: InstanceId, history: History = False, form: Output = output.Format.TABLE) -> None:
    """Why an instance is kept, drained or ended."""
    with connect() as client:
        found = client.get(f"/api/v1/instances/{instance_id}/explain")
    output.one(found, form, lambda: _print(instance_lines(found, time.time(), history)))


@group.command()
def queue(
    name: Annotated[str, typer.Argument(help="The queue's name.", metavar="QUEUE")],
    form: Output = output.Format.TABLE,
) -> None:
    """Why the tasks of a queue wait, by reason."""
    with connect() as client:
        found = {"queue": client.get(f"/api/v1/queues/{name}")}
        params = {"queue": name, "state": ["queued"]}
        found["tasks"], found["more"] = client.pages("/api/v1/tasks", params, limit=TASKS_MAX)
    output.one(found, form, lambda: _print(queue_lines(found, time.time())))


@group.command()
def pool(
    name: Annotated[str, typer.Argument(help="The pool's name.", metavar="POOL")],
    history: History = False,
    form: Output = output.Format.TABLE,
) -> None:
    """Why a pool buys nothing, or what it was bought for."""
    with connect() as client:
        view = client.get(f"/api/v1/pools/{name}")
        decisions = client.get("/api/v1/decisions", {"subject": "pool", "id": name, "limit": 10})["items"]
    found = {"pool": view, "decision": next(iter(decisions), None), "history": decisions[1:]}
    output.one(found, form, lambda: _print(pool_lines(found, time.time(), history)))


def task_lines(found: Mapping[str, Any], now: float, history: bool) -> list[str]:
    """The headline, then what the newest decision says while it waits, or its attempts once it ran."""
    row, decision = found["task"], found["decision"]
    waits = row["state"] == "queued"
    code = f" [{decision['code']}]" if waits and decision else ""
    lines = [f"task {row['id']} {row['state'].upper()} {span(_since_task(row, now))}{code}"]
    if waits:
        lines += _decision_lines(decision, now) if decision else [_NOT_LOOKED_AT]
    elif row["state"] in UNFINISHED and row["instance_id"]:
        lines.append(f"  on {row['instance_id']}, attempt {row['attempt']}")
    elif row["state"] == "draft":
        lines.append("  it is not queued yet")
        lines.append(f"  hint: hostler requeue {row['id']}")
    elif why(row) != NOTHING or row["message"]:
        lines.append("  " + ": ".join(filter(None, (why(row).strip(NOTHING), row["message"]))))
    if found["attempts"]:
        lines += ["", *_attempt_lines(found["attempts"], now)]
    return lines + (_history_lines(found["history"], now) if history else [])


_NOT_LOOKED_AT = "  no tick of the control loop has looked at it yet; ask again in a moment"


def instance_lines(found: Mapping[str, Any], now: float, history: bool) -> list[str]:
    row, decision = found["instance"], found["decision"]
    alive = row["state"] != "terminated"
    code = decision["code"] if alive and decision else row["reason"]
    head = f"instance {row['id']} {row['state'].upper()} {span(_since_instance(row, now))}"
    lines = [head + (f" [{code}]" if code else "")]
    place = "/".join(filter(None, (row["pool"], row["provider"])))
    where = " ".join(filter(None, (row["zone"] or row["region"], row["instance_type"], row["market"])))
    lines.append(f"  {place} {where}  {usd_per_hour(row['usd_per_hour'])}, {usd(row['usd'])} so far")
    if row["tasks"]:
        lines.append(f"  runs {', '.join(f'task {one}' for one in row['tasks'])}")
    if alive and decision:
        lines += _decision_lines(decision, now)
    elif row["message"]:
        lines.append(f"  {row['message']}")
    return lines + (_history_lines(found["history"], now) if history else [])


def queue_lines(found: Mapping[str, Any], now: float) -> list[str]:
    """Queued tasks by the reason of their newest decision, the most frequent first."""
    view, waiting = found["queue"], found["tasks"]
    since = view["oldest_queued_at"]
    age = f", the oldest for {span(now - since)}" if since is not None else ""
    count = f"{len(waiting)}{'+' if found['more'] else ''}"
    lines = [f"queue {view['name']} {count} queued{age}"]
    by_code: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in waiting:
        by_code[(one["decision"] or {}).get("code", "NOT_LOOKED_AT")].append(one)
    for code, tasks in sorted(by_code.items(), key=lambda item: -len(item[1])):
        ids = ", ".join(str(one["id"]) for one in tasks[:SHOWN_PER_CODE])
        more = "" if len(tasks) <= SHOWN_PER_CODE else ", ..."
        lines.append(f"  [{code}] {plural(len(tasks), 'task')}: {ids}{more}")
        lines += _decision_lines(tasks[0]["decision"], now, indent="    ") if tasks[0]["decision"] else []
    if not view["configured"]:
        lines.append("  it is no longer in the configuration: nothing in it starts")
    return lines


def pool_lines(found: Mapping[str, Any], now: float, history: bool) -> list[str]:
    view, decision = found["pool"], found["decision"]
    states = ", ".join(f"{count} {state}" for state, count in sorted(view["instances"].items()))
    code = f" [{decision['code']}]" if decision else ""
    lines = [f"pool {view['name']} {states or 'no instances'}{code}"]
    if view["protected_since"] is not None:
        lines.append(f"  PROTECTED since {clock(view['protected_since'], now)}: {view['protected_reason']}")
        lines.append(f"  hint: mend the cause, then hostler pools rearm {view['name']}")
    lines += _decision_lines(decision, now) if decision else []
    return lines + (_history_lines(found["history"], now) if history else [])


def _decision_lines(decision: Mapping[str, Any], now: float, indent: str = "  ") -> list[str]:
    """What was looked at and not taken, in columns; what comes next; what a person can do."""
    rejected = [(one[0], f"{one[1]} {one[2]}".strip()) for one in decision.get("rejected") or ()]
    width = max((len(name) for name, _ in rejected), default=0)
    lines = [f"{indent}{name.ljust(width)}  {reason}" for name, reason in rejected]
    if decision["message"]:
        lines.append(f"{indent}{decision['message']}")
    if decision["next_at"] is not None:
        lines.append(f"{indent}next: {clock(decision['next_at'], now)} ({ago(decision['next_at'], now)})")
    if decision["hint"]:
        lines.append(f"{indent}hint: {decision['hint']}")
    return lines


def _history_lines(decisions: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    rows = [
        f"  {clock(one['first_at'], now)}  {span(one['last_at'] - one['first_at']):>7}  "
        f"[{one['code']}] {one['message']}"
        for one in decisions
    ]
    return ["", "before", *rows] if rows else []


def _attempt_lines(attempts: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    columns, cells = output.grid(attempts, attempt_columns(now), output.Format.TABLE)
    return ["  " + line for line in output.plain_lines(columns, cells)]


def _since_task(row: Mapping[str, Any], now: float) -> float:
    """Seconds in its state; for one that ended, how long it took from submit to end."""
    if row["finished_at"] is not None and row["state"] not in UNFINISHED:
        return float(row["finished_at"] - row["created_at"])
    began = row["queued_at"] if row["state"] == "queued" else row["started_at"]
    return float(now - (began or row["created_at"]))


def _since_instance(row: Mapping[str, Any], now: float) -> float:
    newest = ("terminated_at", "terminate_asked_at", "drain_at", "ready_at", "launched_at", "created_at")
    return float(now - next(row[name] for name in newest if row[name] is not None))


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(output.on_one_line(line))

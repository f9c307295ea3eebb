"""Runs outside the fleet: a training program on somebody's own machine that is recorded, never queued."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, update

from . import events, journal, tasks
from .access import Principal, tokens
from .database.schema import attempts
from .database.schema import tasks as table
from .fence import HELD, stale, take_turn
from .problems import Problem

TOKEN_SECONDS = 30 * 24 * 3600.0
"""A run that takes longer asks again with its uid."""
NO_INSTANCE = ""


def begin(
    conn: Connection,
    caller: Principal,
    *,
    uid: str,
    project: str,
    name: str,
    tags: list[str],
    capture: dict[str, Any],
    now: float,
) -> tuple[int, int, str]:
    """The run of this uid, made where it is new, taken up as a new attempt where it had ended.

    Returns (task id, generation, task token). Raises Problem 409 `UID_TAKEN` where the uid is a queued task's.
    """
    known = tasks.by_uid(conn, caller.workspace, uid)
    if known is not None and known["queue"] is not None:
        raise Problem(
            409, "UID_TAKEN", "this uid is a task of the fleet", f"task {known['id']}", "choose another uid"
        )
    if known is None:
        known = tasks.create(
            conn,
            workspace=caller.workspace,
            uid=uid,
            project=project,
            name=name,
            queue=None,
            priority=0,
            spec={},
            tags=tags,
            actor=caller.actor,
            now=now,
            state="running",
            generation=1,
            attempt=1,
        )
        _begin_attempt(conn, known, capture, now)
    else:
        take_turn(conn, known["id"])
        known = tasks.by_uid(conn, caller.workspace, uid) or known
        if known["state"] not in HELD:
            known = _take_up(conn, known, capture, now)
    secret = tokens.issue(
        conn,
        workspace=caller.workspace,
        kind="task",
        actor=caller.actor,
        role="task",
        now=now,
        task_id=known["id"],
        generation=known["generation"],
        expires_at=now + TOKEN_SECONDS,
    )
    return known["id"], known["generation"], secret


def finish(
    conn: Connection,
    caller: Principal,
    task_id: int,
    generation: int,
    *,
    state: str,
    exit_code: int | None,
    message: str,
    now: float,
) -> None:
    """End a run; the same end again changes nothing. Raises Problem 409 for a task of the fleet or another's run."""
    take_turn(conn, task_id)
    row = tasks.get(conn, caller.workspace, task_id)
    if row is None or row["generation"] != generation:
        raise stale(task_id, generation)
    if row["queue"] is not None:
        raise Problem(
            409, "NOT_YOUR_END", "a task of the fleet ends through its agent", hint="leave with an exit code"
        )
    if row["state"] == state:
        return
    if row["state"] not in HELD:
        raise stale(task_id, generation)
    end = {"finished_at": now, "exit_code": exit_code, "message": message}
    change = {**end, "state": state, "version": row["version"] + 1}
    conn.execute(update(table).where(table.c.id == task_id).values(change))
    of_attempt = (attempts.c.task_id == task_id) & (attempts.c.number == row["attempt"])
    conn.execute(update(attempts).where(of_attempt).values(**end, outcome=state))
    _tell(conn, row, state, now)


def _begin_attempt(conn: Connection, row: tasks.Row, capture: dict[str, Any], now: float) -> None:
    attempt = {
        "task_id": row["id"],
        "number": row["attempt"],
        "workspace": row["workspace"],
        "generation": row["generation"],
        "instance_id": NO_INSTANCE,
        "claimed_at": now,
        "started_at": now,
    }
    conn.execute(insert(attempts), attempt)
    if capture:
        journal.add_environment(conn, row["id"], row["attempt"], capture)
    _tell(conn, row, "running", now)


def _take_up(conn: Connection, row: tasks.Row, capture: dict[str, Any], now: float) -> tasks.Row:
    change = {
        "state": "running",
        "generation": row["generation"] + 1,
        "attempt": row["attempt"] + 1,
        "version": row["version"] + 1,
        "finished_at": None,
        "exit_code": None,
        "message": None,
    }
    conn.execute(update(table).where(table.c.id == row["id"]).values(change))
    again = {**row, **change}
    _begin_attempt(conn, again, capture, now)
    return again


def _tell(conn: Connection, row: tasks.Row, state: str, now: float) -> None:
    events.emit(
        conn,
        workspace=row["workspace"],
        kind=f"task.{state}",
        now=now,
        actor=row["actor"],
        message=f"{row['name']} is {state}",
        task_id=row["id"],
        data={"attempt": row["attempt"], "queue": None},
    )

"""`hostler wait`: until tasks have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import typer

from . import output
from .failures import ExitCode, Failure
from .options import Output, TaskIds, WaitTimeout, seconds_of
from .session import connect
from .task_columns import UNFINISHED, task_columns

if TYPE_CHECKING:
    from .client import Client

LOOK_SECONDS: Final = 0.3
LOOK_SECONDS_MAX: Final = 3.0


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work")(wait)


def wait(task_ids: TaskIds, timeout: WaitTimeout = None, form: Output = output.Format.TABLE) -> None:
    """Wait until the tasks have ended. Exit code 0 if all are completed; else the first one's that is not."""
    seconds = seconds_of(timeout, "--timeout")
    deadline = None if seconds is None else time.monotonic() + seconds
    with connect() as client:
        ended = [until_ended(client, task_id, deadline) for task_id in task_ids]
    output.rows(ended, task_columns(time.time()), form, empty="")
    codes = [code for code in map(exit_code_of, ended) if code]
    raise typer.Exit(codes[0] if codes else 0)


def until_ended(client: Client, task_id: int, deadline: float | None) -> Any:
    """The task once it is terminal. Raises Failure, timed out at `deadline` (monotonic seconds)."""
    pause = LOOK_SECONDS
    while True:
        task = client.get(f"/api/v1/tasks/{task_id}")
        if task["state"] not in UNFINISHED:
            return task
        if deadline is not None and time.monotonic() + pause > deadline:
            pause = deadline - time.monotonic()
            if pause <= 0:
                raise timed_out(task_id, task["state"])
        time.sleep(pause)
        pause = min(pause * 1.5, LOOK_SECONDS_MAX)


def exit_code_of(task: Any) -> int:
    """The task's own exit code; 1 where it has none but did not complete; 128 + n for a signal n."""
    if task["state"] == "completed":
        return 0
    code = task["exit_code"]
    if not code:
        return int(ExitCode.FAILED)
    return 128 - int(code) if code < 0 else int(code)


def timed_out(task_id: int, state: str) -> Failure:
    return Failure(
        ExitCode.TIMED_OUT,
        f"task {task_id} is still {state}",
        hint=f"it goes on; `hostler logs -f {task_id}` follows it, `hostler stop {task_id}` ends it",
    )

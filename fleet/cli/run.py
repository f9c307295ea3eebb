"""`hostler run`: submit, show the log as it comes, end with the task's own exit code."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from . import output
from .failures import ExitCode, Failure
from .logs import print_stream
from .options import Output, WaitTimeout, seconds_of
from .output import note
from .session import connect
from .submit import COMMAND_SETTINGS, send
from .task_columns import UNFINISHED, why
from .task_options import TaskOptions, read_task, taking_task_options
from .wait import exit_code_of, timed_out, until_ended
from .words import NOTHING, span, usd

if TYPE_CHECKING:
    from .client import Client

LOOK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 30.0
"""How long the task's row may lag behind the end of its log."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work", context_settings=COMMAND_SETTINGS)(taking_task_options(run))


def run(
    options: TaskOptions,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="--no-wait is `hostler submit`.")] = True,
    wait_timeout: WaitTimeout = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Queue a task, print its log as it comes, and end with its exit code.

    The log goes to stdout, over all attempts; what becomes of the task is told on stderr (with -o json both are, and
    stdout is the task). Ctrl-C leaves the task running and says how to stop it (exit code 130). A daemon that restarts
    meanwhile is waited for.
    """
    seconds = seconds_of(wait_timeout, "--wait-timeout")
    deadline = None if seconds is None else time.monotonic() + seconds
    spec = read_task(options)
    with connect() as client:
        task = send(client, spec, options)
        if not wait:
            output.one(task, form, lambda: typer.echo(task["id"]))
            return
        try:
            # With `-o json` stdout is the task alone.
            ended = _attend(client, task, deadline, sys.stdout if form.is_table else sys.stderr)
        except KeyboardInterrupt:
            note(
                f"\ntask {task['id']} goes on: `hostler logs -f {task['id']}` follows it, "
                f"`hostler stop {task['id']}` ends it"
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not form.is_table:
        output.data(ended, form)
    raise typer.Exit(exit_code_of(ended))


def _attend(client: Client, task: Any, deadline: float | None, to: TextIO) -> Any:
    """Print log and progress until the task has ended; its last row. Raises Failure (timed out, unreachable)."""
    from .follow import OutOfTime

    narrator = _Narrator(client, task)
    narrator.start()
    try:
        for _ in print_stream(client, task["id"], "1:0", deadline=deadline, to=to):
            pass
        settled = time.monotonic() + SETTLE_SECONDS
        ended = until_ended(client, task["id"], settled if deadline is None else min(deadline, settled))
    except OutOfTime:
        raise timed_out(task["id"], client.get(f"/api/v1/tasks/{task['id']}")["state"]) from None
    finally:
        narrator.stop()
    narrator.tell(ended)
    return ended


class _Narrator(threading.Thread):
    """Tells on stderr what becomes of the task while its log is read: waiting and why, started, ended."""

    def __init__(self, client: Client, task: Any) -> None:
        super().__init__(name="narrator", daemon=True)
        self._client = client
        self._task = task
        self._told: tuple[Any, ...] = ()
        self._stopped = threading.Event()

    def run(self) -> None:
        self.tell(self._task)
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.tell(self._client.get(f"/api/v1/tasks/{self._task['id']}"))
            except Failure as failure:
                self._say((failure.title,), f"{failure.title}; still trying")

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def tell(self, task: Any) -> None:
        """One line, if it is news."""
        head = f"task {task['id']} {task['state']}"
        if task["state"] == "queued":
            decision = task["decision"] or {}
            reason = f" [{decision['code']}] {decision['message']}" if decision else ""
            self._say((task["state"], task["attempt"], decision.get("code")), head + reason)
        elif task["state"] in UNFINISHED:
            self._say(
                (task["state"], task["attempt"]),
                f"{head}, attempt {task['attempt']} on {task['instance_id']}",
            )
        else:
            reason = "" if why(task) == NOTHING else f" ({why(task)})"
            ran = f" after {span(task['run_seconds'])}, {usd(task['usd'])}"
            message = f": {task['message']}" if task["message"] and task["state"] != "completed" else ""
            self._say((task["state"],), head + reason + ran + output.on_one_line(message))

    def _say(self, news: tuple[Any, ...], text: str) -> None:
        if news != self._told:
            self._told = news
            note(text)

"""`hostler logs`: what a task printed, to the end or as it comes."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from .options import TaskId
from .output import note
from .session import connect

if TYPE_CHECKING:
    from .client import Client

TAIL_LINES_MAX = 10_000


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work")(logs)


def logs(
    task_id: TaskId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended, over all attempts.")
    ] = False,
    attempt: Annotated[int | None, typer.Option(help="Default: the newest.", min=1)] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", help="The last so many lines.", min=1, max=TAIL_LINES_MAX)
    ] = None,
) -> None:
    """Print a task's log. Ctrl-C ends the printing, never the task."""
    with connect() as client:
        place = _print_stored(client, task_id, attempt, tail, rest=not follow)
        if follow:
            for _ in print_stream(client, task_id, place):
                pass


def _print_stored(client: Client, task_id: int, attempt: int | None, tail: int | None, *, rest: bool) -> str:
    """Print what is there (`rest`: to its end, else one page); where to go on: ``attempt:offset``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    params: dict[str, Any] = {"attempt": attempt, "tail": tail}
    if not rest and tail is None:
        params["limit"] = 1  # the stream brings all of it; this only asks which attempt is the newest
    path = f"/api/v1/tasks/{task_id}/logs"
    while True:
        answer = client.request("GET", path, params={k: v for k, v in params.items() if v is not None})
        number, end = int(answer.headers["x-hostler-attempt"]), int(answer.headers["x-hostler-end"])
        after = int(answer.headers["x-hostler-next-offset"])
        if not rest and tail is None:
            return f"{max(1, number)}:0"
        write(decoder.decode(answer.content, final=rest and after >= end))
        if not rest:
            return f"{max(1, number)}:{after}"
        if after >= end or not answer.content:
            return f"{max(1, number)}:{after}"
        params = {"attempt": number, "offset": after}


def print_stream(
    client: Client, task_id: int, place: str, *, deadline: float | None = None, to: TextIO | None = None
) -> Iterator[dict[str, Any]]:
    """Print the log from `place` on as it comes; ends with the task, giving what its last event says.

    Raises Failure; OutOfTime at `deadline` (monotonic seconds).
    """
    from .client import read_json
    from .follow import follow

    attempt = int(place.partition(":")[0])
    path = f"/api/v1/tasks/{task_id}/logs/stream"
    for event in follow(client, path, last_event_id=place, deadline=deadline):
        told = read_json(event.data)
        if event.kind == "end":
            yield told
            return
        if event.kind == "log":
            if told["attempt"] != attempt:
                attempt = told["attempt"]
                note(f"--- attempt {attempt} ---")
            write(told["text"], to)


def write(text: str, to: TextIO | None = None) -> None:
    to = to or sys.stdout
    to.write(text)
    to.flush()

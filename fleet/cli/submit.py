"""`hostler submit`: queue a task."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import output
from .failures import usage
from .options import Output
from .output import note
from .progress import progress
from .session import connect
from .task_options import TaskOptions, read_task, taking_task_options

if TYPE_CHECKING:
    from ...config import TaskSpec
    from .client import Client

COMMAND_SETTINGS = {"allow_interspersed_args": False}
"""Options after the command's first word are the command's: `hostler run python train.py --lr 0.1`."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="work", context_settings=COMMAND_SETTINGS)(taking_task_options(submit))


def submit(options: TaskOptions, form: Output = output.Format.TABLE) -> None:
    """Queue a task and print its id: a task.yaml, a command, or both.

    Options stand before the command: hostler submit --gpu L4:1 --code . -- python train.py --lr 0.1
    """
    spec = read_task(options)
    with connect() as client:
        task = send(client, spec, options)
    output.one(task, form, lambda: typer.echo(task["id"]))
    if form.is_table and output.on_terminal():
        note(f"hostler logs -f {task['id']} follows it")


def send(client: Client, spec: TaskSpec, options: TaskOptions) -> Any:
    """Upload the code unless it is there, then queue the task once, however often the request is repeated."""
    digest = _send_code(client, spec, options)
    uid = options.uid or uuid.uuid4().hex
    body = {"spec": spec.to_dict(), "uid": uid, "code_digest": digest}
    return client.post("/api/v1/tasks", body, key=None if options.uid else uid)


def _send_code(client: Client, spec: TaskSpec, options: TaskOptions) -> str | None:
    if spec.code is None:
        _warn_of_files_left_here(spec)
        return None
    if "://" in spec.code.git or spec.code.git.startswith("git@"):
        raise usage(
            f"code.git: {spec.code.git!r} is a remote; only folders are sent",
            hint="clone it and name its folder, or clone it in the task's command",
        )
    from .snapshot import snapshot_of

    with snapshot_of(options.base / Path(spec.code.git).expanduser(), spec.code.include) as packed:
        path = f"/api/v1/blobs/{packed.digest}"
        if not client.has(path):
            with progress("sending the code", packed.size) as told:
                client.put_file(path, packed.file, packed.size, told)
        return packed.digest


def _warn_of_files_left_here(spec: TaskSpec) -> None:
    """`hostler run -- python train.py` without code finds no train.py over there: better said now."""
    here = [word for word in spec.run if not Path(word).is_absolute() and Path(word).is_file()]
    if here:
        note(f"note: {here[0]} is not sent along; add --code . (or `code:` in the file) if the task needs it")

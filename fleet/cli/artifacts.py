"""`hostler artifacts`: the files a task left, and getting them."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from . import output
from .failures import ExitCode, Failure
from .options import Output, TaskId
from .output import Column
from .progress import progress
from .session import connect
from .words import NOTHING, ago, number, size

if TYPE_CHECKING:
    from .client import Client


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="registry")(artifacts)


def artifacts(
    task_id: TaskId,
    download: Annotated[
        str | None, typer.Option("--download", "-d", help="Get the artifact of this name.", metavar="NAME")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder for downloads.", metavar="DIR")] = Path(),
    version: Annotated[int | None, typer.Option(help="Default: the newest.", min=1)] = None,
    form: Output = output.Format.TABLE,
) -> None:
    """List a task's artifacts in all versions, or download one."""
    with connect() as client:
        if download is not None:
            path = _download(client, task_id, download, version, to)
            output.one({"name": download, "path": str(path)}, form, lambda: typer.echo(str(path)))
            return
        found, _ = client.pages(f"/api/v1/tasks/{task_id}/artifacts", limit=0)
    output.rows(found, artifact_columns(time.time()), form, empty=f"task {task_id} has no artifacts")


def artifact_columns(now: float) -> Sequence[Column]:
    return (
        Column("ARTIFACT", lambda one: one["name"]),
        Column("VERSION", lambda one: str(one["version"]), right=True),
        Column("TYPE", lambda one: one["type"]),
        Column("SIZE", lambda one: size(one["size"]), right=True),
        Column("STEP", lambda one: number(one["step"]), right=True),
        Column("ATTEMPT", lambda one: str(one["attempt"]), right=True),
        Column("MADE", lambda one: ago(one["created_at"], now)),
        Column("SHA256", lambda one: one["digest"] or NOTHING, wide=True),
    )


def _download(client: Client, task_id: int, name: str, version: int | None, folder: Path) -> Path:
    """The whole, verified file under its name, or nothing at all."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise Failure(ExitCode.USAGE, f"the name {name!r} leads out of {folder}")
    target = folder / name
    path = f"/api/v1/tasks/{task_id}/artifacts/{quote(name)}/download"
    answer = client.download(path, {"version": version})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        total = int(answer.headers.get("content-length", 0))
        with (
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file,
            progress(name, total) as told,
        ):
            aside, digest = Path(file.name), hashlib.sha256()
            try:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
                    digest.update(chunk)
                    told(len(chunk))
                _verify(name, digest.hexdigest(), answer.headers.get("x-hostler-sha256", ""))
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(ExitCode.FAILED, f"{target} can't be written", str(error)) from None
    finally:
        answer.close()
    return target


def _verify(name: str, digest: str, expected: str) -> None:
    if expected and digest != expected:
        detail = f"its sha256 is {digest}, not {expected}"
        raise Failure(ExitCode.FAILED, f"{name} arrived damaged", detail, "try again")

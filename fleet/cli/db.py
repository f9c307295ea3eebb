"""`hostler db`: the state of a daemon, brought to the newest schema, copied, put back. Works without a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .failures import ExitCode, Failure, usage
from .options import Output
from .up import Config, find_config

if TYPE_CHECKING:
    from ...config import FleetConfig

group = typer.Typer(help="Migrate, back up and restore the daemon's state.", no_args_is_help=True)
_DETAILS = "the daemon's own fleet.yaml names the state; run this where the daemon runs, as its user"


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="db", rich_help_panel="daemon")


@group.command()
def migrate(config: Config = None, form: Output = output.Format.TABLE) -> None:
    """Bring the database to the newest schema. A daemon does the same when it starts."""
    with _told():
        from ..daemon import backup

        before, after = backup.revision(_fleet(config))
    told = f"at revision {after} already" if before == after else f"revision {before or 'none'} -> {after}"
    output.one({"before": before or None, "after": after}, form, lambda: typer.echo(told))


@group.command("backup")
def back_up(
    file: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE")],
    blobs: Annotated[
        bool,
        typer.Option("--blobs", help="Also code snapshots, artifacts and checkpoints kept by the daemon."),
    ] = False,
    config: Config = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Copy the state to a file while the daemon runs. The file holds secrets: keep it as one."""
    if not file.absolute().parent.is_dir():
        raise usage(f"there is no folder {file.absolute().parent}")
    with _told():
        from ..daemon import backup

        done = backup.back_up(_fleet(config), file, blobs=blobs)
    output.one(_plain(done), form, lambda: typer.echo(_line("written to", done)))


@group.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file of `hostler db backup`.", metavar="FILE")],
    replace: Annotated[bool, typer.Option("--replace", help="Lose the state that is there now.")] = False,
    config: Config = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Put a backup in the place of the state; every daemon on it must be stopped.

    The next start launches nothing until it has seen what runs in every cloud of fleet.yaml.
    """
    if not file.is_file():
        raise usage(f"there is no file {file}")
    with _told():
        from ..daemon import backup

        done = backup.restore(_fleet(config), file, replace=replace)
    output.one(_plain(done), form, lambda: typer.echo(_line("restored from", done)))
    if form.is_table:
        output.note("start the daemon now: launches wait until every provider's instances were taken in")


def _fleet(config: Path | None) -> FleetConfig:
    from ...config import ConfigError, load_fleet

    path = find_config(config)
    try:
        return load_fleet(path)
    except ConfigError as error:
        raise usage(f"{path} is not valid", str(error)) from None


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with a database, in words and without its password."""
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from ...tracking.server.database.copies import CopyFailed
        from ...tracking.server.database.migrate import SchemaTooNew
        from ..daemon import StartError
    except ModuleNotFoundError as error:
        hint = "pip install 'hostler[daemon]'"
        raise Failure(ExitCode.FAILED, f"this needs {error.name}", hint=hint) from None
    try:
        yield
    except (CopyFailed, StartError, SchemaTooNew, ValueError, OSError) as error:
        raise Failure(ExitCode.FAILED, str(error)) from None
    except SQLAlchemyError as error:
        told = str(getattr(error, "orig", None) or error)
        raise Failure(ExitCode.FAILED, "the database could not be used", told, _DETAILS) from None


def _plain(done: Any) -> dict[str, Any]:
    return {
        "file": str(done.file),
        "engine": done.engine,
        "revision": done.revision,
        "bytes": done.bytes,
        "blobs": done.blobs,
    }


def _line(verb: str, done: Any) -> str:
    return f"{verb} {done.file}: {done.engine}, revision {done.revision}, {done.bytes:,} bytes, {done.blobs} blobs"

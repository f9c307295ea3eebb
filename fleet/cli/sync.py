"""`hostler sync`: carry runs that were recorded without a server to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...tracking.place import RUN_FILE, RUNS_FOLDER
from . import output
from .failures import ExitCode, Failure, of_problem, unreachable, usage
from .options import Output
from .output import Column
from .session import find_server


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="registry")(sync)


def sync(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders, or folders of them; default: HOSTLER_DIR or .hostler/runs.", metavar="DIR..."
        ),
    ] = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Send runs that were recorded offline. Again is harmless: nothing is stored twice."""
    asked = folders or [Path(os.environ.get("HOSTLER_DIR", RUNS_FOLDER))]
    runs = [run for folder in asked for run in _runs_in(folder)]
    done, failures = _carry(runs) if runs else ([], [])
    output.rows(done, _COLUMNS, form, empty=f"no runs in {', '.join(map(str, asked))}" if not runs else "")
    for failure in failures[1:]:
        output.note("\n".join(failure.lines()))
    if failures:
        raise failures[0]


def _carry(runs: list[Path]) -> tuple[list[dict[str, Any]], list[Failure]]:
    """One after the other; a run that the server refuses doesn't keep the others back."""
    from ...tracking import background
    from ...tracking.errors import HostlerError, ServerRefused, ServerUnreachable

    server = find_server()
    done: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for run in runs:
        try:
            done.append({"run": str(run), "task_id": background.sync(str(run), server)})
        except ServerUnreachable as error:
            failures.append(unreachable(server.url, f"{run}: {error}"))
            break
        except ServerRefused as error:
            failure = of_problem(error.status, {"title": f"{run} was refused", "detail": str(error)})
            failures.append(failure)
        except (HostlerError, OSError, ValueError, KeyError) as error:
            failures.append(Failure(ExitCode.FAILED, f"{run} can't be sent", repr(error)))
    return done, failures


def _runs_in(folder: Path) -> list[Path]:
    if (folder / RUN_FILE).is_file():
        return [folder]
    if not folder.is_dir():
        raise usage(f"there is no folder {folder}", hint="name the folder of a run, or one that holds runs")
    return sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}"))


_COLUMNS = (
    Column("RUN", lambda one: one["run"]),
    Column("TASK", lambda one: str(one["task_id"]), right=True),
)

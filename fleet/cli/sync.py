"""`hostler sync`: carry runs that were recorded without a server to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...tracking.place import FINISH_FILE, RUN_FILE, RUNS_FOLDER
from . import output
from .failures import ExitCode, Failure, of_problem, unreachable, usage
from .options import Output
from .output import Column
from .session import find_server

SYNCED_FILE = "synced.json"
"""In a run's folder: where it went, and how far, so that a run of long ago is not sent again."""


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
    from ...tracking.client import CallFailed
    from ...tracking.errors import HostlerError

    server = find_server()
    done: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for run in runs:
        try:
            state = _state_of(run)
            task_id = _known(run, server.url, state)
            if task_id is None:
                task_id = background.sync(str(run), server)
                _remember(run, server.url, state, task_id)
            done.append({"run": str(run), "task_id": task_id})
        except CallFailed as error:
            if not error.status:
                failures.append(unreachable(server.url, f"{run}: {error}"))
                break
            failures.append(of_problem(error.status, {"title": f"{run} was refused", "detail": str(error)}))
        except (HostlerError, OSError, ValueError, KeyError) as error:
            failures.append(Failure(ExitCode.FAILED, f"{run} can't be sent", repr(error)))
    return done, failures


def _state_of(run: Path) -> list[list[Any]]:
    """What lies in the run's journal, by segment and size: changed = there is more to carry."""
    return sorted([path.name, path.stat().st_size] for path in (run / "journal").glob("*"))


def _known(run: Path, url: str, state: list[list[Any]]) -> int | None:
    """The task that all of this run was carried to before; None where something is left to carry."""
    try:
        known = json.loads((run / SYNCED_FILE).read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(known, dict) and known.get("url") == url and known.get("state") == state
    return int(known["task_id"]) if same else None


def _remember(run: Path, url: str, state: list[list[Any]], task_id: int) -> None:
    """Only of a run that has ended: one under way is looked at again."""
    if (run / FINISH_FILE).is_file():
        aside = run / f"{SYNCED_FILE}.new"
        aside.write_text(json.dumps({"url": url, "task_id": task_id, "state": state}))
        aside.replace(run / SYNCED_FILE)


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

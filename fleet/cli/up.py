"""`hostler up`: the daemon in the foreground."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .failures import ExitCode, Failure, usage

SEARCHED = (Path("fleet.yaml"), Path("/etc/hostler/fleet.yaml"))
DAEMON_LIBRARIES = frozenset(
    {"alembic", "apscheduler", "fastapi", "jinja2", "prometheus_client", "sqlalchemy", "structlog", "uvicorn"}
)


class LogLevel(str, Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="fleet.yaml; default: ./fleet.yaml, then /etc/hostler/fleet.yaml.",
        metavar="FILE",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="daemon")(up)


def up(
    config: Config = None,
    log_level: Annotated[LogLevel, typer.Option(help="What to log.")] = LogLevel.INFO,
) -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM. Instances stay as they are and are found again.

    Its token is generated at the first start; this user's commands find it by themselves.
    """
    path = find_config(config)
    try:
        from ..daemon import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DAEMON_LIBRARIES:
            raise
        raise Failure(
            ExitCode.FAILED, f"the daemon needs {error.name}", hint="pip install 'hostler[daemon]'"
        ) from None
    raise typer.Exit(run(path, log_level=log_level.name))


def find_config(said: Path | None) -> Path:
    """The file named, else the first there is of those searched. Raises Failure (usage)."""
    if said is not None:
        if not said.is_file():
            raise usage(f"there is no file {said}", hint="hostler config example > fleet.yaml writes one")
        return said
    for path in SEARCHED:
        if path.is_file():
            return path
    raise usage(
        f"no {' and no '.join(map(str, SEARCHED))} here",
        hint="name one with --config, or write one: hostler config example > fleet.yaml",
    )

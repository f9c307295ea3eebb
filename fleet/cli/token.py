"""`hostler token`: which token this user's commands send."""

from __future__ import annotations

import typer

from .failures import WHICH_ONE, ExitCode, Failure
from .session import find_server, token_path

group = typer.Typer(help="Where the token is, and what it is.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="token", rich_help_panel="admin")


@group.command()
def path() -> None:
    """Print the path of the file with the token."""
    found = token_path()
    if not found:
        raise Failure(
            ExitCode.NOT_FOUND, "the token is in no file", "it is in HOSTLER_TOKEN, or nowhere", WHICH_ONE
        )
    typer.echo(found)


@group.command()
def show() -> None:
    """Print the token itself. Whoever has it may do everything that you may."""
    typer.echo(find_server().token)

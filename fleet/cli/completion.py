"""`hostler completion`: the script that completes commands in a shell."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

from .failures import ExitCode, Failure


class Shell(str, Enum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="admin")(completion)


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print a completion script: hostler completion bash >> ~/.bashrc."""
    import subprocess
    import sys

    # By the program's own protocol rather than typer's private functions, which have moved before.
    environ = {**os.environ, "_HOSTLER_COMPLETE": f"source_{shell.value}"}
    program = "from hostler.fleet.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, check=False, text=True
    )
    if not done.stdout.strip():
        raise Failure(ExitCode.FAILED, f"no completion script for {shell.value}", done.stderr.strip())
    typer.echo(done.stdout)

"""All commands put together, and how a run of the program ends."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from . import (
    acts,
    artifacts,
    completion,
    config,
    db,
    doctor,
    events,
    explain,
    instances,
    logs,
    metrics,
    offers,
    output,
    pools,
    ps,
    queues,
    session,
    show,
    status,
    submit,
    sync,
    token,
    up,
    wait,
)
from . import (
    run as run_command,
)
from .failures import ExitCode, Failure

app = typer.Typer(
    name="hostler",
    help="Training tasks on a fleet that grows and shrinks by itself, and the record of what they did.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 token refused, 5 conflict, "
    "6 budget or quota, 7 daemon unreachable, 8 timed out; `run` and `wait` give the task's own.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_MODULES: Final = (
    *(submit, run_command, ps, show, logs, wait, acts),
    *(status, queues, pools, instances, offers, events, explain),
    *(metrics, artifacts, sync),
    *(up, config, db, doctor, token, completion),
)
for _module in _MODULES:
    _module.add_to(app)
_USAGE_ERRORS: Final[tuple[type[Exception], ...]] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ in ("UsageError", "ClickException")
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ... import __version__

        typer.echo(f"hostler {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(help="The daemon; default: HOSTLER_URL, else the one of `hostler up` here.")
    ] = "",
    token_file: Annotated[
        str, typer.Option(help="File with the token; default: HOSTLER_TOKEN, HOSTLER_TOKEN_FILE.")
    ] = "",
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    session.address.set(session.Address(url, token_file))
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(rich_help_panel="admin")
def version() -> None:
    """Print the version."""
    _print_version(True)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Everything is printed, nothing is raised but programming errors."""
    return contextvars.copy_context().run(_run, arguments)


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a log may hold what this terminal can't show
    try:
        answer = app(list(arguments), prog_name="hostler", standalone_mode=False)
    except Failure as failure:
        return _tell(failure)
    except _USAGE_ERRORS as error:
        return _tell_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it; nothing is left to be flushed into the closed pipe.
        sys.stdout = None
        return ExitCode.OK
    return int(answer or 0)


def _tell(failure: Failure) -> int:
    form = output.chosen.get()
    if form.is_table:
        for line in failure.lines():
            output.note(line)
    else:
        import json

        output.note(json.dumps(failure.body(), ensure_ascii=False))
    return int(failure.exit_code)


def _tell_usage(error: Any) -> int:
    """A usage error of typer's, in the form of ours."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "hostler"
    return _tell(Failure(ExitCode.USAGE, error.format_message(), hint=f"{command} --help"))

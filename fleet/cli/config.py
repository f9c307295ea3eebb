"""`hostler apply`, `hostler config`: the fleet's configuration, checked, shown, put in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .failures import ExitCode, Failure, usage
from .options import Output
from .session import connect

if TYPE_CHECKING:
    from .client import Client

group = typer.Typer(help="Check a fleet.yaml, show the one in force, print an example.", no_args_is_help=True)
YamlFile = Annotated[Path, typer.Argument(help="A fleet.yaml.", metavar="FILE")]
EXAMPLES = ("local", "aws")


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="daemon")(apply)
    app.add_typer(group, name="config", rich_help_panel="daemon")


def apply(
    file: YamlFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check it and show what would change.")
    ] = False,
    form: Output = output.Format.TABLE,
) -> None:
    """Put a fleet.yaml in force at once, or refuse it and keep the old one.

    It holds until the daemon restarts or is told to read its own file again (SIGHUP).
    """
    text = _read(file)
    with connect() as client:
        done = _compared(client, file) if dry_run else _applied(client, file, text)
    output.one(done, form, lambda: _print(done, dry_run))


@group.command()
def check(file: YamlFile, form: Output = output.Format.TABLE) -> None:
    """Check a fleet.yaml without a daemon; the variables it names are taken from here."""
    _load(file)
    output.one({"file": str(file), "ok": True}, form, lambda: typer.echo(f"{file} is valid"))


@group.command()
def show(form: Output = output.Format.TABLE) -> None:
    """Print the configuration in force, defaults filled in, as YAML."""
    with connect() as client:
        found = client.get("/api/v1/config")
    if form.is_table:
        typer.echo(f"# {found['source']}")
        output.data(found["config"], output.Format.YAML)
    else:
        output.data(found, form)


@group.command()
def example(
    kind: Annotated[str, typer.Argument(help="local or aws.", metavar="KIND")] = "local",
) -> None:
    """Print a fleet.yaml to begin with: hostler config example > fleet.yaml."""
    from importlib.resources import files

    from ... import config

    if kind not in EXAMPLES:
        raise usage(f"there is no example {kind!r}", hint=f"one of {', '.join(EXAMPLES)}")
    found = files(config) / "examples" / f"fleet.{kind}.yaml"
    lines = found.read_text(encoding="utf-8").splitlines()
    typer.echo("\n".join(line for line in lines if not line.startswith("# yaml-language-server")))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"{file} can't be read", str(error)) from None


def _load(file: Path) -> Any:
    from ...config import ConfigError, load_fleet

    try:
        return load_fleet(file)
    except ConfigError as error:
        raise usage(f"{file} is not valid", str(error)) from None


def _compared(client: Client, file: Path) -> dict[str, Any]:
    from ...config import FleetConfig, differences, needs_restart

    new, old = _load(file), FleetConfig.from_dict(client.get("/api/v1/config")["config"], "in force")
    return {"differences": differences(old, new), "needs_restart": needs_restart(old, new)}


def _applied(client: Client, file: Path, text: str) -> Any:
    try:
        return client.post_text("/api/v1/config", text, "text/yaml")
    except Failure as failure:
        problems = (failure.problem or {}).get("problems")
        if not problems:
            raise
        # The server knows the text only: its places are told under the file's own name.
        lines = [str(one["text"]).replace("fleet.yaml", str(file), 1) for one in problems]
        raise Failure(
            ExitCode.USAGE,
            failure.title,
            "\n".join(lines),
            f"mend {file} and apply it again",
            failure.problem,
        ) from None


def _print(done: dict[str, Any], dry_run: bool) -> None:
    for line in done["differences"]:
        typer.echo(line)
    if not done["differences"]:
        output.note("no differences")
    elif not dry_run:
        output.note("in force now; save it where the daemon reads it, or its next start forgets it")
    for line in done["needs_restart"]:
        output.note(f"only after a restart of the daemon: {line}")

"""`hostler doctor`: is everything as it must be, and how to mend what is not."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .failures import ExitCode, Failure, usage
from .options import Output
from .output import Column
from .session import connect
from .words import NOTHING

if TYPE_CHECKING:
    from ...config import FleetConfig


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="admin")(doctor)


def doctor(
    provider: Annotated[str | None, typer.Option(help="Look at this provider only.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Look at a fleet.yaml from here, without a daemon.", metavar="FILE"
        ),
    ] = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Look at the daemon and its providers. Nothing is started or changed. Exit code 1 if anything is not well."""
    if config is not None:
        checks = _from_here(config, provider)
    else:
        with connect() as client:
            checks = client.get("/api/v1/doctor", {"provider": provider})["checks"]
    ok = all(check["ok"] for check in checks)
    output.one({"ok": ok, "checks": checks}, form, lambda: _print(checks, form))
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


def _print(checks: list[Any], form: output.Format) -> None:
    output.print_table(checks, _COLUMNS, form)
    for check in checks:
        if not check["ok"] and check["hint"]:
            typer.echo(f"\n{check['subject']} {check['name']}: {check['hint']}")


def _from_here(config: Path, provider: str | None) -> list[dict[str, Any]]:
    from ...config import ConfigError, load_fleet

    try:
        fleet = load_fleet(config)
    except ConfigError as error:
        raise usage(f"{config} is not valid", str(error)) from None
    if provider is not None and provider not in fleet.providers:
        known = ", ".join(fleet.providers)
        raise Failure(ExitCode.NOT_FOUND, f"there is no provider {provider}", hint=f"there are: {known}")
    checks = [_row(str(config), "valid", True, "its keys and values")]
    state_dir = fleet.daemon.data_dir.absolute()
    # On the disk of the daemon's folder, but not in it: what a provider tries there leaves nothing behind.
    there = next(one for one in (state_dir, *state_dir.parents) if one.is_dir())
    try:
        checks += _of_providers(fleet, provider, there)
    except OSError as error:
        hint = f"let the user who runs the daemon write to {there}"
        checks.append(_row("daemon", "folder", False, str(error), hint))
    return checks


def _of_providers(fleet: FleetConfig, provider: str | None, there: Path) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix=".hostler-doctor-", dir=there) as folder:
        for name, section in fleet.providers.items():
            if provider in (None, name):
                checks += _of_provider(name, section, folder, fleet.daemon.url)
    return checks


def _of_provider(name: str, section: Any, state_dir: str, url: str) -> list[dict[str, Any]]:
    from ...providers import registry
    from ...providers.base import ProviderContext, ProviderError

    try:
        context = ProviderContext(server_id="doctor", state_dir=state_dir, settings={"url": url})
        made = registry.create(name, section, context)
        try:
            return [{"subject": name, **dataclasses.asdict(check)} for check in made.check()]
        finally:
            made.close()
    except ProviderError as error:
        return [_row(name, "answers", False, f"{error.code}: {error.detail}", error.hint)]


def _row(subject: str, name: str, ok: bool, detail: str, hint: str = "") -> dict[str, Any]:
    return {"subject": subject, "name": name, "ok": ok, "detail": detail, "hint": hint}


_COLUMNS = (
    Column("RESULT", lambda one: "ok" if one["ok"] else "bad"),
    Column("SUBJECT", lambda one: one["subject"]),
    Column("CHECK", lambda one: one["name"]),
    Column("DETAIL", lambda one: one["detail"] or NOTHING),
)

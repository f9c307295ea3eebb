"""`hostler pools`: what may be bought, what is there, and what a person has to re-arm."""

from __future__ import annotations

from typing import Annotated

import typer

from . import output
from .options import Output
from .output import Column, Row
from .session import connect
from .words import NOTHING, usd_per_hour

group = typer.Typer(help="List pools with their instances, or re-arm one.", invoke_without_command=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="pools", rich_help_panel="fleet")


@group.callback(invoke_without_command=True)
def pools(context: typer.Context, form: Output = output.Format.TABLE) -> None:
    """List pools with their instances."""
    if context.invoked_subcommand is not None:
        return
    with connect() as client:
        found = client.get("/api/v1/pools")["items"]
    output.rows(found, POOL_COLUMNS, form, empty="no pools")


@group.command()
def rearm(
    name: Annotated[str, typer.Argument(help="The pool's name.", metavar="POOL")],
    form: Output = output.Format.TABLE,
) -> None:
    """Let a protected pool launch again, after mending what made its instances fail to start."""
    with connect() as client:
        done = client.post(f"/api/v1/pools/{name}/rearm")
    said = "launches again" if done["was_protected"] else "was not protected; nothing changed"
    output.one(done, form, lambda: typer.echo(f"pool {name} {said}"))


def _instances(pool: Row, *states: str) -> str:
    return str(sum(pool["instances"].get(state, 0) for state in states))


def _protected(pool: Row) -> str:
    return NOTHING if pool["protected_since"] is None else f"protected: {pool['protected_reason']}"


POOL_COLUMNS = (
    Column("POOL", lambda one: one["name"] if one["configured"] else f"{one['name']} (removed)"),
    Column("PROVIDERS", lambda one: ",".join(one["settings"].get("providers", ())) or NOTHING),
    Column("MARKET", lambda one: one["settings"].get("market", NOTHING)),
    Column("LIMIT", lambda one: str(one["settings"].get("instances", NOTHING)), right=True),
    Column("STARTING", lambda one: _instances(one, "intended", "launching", "booting"), right=True),
    Column("READY", lambda one: _instances(one, "ready"), right=True),
    Column("ENDING", lambda one: _instances(one, "draining", "terminating", "lost"), right=True),
    Column("COST", lambda one: usd_per_hour(one["usd_per_hour"]), right=True),
    Column("PROTECTED", _protected),
)

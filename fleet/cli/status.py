"""`hostler status`: the whole server on one page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from . import output
from .failures import in_commands, usage
from .options import Interval, Output, Watch, seconds_of
from .pools import POOL_COLUMNS
from .queues import queue_columns
from .session import connect
from .words import plural, span, usd, usd_per_hour

if TYPE_CHECKING:
    from .client import Client


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="fleet")(status)


def status(watch: Watch = False, interval: Interval = "2s", form: Output = output.Format.TABLE) -> None:
    """Show what waits, what runs, what it costs, and what wants a person."""
    seconds = seconds_of(interval, "--interval") or 0.0
    with connect() as client:
        if watch:
            _watch(client, form, seconds)
            return
        found = client.get("/api/v1/status")
    output.one(found, form, lambda: _print(found, form))


def _watch(client: Client, form: output.Format, interval_seconds: float) -> None:
    from .watch import watch

    if not form.is_table:
        raise usage("--watch is for tables", hint="`hostler events -f -o jsonl` gives programs each change")
    watch(
        lambda: _drawn(client.get("/api/v1/status"), form),
        lambda: _print(client.get("/api/v1/status"), form),
        interval_seconds,
    )


def _print(found: dict[str, Any], form: output.Format) -> None:
    for line in _head(found):
        typer.echo(line)
    typer.echo()
    output.print_table(found["queues"], queue_columns(time.time()), form)
    typer.echo()
    output.print_table(found["pools"], POOL_COLUMNS, form)
    for line in _warnings(found):
        typer.echo(f"\n{line}")


def _drawn(found: dict[str, Any], form: output.Format) -> Any:
    from rich.console import Group
    from rich.text import Text

    tables = (
        output.rich_table(*output.grid(found["queues"], queue_columns(time.time()), form)),
        Text(),
        output.rich_table(*output.grid(found["pools"], POOL_COLUMNS, form)),
    )
    warnings = [Text(f"\n{line}", "red") for line in _warnings(found)]
    return Group(Text("\n".join(_head(found)) + "\n"), *tables, *warnings)


def _head(found: dict[str, Any]) -> list[str]:
    loop, limits = found["loop"], found["limits"]
    up = span(found["uptime_seconds"])
    tick = f"{loop['ticks']} ticks, one each {span(loop['interval_seconds'])}"
    live = sum(found["instances"].values())
    cap = f" of {limits['instances']}" if "instances" in limits else ""
    money = f" of {usd_per_hour(limits['usd_per_hour'])}" if "usd_per_hour" in limits else ""
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["instances"].items()))
    return [
        f"daemon     {found['version']}, up {up}, {tick}, {'well' if loop['ok'] else 'NOT WELL'}",
        f"config     {found['config']['source']}",
        f"instances  {live}{cap}{f' ({states})' if states else ''}",
        f"cost       {usd_per_hour(found['usd_per_hour'])}{money}, {usd(found['usd_total'])} so far",
    ]


def _warnings(found: dict[str, Any]) -> list[str]:
    told = [f"warning: {output.on_one_line(in_commands(one))}" for one in found["warnings"]]
    if blocked := found["blocked_offers"]:
        told.append(f"{plural(len(blocked), 'offer')} held back after errors of their clouds:")
        told += [
            f"  {one['scope_key']}  {one['code']}  {output.on_one_line(one['detail'])}" for one in blocked
        ]
    return told

"""`hostler offers`: what the clouds sell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from . import output
from .failures import usage
from .options import Limit, Output
from .output import Column
from .session import connect
from .words import NOTHING, ago, gpu, number, size, usd_per_hour


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="fleet")(offers)


def offers(
    wish: Annotated[
        str | None, typer.Option("--gpu", help="With one of these, such as 'A10G:1|L4'.", metavar="GPUS")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Of this provider.")] = None,
    market: Annotated[str | None, typer.Option(help="spot or on_demand.")] = None,
    limit: Limit = 100,
    form: Output = output.Format.TABLE,
) -> None:
    """List what can be bought, cheapest first; without a price nothing is ever bought."""
    wishes = _wishes(wish)
    with connect() as client:
        found, _ = client.pages("/api/v1/offers", {"provider": provider}, limit=0)
    fitting = [one for one in found if market in (None, one["market"]) and _fits(one, wishes)]
    fitting.sort(key=lambda one: (one["usd_per_hour"] is None, one["usd_per_hour"] or 0.0, one["key"]))
    shown = fitting[: limit or None]
    empty = "no offers known yet; the daemon asks the clouds at its start" if not found else "no such offers"
    output.rows(shown, _columns(time.time()), form, empty=empty)
    if len(shown) < len(fitting):
        output.note(f"{len(shown)} of {len(fitting)} are shown; --limit 0 shows all")


def _wishes(text: str | None) -> Any:
    if text is None:
        return None
    from ...config.gpus import parse_gpus

    try:
        return parse_gpus(text)
    except ValueError as error:
        raise usage(f"--gpu: {error}") from None


def _fits(offer: dict[str, Any], wishes: Any) -> bool:
    if wishes is None:
        return True
    there = offer["gpu"] or {"name": "", "count": 0}
    if not wishes:
        return not there["count"]
    return any(there["count"] >= one.count and one.name in ("", there["name"]) for one in wishes)


def _columns(now: float) -> Sequence[Column]:
    return (
        Column("PROVIDER", lambda one: one["provider"]),
        Column("ZONE", lambda one: one["zone"] or one["region"] or NOTHING),
        Column("TYPE", lambda one: one["instance_type"]),
        Column("MARKET", lambda one: one["market"]),
        Column("GPU", lambda one: gpu(one["gpu"])),
        Column("CPUS", lambda one: number(one["cpus"]), right=True),
        Column("MEMORY", lambda one: size(one["memory_bytes"]), right=True),
        Column("PRICE", lambda one: usd_per_hour(one["usd_per_hour"]), right=True),
        Column("SEEN", lambda one: ago(one["refreshed_at"], now), wide=True),
        Column("KEY", lambda one: one["key"], wide=True),
    )

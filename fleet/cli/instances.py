"""`hostler instances`, `drain`, `terminate`, `reclaim`: the machines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from . import output
from .failures import ExitCode, Failure
from .options import InstanceId, InstanceIds, Limit, Output, WaitTimeout, seconds_of
from .output import Column
from .session import connect
from .words import NOTHING, ago, clock, gpu, number, size, usd, usd_per_hour

if TYPE_CHECKING:
    from .client import Client

LOOK_SECONDS: Final = 0.5
group = typer.Typer(help="List instances, or show one.", invoke_without_command=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="instances", rich_help_panel="fleet")
    for command in (drain, terminate, reclaim):
        app.command(rich_help_panel="fleet")(command)


@group.callback(invoke_without_command=True)
def instances(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", "-a", help="Terminated ones too.")] = False,
    pool: Annotated[str | None, typer.Option(help="Of this pool.")] = None,
    provider: Annotated[str | None, typer.Option(help="Of this provider.")] = None,
    limit: Limit = 100,
    form: Output = output.Format.TABLE,
) -> None:
    """List the instances there are, newest first."""
    if context.invoked_subcommand is not None:
        return
    params = {"live": None if every else True, "pool": pool, "provider": provider}
    with connect() as client:
        found, more = client.pages("/api/v1/instances", params, limit=limit)
    empty = "no instances" if every else "no instances now; `hostler instances --all` lists past ones"
    output.rows(found, instance_columns(time.time()), form, empty=empty)
    if more:
        output.note(f"the newest {len(found)} are shown; --limit 0 shows all")


@group.command()
def show(instance_id: InstanceId, form: Output = output.Format.TABLE) -> None:
    """Show one instance."""
    with connect() as client:
        found = client.get(f"/api/v1/instances/{instance_id}")
    output.one(found, form, lambda: _print(found, time.time()))


def drain(
    instance_ids: InstanceIds,
    wait: Annotated[bool, typer.Option("--wait", help="Until they are terminated.")] = False,
    timeout: WaitTimeout = None,
    form: Output = output.Format.TABLE,
) -> None:
    """Let instances finish what they run, give them nothing new, then end them."""
    seconds = seconds_of(timeout, "--timeout")
    deadline = None if seconds is None else time.monotonic() + seconds
    with connect() as client:
        found = [client.post(f"/api/v1/instances/{one}/drain") for one in instance_ids]
        if wait:
            found = [_until_terminated(client, one, deadline) for one in instance_ids]
    output.rows(found, instance_columns(time.time()), form, empty="")


def terminate(instance_ids: InstanceIds, form: Output = output.Format.TABLE) -> None:
    """End instances now, whatever they run: their tasks go back to their queues."""
    with connect() as client:
        found = [client.post(f"/api/v1/instances/{one}/terminate") for one in instance_ids]
    output.rows(found, instance_columns(time.time()), form, empty="")


def reclaim(
    instance_id: InstanceId,
    notice: Annotated[
        str, typer.Option(help="How long before its end it is told.", metavar="DURATION")
    ] = "0s",
    form: Output = output.Format.TABLE,
) -> None:
    """Play the cloud taking a spot instance away, for drills (local provider)."""
    body = {"notice_seconds": seconds_of(notice, "--notice")}
    with connect() as client:
        found = client.post(f"/api/v1/instances/{instance_id}/reclaim", body)
    output.rows([found], instance_columns(time.time()), form, empty="")


def _until_terminated(client: Client, instance_id: str, deadline: float | None) -> Any:
    while True:
        found = client.get(f"/api/v1/instances/{instance_id}")
        if found["state"] == "terminated":
            return found
        if deadline is not None and time.monotonic() >= deadline:
            raise Failure(
                ExitCode.TIMED_OUT,
                f"instance {instance_id} is still {found['state']}",
                f"it holds {len(found['tasks'])} tasks",
                f"it goes on draining; hostler terminate {instance_id} ends it now",
            )
        time.sleep(LOOK_SECONDS)


def instance_columns(now: float) -> Sequence[Column]:
    return (
        Column("INSTANCE", lambda one: one["id"]),
        Column("POOL", lambda one: one["pool"]),
        Column("PROVIDER", lambda one: one["provider"]),
        Column("ZONE", lambda one: one["zone"] or one["region"] or NOTHING),
        Column("TYPE", lambda one: one["instance_type"]),
        Column("GPU", lambda one: gpu(one["gpu"])),
        Column("MARKET", lambda one: one["market"]),
        Column("STATE", lambda one: one["state"]),
        Column("REASON", lambda one: one["reason"] or NOTHING),
        Column("TASKS", lambda one: ",".join(map(str, one["tasks"])) or NOTHING),
        Column("AGE", lambda one: ago(one["created_at"], now).removesuffix(" ago")),
        Column("PRICE", lambda one: usd_per_hour(one["usd_per_hour"]), right=True),
        Column("COST", lambda one: usd(one["usd"]), right=True),
        Column("CONTACT", lambda one: ago(one["contact_at"], now), wide=True),
        Column("REF", lambda one: one["ref"] or NOTHING, wide=True),
        Column("ADDRESS", lambda one: one["address"] or NOTHING, wide=True),
        Column("MESSAGE", lambda one: one["message"] or NOTHING, wide=True),
    )


_TIMES = ("created_at", "launched_at", "joined_at", "ready_at", "idle_since", "drain_at", "terminated_at")


def _print(found: dict[str, Any], now: float) -> None:
    place = "/".join(filter(None, (found["provider"], found["zone"] or found["region"])))
    facts = [
        ("instance", found["id"]),
        ("state", " ".join(filter(None, (found["state"], found["reason"])))),
        ("message", found["message"] or ""),
        ("pool", found["pool"]),
        ("offer", f"{place} {found['instance_type']} {found['market']}"),
        ("size", f"{number(found['cpus'])} cpus, {size(found['memory_bytes'])}, gpu {gpu(found['gpu'])}"),
        ("price", f"{usd_per_hour(found['usd_per_hour'])}, {usd(found['usd'])} so far"),
        ("ref", found["ref"] or ""),
        ("address", found["address"] or ""),
        ("tasks", ", ".join(map(str, found["tasks"]))),
        *((name.removesuffix("_at").replace("_", " "), _time(found[name], now)) for name in _TIMES),
        ("contact", ago(found["contact_at"], now) if found["contact_at"] else ""),
        ("preempted", _time(found["preempt_at"], now)),
    ]
    shown = [(name, value) for name, value in facts if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        typer.echo(f"{name.ljust(width)}  {output.on_one_line(value)}")


def _time(at: float | None, now: float) -> str:
    return "" if at is None else f"{clock(at, now)} ({ago(at, now)})"

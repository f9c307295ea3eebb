"""What `hostler doctor` says of a host: connection, Python, disk, clock, GPUs, service, way to the daemon."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any

from ...config.static import StaticHost
from ..base import Check, ProviderError
from .host import Host

DISK_FREE_BYTES_MIN = 5 * 1024**3
CLOCK_SECONDS_MAX = 300.0
REACH_SECONDS = 5.0
SERVICES = {
    "systemd": "a systemd unit",
    "user": "a unit of the user's own systemd",
    "process": "a process in a session of its own",
}


def look_at(host: Host, told: StaticHost, now: float, url: str) -> Iterator[Check]:
    """Starts nothing. `url` empty: the way to the daemon is not looked at. `now`: epoch seconds."""
    name = host.where.name
    try:
        facts = host.facts()
    except ProviderError as error:
        yield Check(f"{name} ssh", False, error.detail, error.hint)
        return
    yield Check(f"{name} ssh", True, f"{host.where.user}@{host.where.key_name}, host key verified")
    yield Check(f"{name} python", True, str(facts["python"]))
    yield _disk(name, facts)
    yield _clock(name, facts, now)
    yield _gpus(name, told, facts)
    yield Check(f"{name} service", True, f"the agent runs as {SERVICES[facts['service']]} in {facts['home']}")
    if url:
        yield _reach(host, url)


def _disk(name: str, facts: Mapping[str, Any]) -> Check:
    free = int(facts["disk_free_bytes"])
    hint = (
        ""
        if free >= DISK_FREE_BYTES_MIN
        else f"free some of the disk of {facts['home']}, or set home elsewhere"
    )
    return Check(f"{name} disk", not hint, f"{free / 2**30:.1f} GiB free", hint)


def _clock(name: str, facts: Mapping[str, Any], now: float) -> Check:
    off = float(facts["time"]) - now
    hint = (
        ""
        if abs(off) < CLOCK_SECONDS_MAX
        else "set its clock (timedatectl set-ntp true): certificates depend on it"
    )
    return Check(f"{name} clock", not hint, f"{off:+.0f} s against this machine", hint)


def _gpus(name: str, told: StaticHost, facts: Mapping[str, Any]) -> Check:
    found = [str(gpu["name"]) for gpu in facts["gpus"]]
    listed = ", ".join(found) or "none"
    wanted = int(told.gpus[0].count) if told.gpus else 0
    if wanted > len(found):
        hint = "correct gpus in fleet.yaml, or mend the machine's driver (nvidia-smi)"
        return Check(f"{name} gpus", False, f"{wanted} in fleet.yaml, nvidia-smi lists {listed}", hint)
    return Check(f"{name} gpus", True, listed)


def _reach(host: Host, url: str) -> Check:
    name = f"{host.where.name} daemon url"
    try:
        found = host.reach(f"{url.rstrip('/')}/livez", REACH_SECONDS)
    except ProviderError as error:
        return Check(name, False, error.detail, error.hint)
    hint = (
        ""
        if found["reached"]
        else f"let {host.where.address} reach {url}, or set daemon.url (from {platform.node()})"
    )
    return Check(name, bool(found["reached"]), f"{url} {found['detail']}", hint)

"""Fleets of this machine's own processes, with the times that tests need, and how long they may take."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from api.daemons import DaemonProcess, daemon_process
from api.serving import wait_until
from processes.ledger import Ledger, processes

PATIENCE_SECONDS = 90.0
"""For what takes seconds on an idle machine; two busy cores stretch it."""
FLEET = """
version: 1
daemon:
  tick: 100ms
  listen: "127.0.0.1:{{port}}"
  state: "sqlite:///{{folder}}/state/state.db"
  lease_ttl: {lease_ttl}
  dead_man: 90s
  bootstrap_timeout: 60s
  orphan_grace: {orphan_grace}
  max_body: 64KiB
limits: {{{{instances: {instances}, usd_per_hour: 1}}}}
providers:
  here:
    type: local
    max_instances: {max_instances}
    offers:
      - {{{{name: small, cpus: 1, memory: 1GiB, market: {market}, usd_per_hour: 0.01}}}}
pools:
  local: {{{{providers: [here], market: {market}, instances: 0..{instances}, idle_timeout: {idle_timeout}}}}}
queues:
  default: {{{{pools: [local]}}}}
"""


def fleet_yaml(
    *,
    instances: int = 2,
    lease_ttl: str = "6s",
    idle_timeout: str = "1s",
    market: str = "spot",
    orphan_grace: str = "5s",
) -> str:
    """Text for `DaemonProcess.configure`. The cloud has room for one more than the fleet may use: a double shows."""
    return FLEET.format(
        instances=instances,
        max_instances=instances + 1,
        lease_ttl=lease_ttl,
        idle_timeout=idle_timeout,
        market=market,
        orphan_grace=orphan_grace,
    )


@contextlib.contextmanager
def fleet(folder: Path, text: str) -> Iterator[tuple[DaemonProcess, Ledger]]:
    """A configured daemon that is not started yet, on a port that stays its own over restarts."""
    with daemon_process(folder, port=free_port()) as daemon:
        daemon.configure(text)
        yield daemon, Ledger(folder / "state")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_all_ended(ledger: Ledger) -> None:
    try:
        wait_until(lambda: not ledger.unfinished(), PATIENCE_SECONDS)
    except AssertionError:
        raise AssertionError(f"not ended: {ledger.unfinished()}") from None


def until_nothing_is_left(ledger: Ledger) -> None:
    """The fleet is back at zero: no row that may cost money, no process of any instance."""
    try:
        wait_until(lambda: not ledger.live_instances() and not processes(ledger.state), PATIENCE_SECONDS)
    except AssertionError:
        left = [(one.pid, one.command) for one in processes(ledger.state)]
        raise AssertionError(f"left: {ledger.live_instances()} {left}") from None


def knob(name: str, default: int) -> int:
    """A count that the environment can raise for a longer run."""
    return int(os.environ.get(name, default))

"""Agents that die or freeze: their task is given away in time, one result is committed, no zombie runs on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from api.daemons import DaemonProcess
from api.serving import wait_until
from hostler.fleet.queue.expire import LEASE_GRACE_SECONDS
from processes.fleets import PATIENCE_SECONDS, fleet, fleet_yaml, until_nothing_is_left
from processes.ledger import Ledger, Seen, check_one_end_each, check_one_launch_each, processes

pytestmark = pytest.mark.slow

TTL_SECONDS = 4.0
NOISE_SECONDS = 6.0
"""A tick, a commit, and two busy cores, on top of what is promised."""
ZOMBIE_SECONDS_MAX = 5.0
FIRST_WAITS = ["sh", "-c", "test $HOSTLER_ATTEMPT -gt 1 || sleep 1000; echo attempt $HOSTLER_ATTEMPT"]
"""The first attempt never ends by itself; the second does at once."""
BOTH_WAIT = ["sh", "-c", "if [ $HOSTLER_ATTEMPT = 1 ]; then sleep 1000; else sleep 4; fi"]


def yaml(**changed: object) -> str:
    settings: dict[str, object] = {"lease_ttl": f"{TTL_SECONDS:g}s", "idle_timeout": "30s", **changed}
    return fleet_yaml(**settings)  # type: ignore[arg-type]


def begin(daemon: DaemonProcess, ledger: Ledger, run: list[str]) -> tuple[int, str, list[Seen]]:
    """(task, its instance, the processes of that instance) once the task's own process runs."""
    daemon.start()
    task_id = daemon.submit(run=run, name="victim")
    instance_id = daemon.wait_for_state(task_id, "running", seconds=PATIENCE_SECONDS)["instance_id"]
    wait_until(lambda: tasks_of(ledger, task_id, 1), PATIENCE_SECONDS)
    return task_id, instance_id, [one for one in processes(ledger.state) if one.instance_id == instance_id]


def tasks_of(ledger: Ledger, task_id: int, attempt: int) -> list[Seen]:
    """The task's own processes of this attempt, wherever they run."""
    want = {"HOSTLER_TASK_ID": str(task_id), "HOSTLER_ATTEMPT": str(attempt)}
    return [one for one in processes(ledger.state) if want.items() <= one.environ.items()]


def send(victims: Iterable[Seen], number: signal.Signals) -> None:
    for one in victims:
        with contextlib.suppress(ProcessLookupError):  # ended meanwhile
            os.kill(one.pid, number)


def until_given_away(ledger: Ledger, task_id: int, since: float) -> str:
    """The outcome of the first attempt; fails unless it is over within the lease's time and the grace."""
    query = "SELECT outcome FROM attempts WHERE task_id = ? AND number = 1 AND finished_at IS NOT NULL"
    wait_until(lambda: ledger.rows(query, task_id), TTL_SECONDS + LEASE_GRACE_SECONDS + NOISE_SECONDS)
    again = ledger.one(
        "SELECT min(at) FROM events WHERE task_id = ? AND kind = 'task.queued' AND at > ?", task_id, since
    )
    assert again is not None
    return str(ledger.one(query, task_id))


def until_completed_elsewhere(daemon: DaemonProcess, ledger: Ledger, task_id: int, first: str) -> None:
    task = daemon.wait_for_state(task_id, "completed", "failed", "dead", "stopped", seconds=PATIENCE_SECONDS)
    assert task["state"] == "completed", task
    held = ledger.rows("SELECT instance_id FROM attempts WHERE task_id = ? ORDER BY number", task_id)
    assert [row["instance_id"] for row in held][:1] == [first]
    assert held[-1]["instance_id"] != first
    check_one_end_each(ledger)


@pytest.mark.parametrize("market", ["spot", "on_demand"])
@pytest.mark.parametrize("which", ["the agent alone", "its whole tree"])
def test_a_killed_agents_task_is_requeued_in_time_and_completes_elsewhere(
    tmp_path: Path, which: str, market: str
) -> None:
    with fleet(tmp_path, yaml(market=market, idle_timeout="500ms")) as (daemon, ledger):
        task_id, instance_id, tree = begin(daemon, ledger, FIRST_WAITS)
        killed_at = time.time()
        send([one for one in tree if one.is_agent or which == "its whole tree"], signal.SIGKILL)
        assert (
            until_given_away(ledger, task_id, killed_at)
            == {"spot": "preempted", "on_demand": "infra"}[market]
        )
        until_completed_elsewhere(daemon, ledger, task_id, instance_id)
        wait_until(lambda: not tasks_of(ledger, task_id, 1), ZOMBIE_SECONDS_MAX + NOISE_SECONDS)
        until_nothing_is_left(ledger)
        check_one_launch_each(ledger)


def test_a_frozen_machine_loses_its_lease_and_its_zombie_dies_when_it_thaws(tmp_path: Path) -> None:
    """Everything on it stops past the lease, and wakes while another machine runs the second attempt."""
    with fleet(tmp_path, yaml()) as (daemon, ledger):
        task_id, instance_id, tree = begin(daemon, ledger, BOTH_WAIT)
        stopped_at = time.time()
        send(tree, signal.SIGSTOP)
        assert until_given_away(ledger, task_id, stopped_at) == "lost"
        wait_until(lambda: tasks_of(ledger, task_id, 2), PATIENCE_SECONDS)
        assert tasks_of(ledger, task_id, 1)
        send(tree, signal.SIGCONT)
        wait_until(lambda: not tasks_of(ledger, task_id, 1), ZOMBIE_SECONDS_MAX)
        until_completed_elsewhere(daemon, ledger, task_id, instance_id)
        assert len(ledger.rows("SELECT 1 FROM attempts WHERE task_id = ?", task_id)) == 2


def test_a_frozen_agents_task_is_ended_by_its_shim_before_another_runs_it(tmp_path: Path) -> None:
    """Only the agent stops: the shim holds the task to its lease, and the thawed agent commits nothing."""
    with fleet(tmp_path, yaml()) as (daemon, ledger):
        task_id, instance_id, tree = begin(daemon, ledger, BOTH_WAIT)
        agent = [one for one in tree if one.is_agent]
        stopped_at = time.time()
        send(agent, signal.SIGSTOP)
        wait_until(lambda: not tasks_of(ledger, task_id, 1), TTL_SECONDS + NOISE_SECONDS)
        assert ledger.one("SELECT state FROM tasks WHERE id = ?", task_id) == "running"
        assert until_given_away(ledger, task_id, stopped_at) == "lost"
        wait_until(lambda: tasks_of(ledger, task_id, 2), PATIENCE_SECONDS)
        send(agent, signal.SIGCONT)
        until_completed_elsewhere(daemon, ledger, task_id, instance_id)
        assert len(ledger.rows("SELECT 1 FROM attempts WHERE task_id = ?", task_id)) == 2

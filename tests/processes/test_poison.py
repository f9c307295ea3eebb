"""A task that always crashes ends after its budget and buys nothing more, alone or with its machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from api.daemons import DaemonProcess
from processes.fleets import PATIENCE_SECONDS, fleet, fleet_yaml, until_nothing_is_left
from processes.ledger import Ledger, check_one_end_each, check_one_launch_each

pytestmark = pytest.mark.slow

CRASHES = ["sh", "-c", "kill -SEGV $$"]
TAKES_THE_MACHINE_ALONG = ["sh", "-c", 'kill -9 "$(cat "$HOSTLER_OUT/../../../started")"; sleep 60']


def until_it_is_over(daemon: DaemonProcess, ledger: Ledger, task_id: int, state: str) -> None:
    task = daemon.wait_for_state(task_id, "completed", "failed", "dead", "stopped", seconds=PATIENCE_SECONDS)
    assert task["state"] == state, task
    until_nothing_is_left(ledger)
    check_one_end_each(ledger, state)


def check_nothing_more_is_bought(daemon: DaemonProcess, ledger: Ledger, task_id: int) -> None:
    """A later task makes the loop plan again, for itself alone; the poisoned one stays as it is."""
    before = ledger.rows("SELECT id FROM instances")
    ended = ledger.rows("SELECT * FROM tasks WHERE id = ?", task_id)
    healthy = daemon.submit(run=["true"], name="healthy")
    assert daemon.wait_for_state(healthy, "completed", "failed", "dead", seconds=PATIENCE_SECONDS)
    until_nothing_is_left(ledger)
    assert len(ledger.rows("SELECT id FROM instances")) == len(before) + 1
    assert ledger.rows("SELECT * FROM tasks WHERE id = ?", task_id) == ended


def test_a_task_that_always_crashes_is_dead_after_its_error_budget(tmp_path: Path) -> None:
    with fleet(tmp_path, fleet_yaml(idle_timeout="300ms")) as (daemon, ledger):
        daemon.start()
        task_id = daemon.submit(run=CRASHES, name="poison", retry={"error": 1})
        until_it_is_over(daemon, ledger, task_id, "dead")
        assert ledger.one("SELECT attempt FROM tasks WHERE id = ?", task_id) == 2
        check_nothing_more_is_bought(daemon, ledger, task_id)
        check_one_launch_each(ledger)


def test_a_task_that_takes_its_machine_along_is_dead_after_its_infra_budget(tmp_path: Path) -> None:
    with fleet(tmp_path, fleet_yaml(idle_timeout="300ms", market="on_demand")) as (daemon, ledger):
        daemon.start()
        task_id = daemon.submit(run=TAKES_THE_MACHINE_ALONG, name="poison", retry={"infra": 2})
        until_it_is_over(daemon, ledger, task_id, "dead")
        attempts = ledger.rows("SELECT DISTINCT instance_id FROM attempts WHERE task_id = ?", task_id)
        assert len(attempts) == 3 == ledger.one("SELECT count(*) FROM instances")
        check_nothing_more_is_bought(daemon, ledger, task_id)
        check_one_launch_each(ledger)

"""kill -9 of the daemon at any moment, with real agents at work: every task ends once, nothing runs twice or stays."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx
import pytest
from api.daemons import DaemonProcess
from processes.fleets import fleet, fleet_yaml, knob, until_all_ended, until_nothing_is_left
from processes.ledger import Ledger, Witness, check_one_end_each, check_one_launch_each

pytestmark = pytest.mark.slow

INSTANCES = 2
MOMENTS = (
    "task.queued",
    "instance.intended",
    "instance.launching",
    "instance.booting",
    "instance.ready",
    "task.leased",
    "task.running",
    "task.completed",
    "instance.draining",
    "instance.terminating",
)
"""What the daemon has just committed when it is killed; what comes next is lost, half done, or never begun."""
MOMENT_SECONDS_MAX = 20.0
AFTER_SECONDS_MAX = 0.06
TASKS_PER_ROUND = 3
TASK = ["sh", "-c", "echo attempt $HOSTLER_ATTEMPT; sleep 0.2"]
RETRY = {"infra": 50, "preempted": 50}


class Customer:
    """Submits until it is told that the task is there: the same uid again, as the CLI does."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.acknowledged: dict[str, int] = {}
        self._daemon = daemon
        self._url = f"http://127.0.0.1:{daemon.port}"
        self._threads: list[threading.Thread] = []

    def submit(self, first: int, count: int) -> None:
        thread = threading.Thread(target=self._submit_all, args=(first, count), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(60.0)
            assert not thread.is_alive(), "a submit was never acknowledged"

    def _submit_all(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            uid = f"t-{number}"
            while uid not in self.acknowledged:
                self._try(uid)

    def _try(self, uid: str) -> None:
        body = {"spec": {"run": TASK, "name": uid, "retry": RETRY}, "uid": uid}
        try:
            with self._daemon.client() as client:
                answer = client.post("/api/v1/tasks", json=body)
        except (httpx.TransportError, OSError):
            time.sleep(0.02)
            return
        assert answer.status_code == 201, answer.text
        self.acknowledged[uid] = answer.json()["id"]


def kill_at(daemon: DaemonProcess, ledger: Ledger, rng: random.Random, moment: str, after: int) -> bool:
    """Kill once `moment` has come, a little later by chance. Killed all the same if it does not come."""
    came = ledger.happened(moment, after, MOMENT_SECONDS_MAX)
    time.sleep(rng.uniform(0.0, AFTER_SECONDS_MAX))
    daemon.kill()
    return came


def story(folder: Path, seed: int, moments: list[str]) -> None:
    rng = random.Random(seed)
    with fleet(folder, fleet_yaml(instances=INSTANCES, idle_timeout="200ms")) as (daemon, ledger):
        daemon.start()
        customer = Customer(daemon)
        with Witness(ledger.state).watching() as witness:
            hits = 0
            for round_number, moment in enumerate(moments):
                after = ledger.last_event()
                customer.submit(round_number * TASKS_PER_ROUND, TASKS_PER_ROUND)
                hits += kill_at(daemon, ledger, rng, moment, after)
                daemon.start()
            customer.wait()
            until_all_ended(ledger)
            until_nothing_is_left(ledger)
        assert hits >= 0.8 * len(moments), "the moments to kill at did not come"
        tasks = {row["uid"]: row["id"] for row in ledger.rows("SELECT uid, id FROM tasks")}
        assert tasks == customer.acknowledged
        assert len(tasks) == len(moments) * TASKS_PER_ROUND
        check_one_end_each(ledger)
        check_one_launch_each(ledger)
        witness.check_one_agent_each()
        assert witness.most_at_once <= INSTANCES
        assert ledger.is_whole()
        assert daemon.stop() == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_of_the_daemon_at_any_moment_ends_every_task_once_and_leaves_nothing(
    tmp_path: Path, seed: int
) -> None:
    story(tmp_path, seed, random.Random(seed).sample(MOMENTS, 5))


@pytest.mark.soak
def test_kill_9_of_the_daemon_again_and_again(tmp_path: Path) -> None:
    seed = knob("HOSTLER_SOAK_SEED", 1)
    story(tmp_path, seed, random.Random(seed).choices(MOMENTS, k=knob("HOSTLER_SOAK_KILLS", 100)))

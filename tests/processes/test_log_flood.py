"""A task that writes without end: the daemon's memory stays bounded and no agent misses a heartbeat."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from api.daemons import DaemonProcess
from processes.fleets import fleet, fleet_yaml, knob
from processes.ledger import check_one_end_each

pytestmark = pytest.mark.slow

MEBIBYTE = 1024 * 1024
GROWTH_BYTES_MAX = 100 * MEBIBYTE
LOG_BYTES_KEPT = 64 * MEBIBYTE
"""Head and tail that an agent keeps of one attempt."""
TTL_SECONDS = 12.0
LEFT_SECONDS_MIN = TTL_SECONDS / 2
"""Agents beat every quarter of a lease: with less left than half of it, a beat was missed."""
FLOOD_SECONDS_MAX = 900.0
LOOK_SECONDS = 0.2


def story(folder: Path, flood_bytes: int) -> str:
    flood = (
        f"echo begin; yes 'epoch 17 loss 0.123456 accuracy 0.987654' | head -c {flood_bytes}; echo; echo end"
    )
    with fleet(folder, fleet_yaml(lease_ttl=f"{TTL_SECONDS:g}s", idle_timeout="30s")) as (daemon, ledger):
        daemon.start()
        bystander = daemon.submit(run=["sh", "-c", "while [ ! -e go ]; do sleep 0.2; done"], name="bystander")
        daemon.wait_for_state(bystander, "running")
        assert daemon.process is not None
        memory = psutil.Process(daemon.process.pid).memory_info
        before = most = memory().rss
        flooder = daemon.submit(run=["sh", "-c", flood], name="flooder")
        least_left = TTL_SECONDS
        end = time.monotonic() + FLOOD_SECONDS_MAX
        while ledger.one("SELECT state FROM tasks WHERE id = ?", flooder) not in (
            "completed",
            "failed",
            "dead",
        ):
            assert time.monotonic() < end, "the flood never ended"
            for row in ledger.rows("SELECT lease_until FROM tasks WHERE state = 'running'"):
                least_left = min(least_left, row["lease_until"] - time.time())
            most = max(most, memory().rss)
            time.sleep(LOOK_SECONDS)
        assert least_left > LEFT_SECONDS_MIN, (
            f"a heartbeat was missed: {least_left:.1f} s of a lease were left"
        )
        assert most - before <= GROWTH_BYTES_MAX, f"the daemon grew by {(most - before) / MEBIBYTE:.0f} MiB"
        for path in folder.glob("**/work"):
            (path / "go").touch()
        daemon.wait_for_state(bystander, "completed")
        check_one_end_each(ledger)
        assert {row["attempt"] for row in ledger.rows("SELECT attempt FROM tasks")} == {1}
        check_head_and_tail_are_kept(daemon, flooder)
        return (
            f"{flood_bytes // MEBIBYTE} MiB of output: the daemon grew by {(most - before) / MEBIBYTE:.0f} MiB, "
            f"least lease left {least_left:.1f} of {TTL_SECONDS:g} s"
        )


def check_head_and_tail_are_kept(daemon: DaemonProcess, task_id: int) -> None:
    with daemon.client() as http:
        head = http.get(f"/api/v1/tasks/{task_id}/logs", params={"limit": 1_000})
        tail = http.get(f"/api/v1/tasks/{task_id}/logs", params={"tail": 5})
    assert head.text.startswith("begin\nepoch 17")
    assert tail.text.endswith("\nend\n")


def test_a_flood_of_output_costs_neither_memory_nor_heartbeats(tmp_path: Path) -> None:
    story(tmp_path, LOG_BYTES_KEPT + 8 * MEBIBYTE)


@pytest.mark.soak
def test_a_gigabyte_of_output_costs_neither_memory_nor_heartbeats(tmp_path: Path) -> None:
    print(story(tmp_path, knob("HOSTLER_SOAK_LOG_MIB", 1_024) * MEBIBYTE))

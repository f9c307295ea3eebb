"""After a long outage of the daemon all agents come back at once: nobody's task is taken away."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from pathlib import Path

import pytest
from hostler.fleet.queue.expire import LEASE_GRACE_SECONDS
from processes.crowd import come_back, populate
from processes.fleets import fleet, fleet_yaml, knob

pytestmark = pytest.mark.slow

OUTAGE_SECONDS = 600.0
BEATS_PER_LEASE = 4
AFTERWARDS_SECONDS = 3.0
SPARE_FILES = 500


def story(folder: Path, agents: int, ttl_seconds: float) -> str:
    with fleet(folder, fleet_yaml(instances=0, lease_ttl=f"{ttl_seconds:g}s")) as (daemon, ledger):
        members = populate(ledger.file, folder / "fleet.yaml", agents, OUTAGE_SECONDS)
        last = ledger.last_event()
        daemon.start()
        begun = time.monotonic()
        # Leases that nobody renewed are ended once the server has been up for one TTL: well past that.
        until = begun + ttl_seconds + LEASE_GRACE_SECONDS + AFTERWARDS_SECONDS
        beat_seconds = ttl_seconds / BEATS_PER_LEASE
        crowd = come_back(
            daemon.port, members, beat_seconds=beat_seconds, until=until, rng=random.Random(agents)
        )
        told = asyncio.run(crowd)
        assert not daemon.process_ended()
        assert (told.stale, told.refused) == ([], [])
        assert len(told.returned) == agents
        lost = ledger.rows(
            "SELECT kind, task_id, message FROM events WHERE id > ? AND task_id IS NOT NULL", last
        )
        assert lost == [], "tasks were taken away from agents that came back"
        states = ledger.rows("SELECT state, generation, count(*) AS n FROM tasks GROUP BY 1, 2")
        assert states == [{"state": "running", "generation": 1, "n": agents}]
        waits = sorted(told.waits)
        return (
            f"{agents} agents, {told.beats} beats, {told.failures} failed calls, "
            f"p50 {waits[len(waits) // 2]:.3f} s, p99 {waits[int(len(waits) * 0.99)]:.3f} s, 0 false requeues"
        )


def test_agents_that_return_all_at_once_after_an_outage_keep_their_tasks(tmp_path: Path) -> None:
    story(tmp_path, agents=400, ttl_seconds=12.0)


@pytest.mark.soak
def test_ten_thousand_agents_that_return_all_at_once_keep_their_tasks(tmp_path: Path) -> None:
    agents = knob("HOSTLER_SOAK_AGENTS", 10_000)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < agents + SPARE_FILES:
        pytest.skip(f"{agents} connections need as many open files; the limit here is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(story(tmp_path, agents, ttl_seconds=60.0))

"""Two daemons, one database: both serve, one leads, and who is paused past its lease writes nothing any more."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from api.daemons import DaemonProcess, daemon_process
from api.serving import wait_until
from hostler.fleet.store.schema import instances
from hostler.tracking.server.database import Database
from postgres.daemons import PATIENCE_SECONDS, fleet_yaml, lead, leads, wait_for_lead
from sqlalchemy import func, select

pytestmark = pytest.mark.slow
SOAK_PAUSES = 20


@pytest.fixture
def database(new_postgres: Callable[[], str]) -> Iterator[Database]:
    opened = Database.open(new_postgres(), time.time)
    yield opened
    opened.close()


@pytest.fixture
def pair(tmp_path: Path, database: Database) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """The first leads, the second follows."""
    url = database.url.render_as_string(hide_password=False)
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            daemon = stack.enter_context(daemon_process(folder))
            daemon.configure(fleet_yaml(url, str(tmp_path / "shared")))
            daemon.start()
            made.append(daemon)
            wait_for_lead(database, made[0])
        yield made[0], made[1]


def intents_of_epochs_below(database: Database, epoch: int, since: float) -> int:
    """Launch intents that a leader of the past wrote after `since`."""
    with database.read() as conn:
        stale = select(func.count()).where(instances.c.epoch < epoch, instances.c.created_at > since)
        return int(conn.execute(stale).scalar_one())


def test_a_follower_serves_the_api_and_its_tasks_are_run_by_the_leaders_fleet(
    pair: tuple[DaemonProcess, DaemonProcess], database: Database
) -> None:
    first, second = pair
    task = second.submit(run=["true"], name="by-the-follower")
    assert first.wait_for_state(task, "completed", seconds=PATIENCE_SECONDS)["name"] == "by-the-follower"
    assert second.get(f"tasks/{task}")["state"] == "completed"
    with second.client() as client:
        assert client.get("/readyz").status_code == 200
    found = lead(database)
    assert found is not None
    assert found.epoch == 1


def pause_the_leader(leading: DaemonProcess, other: DaemonProcess, database: Database, round_: int) -> None:
    """Pause it past its lease with work under way, see the other take over, let it go on, find it following."""
    tasks = [leading.submit(run=["sleep", "1"], name=f"before-{round_}-{number}") for number in range(3)]
    lost = leading.log().count("leader.lost")
    leading.signal(signal.SIGSTOP)
    try:
        wait_for_lead(database, other)
        taken_over_at = database.clock()
        tasks.append(other.submit(run=["true"], name=f"during-{round_}"))
    finally:
        leading.signal(signal.SIGCONT)
    wait_until(lambda: leading.log().count("leader.lost") > lost, PATIENCE_SECONDS)
    tasks.append(leading.submit(run=["true"], name=f"after-{round_}"))
    for task in tasks:
        leading.wait_for_state(task, "completed", seconds=PATIENCE_SECONDS)
    found = lead(database)
    assert found is not None
    assert found.epoch == round_ + 2
    assert leads(database, other)
    assert intents_of_epochs_below(database, found.epoch, taken_over_at) == 0


def test_a_leader_paused_past_its_lease_is_replaced_and_writes_nothing_when_it_wakes(
    pair: tuple[DaemonProcess, DaemonProcess], database: Database
) -> None:
    pause_the_leader(*pair, database, 0)


@pytest.mark.soak
def test_the_lead_changes_hands_over_and_over_without_a_write_of_the_past(
    pair: tuple[DaemonProcess, DaemonProcess], database: Database
) -> None:
    first, second = pair
    for round_ in range(SOAK_PAUSES):
        pause_the_leader(first, second, database, round_)
        first, second = second, first


def test_a_leader_that_ends_in_order_hands_over_at_once(
    pair: tuple[DaemonProcess, DaemonProcess], database: Database
) -> None:
    first, second = pair
    assert first.stop() == 0
    wait_for_lead(database, second)
    task = second.submit(run=["true"], name="after-the-change")
    second.wait_for_state(task, "completed", seconds=PATIENCE_SECONDS)

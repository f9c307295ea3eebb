"""The real scheduler on real time: ticks by themselves, at once when woken, offers refreshed, sweeps run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fakes.cloud import make_offer
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.fleet.loop import schedule
from hostler.fleet.loop.schedule import Schedule, Sweep, start
from hostler.fleet.loop.tick import TickReport
from hostler.fleet.store import health
from hostler.providers.base import InsufficientCapacity, InvalidConfig, Offer, Scope, Unavailable

DEADLINE_SECONDS = 60.0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.01)


class Loop:
    """A started schedule and what it has told."""

    def __init__(self, world: FleetWorld, *sweeps: Sweep) -> None:
        self.reports: list[TickReport] = []
        self.errors: list[BaseException] = []
        self.schedule = start(world.context, on_tick=self._ticked, sweeps=sweeps)

    def _ticked(self, report: TickReport | None, seconds: float, error: BaseException | None) -> None:
        assert seconds >= 0
        if report is not None:
            self.reports.append(report)
        if error is not None:
            self.errors.append(error)


@pytest.fixture
def make_loop() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(world: FleetWorld, *sweeps: Sweep) -> Loop:
        made.append(Loop(world, *sweeps))
        return made[-1]

    yield make
    for loop in made:
        loop.schedule.stop()


def test_it_ticks_by_itself_at_the_interval_of_the_configuration(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    loop = make_loop(make_world(make_fleet(daemon={"tick": "50ms"})))
    until(lambda: len(loop.reports) >= 3)


def test_a_wake_runs_a_tick_at_once_however_long_the_interval(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    world = make_world(make_fleet(daemon={"tick": "1m"}))
    loop = make_loop(world)
    until(lambda: bool(loop.reports) and not world.rows())
    world.submit()
    loop.schedule.wake()
    until(lambda: len(world.rows()) == 1)


def test_a_wake_during_a_tick_is_not_lost(make_world: MakeWorld, make_loop: Callable[..., Loop]) -> None:
    world = make_world(make_fleet(daemon={"tick": "1m"}))
    inside, go_on = threading.Event(), threading.Event()

    def checkpoint(what: str) -> None:
        if what == "call:list" and not inside.is_set():
            inside.set()
            go_on.wait(DEADLINE_SECONDS)

    world.context.checkpoint = checkpoint
    loop = make_loop(world)
    assert inside.wait(DEADLINE_SECONDS)
    for _ in range(100):
        loop.schedule.wake()
    go_on.set()
    until(lambda: len(loop.reports) >= 2)
    assert len(loop.reports) < 20


def test_offers_are_refreshed_at_the_start_and_the_old_ones_stay_when_that_fails(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    world = make_world(make_fleet(daemon={"tick": "1m"}))
    cloud = world.clouds["sky"]
    dearer = make_offer(usd_per_hour=7.0)
    cloud.offered = (dearer,)
    loop = make_loop(world)
    catalogue = world.context.offers

    def known() -> tuple[Offer, ...]:
        return catalogue.current(world.clouds, world.clock())

    until(lambda: known() == (dearer,))

    def fail() -> tuple[Offer, ...]:
        raise Unavailable("no prices today")

    cloud.offers = fail  # type: ignore[method-assign]
    outcome = catalogue.refresh(world.context.effects, world.clouds)
    assert outcome == {"sky": "no prices today"}
    assert known() == (dearer,)
    assert loop.errors == []


def test_a_restart_plans_with_the_catalogue_of_the_store_until_it_is_too_old(world: FleetWorld) -> None:
    world.start()
    assert len(world.context.offers.current(world.clouds, world.clock())) == 1
    much_later = world.clock() + 8 * 86_400
    assert world.context.offers.current(world.clouds, much_later) == ()


def test_sweeps_run_and_one_that_fails_does_not_end_the_others(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    ran: list[str] = []

    def fail() -> None:
        ran.append("bad")
        raise RuntimeError("broken sweep")

    make_loop(
        make_world(make_fleet(daemon={"tick": "1m"})),
        Sweep("bad", 0.05, fail),
        Sweep("good", 0.05, lambda: ran.append("good")),
    )
    until(lambda: ran.count("bad") >= 2 and ran.count("good") >= 2)


def test_a_tick_that_fails_is_told_and_the_next_one_runs(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    world = make_world(make_fleet(daemon={"tick": "50ms"}))
    old = world.context
    world.start()
    world.context = old
    loop = make_loop(world)
    until(lambda: len(loop.errors) >= 2)


def test_windows_are_rebuilt_when_the_configuration_changes(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    world = make_world(make_fleet(daemon={"tick": "1m"}))
    loop = make_loop(world)
    assert warm_jobs(loop.schedule) == []
    window = {"cron": "0 9 * * *", "until": "0 18 * * *", "tz": "Europe/Berlin", "min": 1}
    pool = {"providers": ["sky"], "market": "on_demand", "instances": "0..5", "warm": [window]}
    world.fleet = make_fleet(daemon={"tick": "1m"}, pools={"main": pool})
    loop.schedule.reload()
    assert warm_jobs(loop.schedule) == ["warm:main:0:closes", "warm:main:0:opens"]
    world.fleet = make_fleet(daemon={"tick": "1m"})
    loop.schedule.reload()
    assert warm_jobs(loop.schedule) == []


def test_a_new_configuration_forgets_what_only_a_person_could_mend(
    make_world: MakeWorld, make_loop: Callable[..., Loop]
) -> None:
    world = make_world(make_fleet(daemon={"tick": "1m"}))
    loop = make_loop(world)
    offer, now = make_offer(), world.clock()
    for error in (InvalidConfig("no such image"), InsufficientCapacity("sold out", scope=Scope.ZONE)):
        world.db.write(partial(health.failed, workspace="default", offer=offer.key, error=error, now=now))
    loop.schedule.reload()
    with world.db.read() as conn:
        assert health.of_offers(conn, [offer.key])[offer.key].code == "NO_CAPACITY"


def test_a_wake_after_the_end_does_nothing(make_world: MakeWorld, make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(make_world(make_fleet(daemon={"tick": "1m"})))
    until(lambda: bool(loop.reports))
    loop.schedule.stop()
    ticks = len(loop.reports)
    loop.schedule.wake()
    assert len(loop.reports) == ticks


def warm_jobs(running: Schedule) -> list[str]:
    return sorted(job.id for job in running.scheduler.get_jobs() if job.id.startswith(schedule.WARM_PREFIX))

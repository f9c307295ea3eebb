"""Preemptions that the cloud tells from outside: as good as the agent's own word, and never lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import Crash, FleetWorld, MakeWorld, make_fleet
from hostler.providers.base import AuthFailed, Forewarning, ProviderError

LEFT_SECONDS = 90.0


class TellingCloud(FakeCloud):
    """Implements Forewarned: what is in `queue` is told at each look until it is settled."""

    queue: Sequence[Forewarning] = ()
    broken: ProviderError | None = None

    def notices(self) -> Sequence[Forewarning]:
        if self.broken is not None:
            raise self.broken
        return self.queue

    def settle(self, forewarnings: Sequence[Forewarning]) -> None:
        self.queue = tuple(one for one in self.queue if one not in forewarnings)


@pytest.fixture
def cloud(clock: Clock) -> TellingCloud:
    return TellingCloud("sky", clock, (make_offer(),))


@pytest.fixture
def world(make_world: MakeWorld, cloud: TellingCloud) -> FleetWorld:
    """A fleet whose one machine runs a task."""
    world = make_world(make_fleet(), cloud)
    world.task_seconds = 10_000
    world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    return world


def announce(cloud: TellingCloud) -> None:
    (machine,) = cloud.billed()
    cloud.queue = (Forewarning(machine.ref, LEFT_SECONDS, "aws-spot", "receipt"),)


def test_a_machine_that_the_cloud_takes_back_drains_though_its_agent_heard_nothing(
    world: FleetWorld, cloud: TellingCloud, clock: Clock
) -> None:
    announce(cloud)
    report = world.tick()
    (row,) = world.rows("draining")
    assert (row["reason"], row["preempt_at"]) == ("PREEMPTED", clock() + LEFT_SECONDS)
    assert report.draining == [row["id"]]
    assert len(world.events("instance.preemption_notice")) == 1
    assert not cloud.queue


def test_a_crash_before_a_notice_is_taken_in_has_it_told_again(
    world: FleetWorld, cloud: TellingCloud
) -> None:
    def crash_at(what: str) -> None:
        if what == "call:settle":
            raise Crash

    announce(cloud)
    world.start(crash_at)
    with pytest.raises(Crash):
        world.tick()
    assert cloud.queue
    world.start()
    world.tick()
    assert not cloud.queue
    assert len(world.events("instance.preemption_notice")) == 1


def test_notices_of_others_and_of_nobody_are_settled_and_change_nothing(
    world: FleetWorld, cloud: TellingCloud
) -> None:
    cloud.queue = (Forewarning("else/i-1", 5.0, "aws-spot", "a"), Forewarning("", 0.0, "", "b"))
    report = world.tick()
    assert [one.ref for one in cloud.queue] == []
    assert (report.draining, report.errors) == ([], [])


def test_a_queue_that_does_not_answer_is_told_once_and_stops_nothing(
    world: FleetWorld, cloud: TellingCloud
) -> None:
    cloud.broken = AuthFailed("no sqs:ReceiveMessage")
    for _ in range(3):
        report = world.tick()
        assert (report.unheard, report.errors) == ({}, [])
    (told,) = world.events("provider.failing")
    assert "interruption notices" in told["message"]
    cloud.broken = None
    world.tick()
    assert len(world.events("provider.recovered")) == 1

"""An instance is over when its cloud says so, and not a moment before."""

from __future__ import annotations

from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.fleet.executor.terminate import ALERT_AFTER_SECONDS
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.store import instances
from hostler.providers.base import InstanceNotFound, Unavailable

QUICK = {"main": {"providers": ["sky"], "market": "on_demand", "instances": "0..5", "idle_timeout": "30s"}}


def idle_world(make_world: MakeWorld, clock: Clock) -> FleetWorld:
    world = make_world(make_fleet(pools=QUICK), FakeCloud("sky", clock, (make_offer(),)))
    world.task_seconds = 20
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=300)
    return world


def test_a_terminate_that_keeps_failing_is_told_once_after_ten_minutes_and_never_given_up(
    make_world: MakeWorld, clock: Clock
) -> None:
    world = idle_world(make_world, clock)
    cloud = world.clouds["sky"]
    cloud.terminate_error = Unavailable("internal error")
    world.run(ALERT_AFTER_SECONDS - 60)
    assert world.events("instance.terminate_failing") == []
    world.run(1_800, step=60)
    (told,) = world.events("instance.terminate_failing")
    assert "internal error" in told["message"]
    assert [row["state"] for row in world.rows()] == ["terminating"]
    cloud.terminate_error = None
    world.run_until(lambda: bool(world.rows("terminated")), within=200)


def test_an_accepted_terminate_is_not_the_end_while_the_cloud_still_lists_the_machine(
    make_world: MakeWorld, clock: Clock
) -> None:
    class SlowCloud(FakeCloud):
        def terminate(self, ref: str) -> None:
            self.calls.append(("terminate", ref))

    world = make_world(make_fleet(pools=QUICK), SlowCloud("sky", clock, (make_offer(),)))
    world.task_seconds = 20
    world.submit()
    world.run_until(lambda: bool(world.rows("terminating")), within=600)
    world.run(900)
    cloud = world.clouds["sky"]
    assert [row["state"] for row in world.rows()] == ["terminating"]
    assert len(cloud.asked("terminate")) > 5
    (machine,) = cloud.billed()
    cloud.end(machine.ref)
    world.tick()
    assert [row["state"] for row in world.rows()] == ["terminated"]


def test_a_cloud_that_forgets_the_ended_at_once_is_believed_after_a_later_listing(
    make_world: MakeWorld, clock: Clock
) -> None:
    world = idle_world(make_world, clock)
    world.clouds["sky"].forgets_the_ended = True
    world.run_until(lambda: world.billed == 0, within=300)
    assert [row["state"] for row in world.rows()] == ["terminating"]
    world.run_until(lambda: bool(world.rows("terminated")), within=400)


def test_a_young_machine_that_terminate_does_not_find_may_only_be_hidden(
    make_world: MakeWorld, clock: Clock
) -> None:
    class LaggingCloud(FakeCloud):
        def terminate(self, ref: str) -> None:
            if self.clock() < self.machines[ref].visible_at:
                self.calls.append(("terminate", ref))
                raise InstanceNotFound("no such instance")
            super().terminate(ref)

    cloud = LaggingCloud("sky", clock, (make_offer(),), visibility_lag_seconds=250)
    world = make_world(make_fleet(pools=QUICK), cloud)
    world.bad_boots = True
    world.submit()
    world.tick()
    (row,) = world.rows()
    world.db.write(lambda conn: instances.advance(conn, row["id"], InstanceState.TERMINATING, clock()))
    world.fleet = make_fleet(pools={"main": {**QUICK["main"], "instances": "0..1"}})
    world.run(240)
    assert world.row(row["id"])["state"] == "terminating"
    assert len(cloud.asked("launch")) == 1
    world.run_until(lambda: world.row(row["id"])["state"] == "terminated", within=200)
    assert not world.machine_of(row["id"]).is_billed()


def test_an_idle_drain_loses_against_a_lease_taken_a_moment_before(
    make_world: MakeWorld, clock: Clock
) -> None:
    world = idle_world(make_world, clock)
    (row,) = world.rows("ready")
    world.submit()
    world.agents_act()
    assert world.states()[-1] == "running"
    moved = world.db.write(
        lambda conn: instances.advance(
            conn, row["id"], InstanceState.DRAINING, clock(), reason="IDLE", idle_only=True
        )
    )
    assert not moved
    assert world.row(row["id"])["state"] == "ready"


def test_a_draining_instance_wakes_its_agent(make_world: MakeWorld, clock: Clock) -> None:
    world = idle_world(make_world, clock)
    woken: list[str] = []
    world.context.wake_agents = woken.extend
    world.run_until(lambda: bool(world.rows("draining", "terminating")), within=300)
    assert woken == [world.rows()[0]["id"]]

"""The ten stories in which autoscalers in the field lost money or work, each with what must happen instead."""

from __future__ import annotations

from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.fleet.store import instances, pools
from hostler.providers.base import InvalidConfig, Scope, Unavailable

MAIN = {"providers": ["sky"], "market": "on_demand", "instances": "0..5"}
ONE_AT_MOST = {"main": {**MAIN, "instances": "0..1"}}


def test_1_three_tasks_and_two_offers_with_limits_give_exactly_three_slots(
    make_world: MakeWorld, clock: Clock
) -> None:
    cloud = {"type": "aws", "regions": ["us-east-1"], "endpoint_url": "http://127.0.0.1:9"}
    fleet = make_fleet(
        providers={"sky": {**cloud, "max_instances": 2}, "rain": {**cloud, "max_instances": 5}},
        pools={"main": {"providers": ["sky", "rain"], "market": "on_demand", "instances": "0..10"}},
    )
    cheap = FakeCloud("sky", clock, (make_offer(usd_per_hour=1.0),))
    dear = FakeCloud("rain", clock, (make_offer(usd_per_hour=2.0, provider="rain"),))
    world = make_world(fleet, cheap, dear)
    world.submit(3)
    world.run(60)
    assert (len(cheap.asked("launch")), len(dear.asked("launch"))) == (2, 1)
    assert world.billed == 3


def test_2_an_idle_instance_that_vanishes_with_a_task_queued_is_replaced_within_one_ttl(
    world: FleetWorld,
) -> None:
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=300)
    (first,) = world.clouds["sky"].billed()
    world.run(300 - 60)  # older than any visibility lag
    world.clouds["sky"].vanish(first.ref)
    world.submit()
    took = world.run_until(lambda: len(world.clouds["sky"].asked("launch")) == 2, within=300, step=5)
    assert took <= world.fleet.daemon.lease_ttl
    world.run_until(lambda: world.states() == ["completed", "completed"], within=300)


def test_3_while_terminate_fails_for_ten_minutes_there_is_never_more_than_the_one_allowed(
    make_world: MakeWorld,
) -> None:
    world = make_world(make_fleet(pools=ONE_AT_MOST))
    cloud = world.clouds["sky"]
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=300)
    cloud.terminate_error = Unavailable("terminate does not answer")
    world.run_until(lambda: bool(world.rows("terminating")), within=900)
    world.submit()
    most = 0
    for _ in range(60):
        world.run(10)
        most = max(most, world.billed)
    assert most == 1
    assert len(cloud.asked("launch")) == 1
    cloud.terminate_error = None
    world.run_until(lambda: world.states() == ["completed", "completed"], within=400)


def test_4_a_terminate_that_fails_is_asked_again_until_the_instance_is_gone(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=300)
    cloud.terminates_to_fail = 3
    world.run_until(lambda: world.billed == 0, within=1_200)
    world.run(30)
    assert len(cloud.asked("terminate")) >= 4
    assert [row["state"] for row in world.rows()] == ["terminated"]


def test_5_an_instance_whose_boot_fails_across_a_restart_is_terminated_not_forgotten(
    world: FleetWorld,
) -> None:
    world.bad_boots = True
    world.submit()
    world.run(100)
    world.start()
    world.run_until(lambda: bool(world.rows("terminated")), within=900)
    first = world.rows("terminated")[0]
    assert first["reason"] == instances.BOOT_TIMED_OUT
    assert not world.machine_of(first["id"]).is_billed()


def test_5_an_instance_that_boots_across_a_restart_is_adopted(world: FleetWorld) -> None:
    world.clouds["sky"].boot_seconds = 120
    world.submit()
    world.run(50)
    world.start()
    world.run_until(lambda: world.states() == ["completed"], within=600)
    assert len(world.clouds["sky"].asked("launch")) == 1


def test_6_a_busy_instance_that_its_listing_no_longer_shows_is_never_killed(world: FleetWorld) -> None:
    world.task_seconds = 2_000
    world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    (machine,) = world.clouds["sky"].billed()
    machine.tagged_at = world.clock() + 1_500  # its identity is missing for a long while
    world.run(1_500)
    assert machine.is_billed()
    assert world.clouds["sky"].asked("terminate") == []
    world.run_until(lambda: world.states() == ["completed"], within=900)


def test_7_short_tasks_back_to_back_never_get_their_instance_killed_as_idle(make_world: MakeWorld) -> None:
    pools_section = {"main": {**MAIN, "instances": "0..1", "idle_timeout": "60s"}}
    world = make_world(make_fleet(pools=pools_section))
    world.task_seconds = 240
    world.submit(8)
    world.run_until(lambda: set(world.states()) == {"completed"}, within=3_000)
    assert len(world.clouds["sky"].asked("launch")) == 1
    assert world.clouds["sky"].asked("terminate") == []


def test_8_a_launch_impossible_by_config_costs_three_calls_at_most_and_the_task_says_why(
    make_world: MakeWorld, clock: Clock
) -> None:
    offers = tuple(make_offer(f"type-{n}", 1.0 + n) for n in range(10))
    cloud = FakeCloud("sky", clock, offers)
    cloud.launch_error = InvalidConfig("the image ami-0 does not exist", scope=Scope.OFFER)
    world = make_world(make_fleet(), cloud)
    tasks = world.submit(4)
    world.run(3_000)
    assert len(cloud.asked("launch")) <= 3
    for task in tasks:
        why = world.why("task", task)
        assert why["code"] == "INVALID_CONFIG"
        assert "ami-0" in str(why["rejected"])
        assert why["hint"]


def test_9_a_bootstrap_that_always_fails_is_bounded_and_protects_its_pool_until_it_is_rearmed(
    make_world: MakeWorld,
) -> None:
    world = make_world(make_fleet(daemon={"bootstrap_timeout": "2m"}))
    cloud = world.clouds["sky"]
    world.bad_boots = True
    (task,) = world.submit()
    world.run(3_600)
    launches = len(cloud.asked("launch"))
    assert launches == pools.PROTECT_AFTER_FAILED_BOOTS
    assert world.billed == 0
    assert world.why("task", task)["code"] == "POOL_PROTECTED"
    world.run(7_200, step=60)
    assert len(cloud.asked("launch")) == launches
    world.bad_boots = False
    world.db.write(lambda conn: pools.rearm(conn, "default", "main", world.clock(), actor="ann"))
    world.run_until(lambda: world.states() == ["completed"], within=2_400)


def test_10_with_no_capacity_in_offer_a_offer_b_is_asked_within_the_same_tick(
    make_world: MakeWorld, clock: Clock
) -> None:
    first, second = make_offer(zone="r1-a", usd_per_hour=1.0), make_offer(zone="r1-b", usd_per_hour=1.5)
    cloud = FakeCloud("sky", clock, (first, second))
    cloud.full.add(first.key)
    world = make_world(make_fleet(), cloud)
    (task,) = world.submit()
    report = world.tick()
    assert cloud.asked("launch") == [str(first.key), str(second.key)]
    assert len(report.launched) == 1
    why = world.why("task", task)
    assert why["code"] == "LAUNCHING"
    assert [str(first.key), "NO_CAPACITY", f"no capacity for {first.key}"] in why["rejected"]
    assert {row["zone"]: row["state"] for row in world.rows()} == {"r1-a": "terminated", "r1-b": "booting"}

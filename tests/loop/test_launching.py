"""Launch calls that go wrong in every way: one intent, at most one machine, a bounded number of calls."""

from __future__ import annotations

from collections.abc import Sequence

from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.fleet.observer.clouds import LAUNCH_MEMORY_SECONDS
from hostler.fleet.store import health
from hostler.providers.base import (
    AuthFailed,
    CloudInstance,
    InsufficientCapacity,
    LaunchRequest,
    LaunchResult,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)

LARGE_POOL = {"main": {"providers": ["sky"], "market": "on_demand", "instances": "0..50"}}


def test_a_lost_reply_is_adopted_from_the_listing_without_another_call(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    cloud.replies_to_lose = 1
    world.submit()
    report = world.tick()
    assert len(report.unconfirmed) == 1
    assert [row["state"] for row in world.rows()] == ["launching"]
    world.clock.advance(10)
    world.tick()
    assert [(row["state"], row["ref"]) for row in world.rows()] == [("booting", "sky-1")]
    assert len(cloud.asked("launch")) == 1


def test_a_lost_reply_that_no_listing_shows_yet_is_asked_again_with_the_same_token(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    cloud.replies_to_lose, cloud.visibility_lag_seconds, cloud.boot_seconds = 3, 280, 200
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=600)
    assert len(cloud.asked("launch")) == 4
    assert len(cloud.machines) == 1
    assert len(world.rows()) == 1


def test_a_retry_whose_user_data_would_differ_is_not_sent_but_found_by_its_tag(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    cloud.replies_to_lose, cloud.visibility_lag_seconds = 1, 100
    world.submit()
    world.tick()
    world.user_data_suffix = " --new-option"
    world.run_until(lambda: bool(world.rows("ready")), within=300)
    assert len(cloud.asked("launch")) == 1


def test_an_intent_older_than_its_token_is_never_sent_again_and_closed_in_the_end(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    cloud.launch_error = Unavailable("time-out", maybe_created=True)
    world.submit()
    world.tick()
    world.db.write(health.clear)
    world.clock.advance(LAUNCH_MEMORY_SECONDS)
    before = len(cloud.asked("launch"))
    cloud.launch_error = InsufficientCapacity("none")
    world.tick()
    first = world.rows()[0]
    assert first["state"] == "launching"
    assert len(cloud.asked("launch")) == before
    world.clock.advance(world.fleet.daemon.orphan_grace)
    world.tick()
    assert (world.row(first["id"])["state"], world.row(first["id"])["reason"]) == (
        "terminated",
        "NEVER_CREATED",
    )


def test_an_answer_with_an_instance_and_an_error_has_its_ref_recorded_first(
    make_world: MakeWorld, clock: Clock
) -> None:
    class PartialCloud(FakeCloud):
        def launch(self, request: LaunchRequest) -> LaunchResult:
            return LaunchResult(
                super().launch(request).instances, (InsufficientCapacity("only one was left"),)
            )

    world = make_world(make_fleet(), PartialCloud("sky", clock, (make_offer(),)))
    world.submit()
    world.tick()
    assert [(row["state"], row["ref"]) for row in world.rows()] == [("booting", "sky-1")]
    with world.db.read() as conn:
        assert [row["code"] for row in health.page(conn, "default")] == ["NO_CAPACITY"]


def test_an_adapter_that_breaks_leaves_the_intent_open_and_the_other_provider_alone(
    make_world: MakeWorld, clock: Clock
) -> None:
    class BrokenCloud(FakeCloud):
        def launch(self, request: LaunchRequest) -> LaunchResult:
            super().launch(request)
            raise KeyError("instanceId")

    broken = BrokenCloud("sky", clock, (make_offer(usd_per_hour=1.0),))
    sound = FakeCloud("rain", clock, (make_offer(usd_per_hour=2.0, provider="rain"),))
    pools = {"main": {"providers": ["sky", "rain"], "market": "on_demand", "instances": "0..5"}}
    world = make_world(make_fleet(pools=pools), broken, sound)
    world.submit(2)
    world.run(40)
    assert len(broken.billed()) == 1
    assert {row["ref"] for row in world.rows("booting", "ready") if row["provider"] == "sky"} == {"sky-1"}
    assert len(sound.billed()) == 1


def test_a_storm_of_stock_outs_asks_each_offer_once_a_probe_interval(
    make_world: MakeWorld, clock: Clock
) -> None:
    offers = tuple(make_offer(zone=f"r1-{zone}", usd_per_hour=1.0) for zone in "abc")
    cloud = FakeCloud("sky", clock, offers)
    cloud.full.update(offer.key for offer in offers)
    world = make_world(make_fleet(pools=LARGE_POOL), cloud)
    world.submit(20)
    world.run(180)
    # At 0 s, then probes after 60 s and 120 s more: three offers, at most three rounds in three minutes.
    assert len(cloud.asked("launch")) <= 9
    cloud.full.clear()
    world.run_until(lambda: world.billed == 20, within=1_200)


def test_after_a_stock_out_the_launch_budget_doubles_with_each_success(
    make_world: MakeWorld, clock: Clock
) -> None:
    cloud = FakeCloud("sky", clock, (make_offer(),))
    cloud.full.add(make_offer().key)
    world = make_world(make_fleet(pools=LARGE_POOL), cloud)
    world.submit(16)
    world.tick()
    assert len(cloud.asked("launch")) == 1
    cloud.full.clear()
    clock.advance(61)
    bought = []
    for _ in range(4):
        bought.append(len(world.tick().launched))
        clock.advance(10)
    assert bought == [1, 2, 4, 8]


def test_a_quota_that_is_used_up_holds_back_its_market_and_not_the_rest(
    make_world: MakeWorld, clock: Clock
) -> None:
    near, far = make_offer(zone="r1-a", usd_per_hour=1.0), make_offer(zone="r2-a", usd_per_hour=2.0)
    cloud = FakeCloud("sky", clock, (near, far))
    cloud.launch_errors[near.key] = QuotaExceeded("0 vCPUs left", scope=Scope.REGION)
    world = make_world(make_fleet(), cloud)
    world.submit(3)
    world.run(600)
    assert cloud.asked("launch").count(str(near.key)) == 1
    assert cloud.asked("launch").count(str(far.key)) == 3


def test_bad_credentials_are_tried_once_per_interval_and_the_task_says_how_to_mend_it(
    world: FleetWorld,
) -> None:
    cloud = world.clouds["sky"]
    cloud.launch_error = AuthFailed("the key has expired", scope=Scope.PROVIDER)
    (task,) = world.submit()
    world.run(250)
    assert len(cloud.asked("launch")) == 1
    why = world.why("task", task)
    assert (why["code"], bool(why["hint"])) == ("AUTH", True)
    assert why["next_at"] > world.clock()


def test_throttling_slows_launches_down_and_then_they_go_on(make_world: MakeWorld, clock: Clock) -> None:
    cloud = FakeCloud("sky", clock, (make_offer(),))
    cloud.launch_error = Throttled("slow down", retry_after_seconds=45)
    world = make_world(make_fleet(), cloud)
    world.submit()
    world.run(40)
    assert len(cloud.asked("launch")) == 1
    cloud.launch_error = None
    world.run_until(lambda: world.states() == ["completed"], within=300)


def test_twenty_tasks_cost_one_call_while_a_new_place_is_unproven_and_fails(
    make_world: MakeWorld, clock: Clock
) -> None:
    cloud = FakeCloud("sky", clock, (make_offer(),))
    cloud.launch_error = InsufficientCapacity("none")
    world = make_world(make_fleet(pools=LARGE_POOL), cloud)
    world.submit(20)
    world.tick()
    assert len(cloud.asked("launch")) == 1
    assert {row["state"] for row in world.rows()} == {"terminated"}


def test_the_tags_that_link_a_machine_to_its_intent_go_out_with_the_launch(world: FleetWorld) -> None:
    world.submit()
    world.tick()
    (listed,) = _listed(world)
    (row,) = world.rows()
    assert (listed.server, listed.intent, listed.tags["hostler:pool"]) == ("server-1", row["id"], "main")


def _listed(world: FleetWorld) -> Sequence[CloudInstance]:
    return world.clouds["sky"].instances()

"""What listings show and don't show: strays, other servers, vanished machines, clouds that don't answer."""

from __future__ import annotations

from fakes.cloud import Clock, FakeCloud, make_offer
from fakes.fleet_world import SERVER_ID, FleetWorld, MakeWorld, make_fleet
from hostler.fleet.store import frozen
from hostler.providers.base import TAG_INTENT, TAG_POOL, TAG_SERVER, AuthFailed, Market, Unavailable

OURS = {TAG_SERVER: SERVER_ID, TAG_POOL: "main", TAG_INTENT: "h-aaaaaaaaaaaa"}
SPOT = {"main": {"providers": ["sky"], "market": "spot", "instances": "0..5"}}
TWO = {"main": {"providers": ["sky", "rain"], "market": "on_demand", "instances": "0..5"}}


def spot_cloud(clock: Clock) -> FakeCloud:
    return FakeCloud("sky", clock, (make_offer(market=Market.SPOT),))


def test_a_stray_is_ended_only_after_it_was_seen_twice_and_is_older_than_the_grace(world: FleetWorld) -> None:
    world.tick()  # this database has met this cloud
    cloud = world.clouds["sky"]
    stray = cloud.plant("stray", OURS, make_offer())
    world.run(world.fleet.daemon.orphan_grace - 20)
    assert stray.is_billed()
    world.run(40)
    assert not stray.is_billed()
    (told,) = world.events("instance.stray")
    assert told["data"]["ref"] == "stray"


def test_an_old_stray_still_has_to_be_seen_twice(world: FleetWorld) -> None:
    world.tick()
    stray = world.clouds["sky"].plant("stray", OURS, make_offer(), launched_at=world.clock() - 10_000)
    world.tick()
    assert stray.is_billed()
    world.clock.advance(10)
    world.tick()
    assert not stray.is_billed()


def test_an_instance_of_another_server_is_never_touched(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    theirs = cloud.plant("theirs", {**OURS, TAG_SERVER: "server-2"}, make_offer())
    untagged = cloud.plant("untagged", {}, make_offer())
    world.run(3_600, step=60)
    assert theirs.is_billed()
    assert untagged.is_billed()
    assert cloud.asked("terminate") == []
    assert world.rows() == []


def test_a_second_machine_of_one_intent_is_ended_and_the_first_is_kept(world: FleetWorld) -> None:
    world.task_seconds = 3_000
    world.submit()
    world.run(60)
    cloud = world.clouds["sky"]
    (first,) = cloud.billed()
    twin = cloud.plant("twin", dict(first.request.tags), make_offer())
    world.run(world.fleet.daemon.orphan_grace + 30)
    assert first.is_billed()
    assert not twin.is_billed()


def test_a_machine_not_visible_yet_is_neither_forgotten_nor_bought_again(world: FleetWorld) -> None:
    world.clouds["sky"].visibility_lag_seconds = 290
    world.clouds["sky"].boot_seconds = 200
    world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=600)
    assert len(world.clouds["sky"].asked("launch")) == 1


def test_a_spot_machine_reclaimed_without_notice_gives_its_task_back_at_once(
    make_world: MakeWorld, clock: Clock
) -> None:
    world = make_world(make_fleet(pools=SPOT), spot_cloud(clock))
    world.task_seconds = 600
    (task,) = world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    (machine,) = world.clouds["sky"].billed()
    world.clouds["sky"].end(machine.ref, "Server.SpotInstanceTermination")
    woken: dict[str, int] = {}
    world.context.wake_queues = woken.update
    world.tick()
    row = world.task(task)
    assert (row["state"], row["preempted"]) == ("queued", 1)
    assert woken == {"default": 1}
    assert [r["reason"] for r in world.rows("terminated")] == ["RECLAIMED"]
    world.run_until(lambda: world.states() == ["completed"], within=1_200)


def test_an_on_demand_machine_that_dies_costs_the_task_no_more_than_an_infra_retry(world: FleetWorld) -> None:
    world.task_seconds = 600
    (task,) = world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    (machine,) = world.clouds["sky"].billed()
    world.clouds["sky"].end(machine.ref)
    world.tick()
    assert (world.task(task)["preempted"], world.task(task)["infra"]) == (0, 1)


def test_a_machine_whose_agent_falls_silent_is_drained_and_ended_and_its_task_runs_elsewhere(
    world: FleetWorld,
) -> None:
    world.task_seconds = 600
    world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    (machine,) = world.clouds["sky"].billed()
    world.cut_off.add(machine.ref)
    world.run_until(lambda: not machine.is_billed(), within=400)
    assert world.row(machine.token)["reason"] == "CONTACT_LOST"
    world.run_until(lambda: world.states() == ["completed"], within=1_200)


def test_nobody_is_given_up_for_silence_while_the_server_itself_was_down(world: FleetWorld) -> None:
    world.task_seconds = 5_000
    world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    world.clock.advance(1_000)
    world.start()
    world.run(200)
    assert world.states() == ["running"]
    assert len(world.clouds["sky"].asked("launch")) == 1


def test_a_cloud_that_does_not_answer_is_left_alone_and_the_other_one_is_used(
    make_world: MakeWorld, clock: Clock
) -> None:
    mute = FakeCloud("sky", clock, (make_offer(usd_per_hour=1.0),))
    sound = FakeCloud("rain", clock, (make_offer(usd_per_hour=9.0, provider="rain"),))
    mute.list_error = Unavailable("503")
    world = make_world(make_fleet(pools=TWO), mute, sound)
    world.submit()
    report = world.tick()
    assert report.unheard == {"sky": "UNAVAILABLE"}
    assert mute.asked("launch") == []
    assert len(sound.asked("launch")) == 1


def test_expired_credentials_are_told_once_and_orphan_nothing(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    world.task_seconds = 100
    world.submit()
    world.run_until(lambda: world.states() == ["running"], within=300)
    cloud.list_error = AuthFailed("token expired")
    world.run(3_000, step=30)
    assert cloud.asked("terminate") == []
    assert [event["data"]["code"] for event in world.events("provider.failing")] == ["AUTH"]
    cloud.list_error = None
    world.run_until(lambda: world.billed == 0, within=900)
    assert len(world.events("provider.recovered")) == 1
    assert len(cloud.machines) == 1


def test_a_queued_task_says_that_its_only_cloud_does_not_answer(world: FleetWorld) -> None:
    world.clouds["sky"].list_error = AuthFailed("token expired", hint="aws sso login")
    (task,) = world.submit()
    world.tick()
    assert world.why("task", task)["code"] == "AUTH"


def test_an_empty_database_imports_what_runs_and_ends_what_does_not_join(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    orphan = cloud.plant("orphan", OURS, make_offer())
    world.tick()
    (row,) = world.rows()
    assert (row["id"], row["state"], row["ref"]) == ("h-aaaaaaaaaaaa", "booting", "orphan")
    assert row["usd_per_hour"] == 1.0
    assert len(world.events("fleet.imported")) == 1
    world.run(world.fleet.daemon.bootstrap_timeout + 60)
    assert not orphan.is_billed()


def test_a_freeze_ends_when_every_cloud_has_been_compared(make_world: MakeWorld, clock: Clock) -> None:
    cloud = {"type": "aws", "regions": ["us-east-1"], "endpoint_url": "http://127.0.0.1:9"}
    sky = FakeCloud("sky", clock, (make_offer(),))
    world = make_world(make_fleet(providers={"sky": cloud}), sky)
    world.tick()
    world.db.write(lambda conn: frozen.freeze(conn, "default", "restored", clock()))
    (task,) = world.submit()
    sky.list_error = Unavailable("503")
    world.tick()
    assert world.why("task", task)["code"] == "FROZEN"
    sky.plant("older", OURS, make_offer())
    sky.list_error = None
    world.clock.advance(10)
    world.tick()
    assert world.rows()[0]["ref"] == "older"
    assert len(world.events("fleet.thawed")) == 1

"""What the simulator has found, told by hand: each of these lost money or hid a fault before it was mended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.cloud import Clock, FakeCloud
from fakes.fleet_world import FleetWorld, MakeWorld, make_fleet
from hostler.providers.base import AuthFailed, InvalidConfig, ProviderError, Throttled, Unavailable
from hostler.tracking.server.database import StorageFull

LONG = "x" * 1_000_000
ONE = {"main": {"providers": ["sky"], "market": "on_demand", "instances": "0..1"}}


def lose_the_answer(cloud: FakeCloud, lag_seconds: float) -> None:
    """The next launch buys a machine that nobody hears of and that no listing shows for a while."""
    cloud.replies_to_lose = 1
    cloud.visibility_lag_seconds = lag_seconds


def refuse_launches(cloud: FakeCloud, error: ProviderError) -> None:
    """Before anyone looks at the token, as a gateway in front of the cloud does."""

    def refuse(request: object) -> None:
        cloud.calls.append(("launch", "refused"))
        raise error

    cloud.launch = refuse  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize(
    "error", [Throttled("slow down"), AuthFailed("expired"), InvalidConfig("no image"), Unavailable("down")]
)
def test_a_repeated_launch_that_is_refused_does_not_forget_the_machine_it_bought(
    make_world: MakeWorld, error: ProviderError
) -> None:
    world = make_world(make_fleet(pools=ONE))
    cloud = world.clouds["sky"]
    lose_the_answer(cloud, lag_seconds=250)
    world.submit()
    world.tick()
    assert world.billed == 1
    refuse_launches(cloud, error)
    for _ in range(6):
        world.clock.advance(30)
        world.tick()
        assert [row["state"] for row in world.rows()] == ["launching"]
    world.clock.advance(120)
    world.tick()
    assert [row["ref"] for row in world.rows("booting")] == ["sky-1"]
    assert world.billed == 1


def test_a_repeated_launch_that_a_person_must_mend_is_not_repeated_over_and_over(world: FleetWorld) -> None:
    cloud = world.clouds["sky"]
    lose_the_answer(cloud, lag_seconds=100_000)
    world.submit()
    world.tick()
    refuse_launches(cloud, InvalidConfig("no such image"))
    world.run(3_000)
    assert len(cloud.asked("launch")) <= 3


def test_that_a_cloud_refuses_us_is_told_even_if_the_disk_was_full_at_first(
    world: FleetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.clouds["sky"].list_error = AuthFailed("the key has expired")

    def full(_work: Callable[..., object]) -> None:
        raise StorageFull("no room")

    with monkeypatch.context() as patch, pytest.raises(StorageFull):
        patch.setattr(world.db, "write", full)
        world.tick()
    world.clock.advance(10)
    world.tick()
    assert [event["data"]["code"] for event in world.events("provider.failing")] == ["AUTH"]


def test_a_clouds_endless_words_are_cut_before_they_are_stored(make_world: MakeWorld, clock: Clock) -> None:
    world = make_world(make_fleet(pools=ONE))
    cloud = world.clouds["sky"]
    cloud.launch_error = InvalidConfig(LONG)
    world.submit()
    world.tick()
    (row,) = world.rows()
    assert 0 < len(row["message"]) < 5_000
    cloud.launch_error = None
    cloud.list_error = Unavailable(LONG)
    clock.advance(10)
    world.tick()
    (event,) = world.events("provider.failing")
    assert 0 < len(event["message"]) < 5_000


def test_the_end_of_a_machine_with_endless_last_words_is_stored(world: FleetWorld) -> None:
    world.submit()
    world.tick()
    world.clock.advance(10)
    world.clouds["sky"].end("sky-1", LONG)
    world.tick()
    assert 0 < len(world.rows()[0]["message"]) < 5_000

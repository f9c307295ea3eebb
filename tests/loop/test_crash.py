"""A power cut before any single effect, and a restart: never a second machine, never a forgotten one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes.cloud import Clock
from fakes.fleet_world import Crash, FleetWorld, MakeWorld, make_fleet

POOL = {"main": {"providers": ["sky"], "market": "on_demand", "instances": "0..1", "idle_timeout": "30s"}}


def cut_at(k: int) -> tuple[Callable[[str], None], list[str]]:
    """A checkpoint that lets k effects happen and dies instead of the next one, and the names it saw."""
    seen: list[str] = []

    def checkpoint(what: str) -> None:
        seen.append(what)
        if len(seen) == k + 1:
            raise Crash(what)

    return checkpoint, seen


def live_through(world: FleetWorld) -> None:
    """One task from the queue to the end, and the fleet back to zero."""
    world.task_seconds = 20
    if not world.states():
        world.submit()
    world.run_until(lambda: world.states() == ["completed"], within=1_500, step=15)
    world.run_until(lambda: world.billed == 0 and not world.rows("terminating"), within=1_500, step=15)


def check(world: FleetWorld, died_at: str) -> None:
    cloud = world.clouds["sky"]
    assert len(cloud.machines) == 1, f"{len(cloud.machines)} machines were started; died at {died_at}"
    intents = {row["id"]: row for row in world.rows()}
    for machine in cloud.machines.values():
        assert intents[machine.token]["ref"] == machine.ref, f"a machine without its row; died at {died_at}"
    assert {row["state"] for row in intents.values()} == {"terminated"}, f"died at {died_at}"


def every_cut(make_world: MakeWorld, spoil: Callable[[FleetWorld], None]) -> set[str]:
    """Run the story once for each effect in it, cut just before that effect. Returns the names of the cuts."""
    cuts: set[str] = set()
    k = 0
    while True:
        world = make_world(make_fleet(pools=POOL))
        spoil(world)
        checkpoint, seen = cut_at(k)
        world.start(checkpoint)
        try:
            live_through(world)
        except Crash as crash:
            cuts.add(str(crash))
            world.clock.advance(5)
            world.start()
            live_through(world)
            check(world, f"effect {k}: {crash}")
            k += 1
            continue
        finally:
            world.db.close()
        check(world, "never")
        assert k == len(seen)
        return cuts


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["none", "reply-lost-and-terminate-fails", "not-visible-for-a-while"])
def test_a_crash_before_any_effect_and_a_restart_gives_exactly_one_instance(
    make_world: MakeWorld, fault: str
) -> None:
    def spoil(world: FleetWorld) -> None:
        cloud = world.clouds["sky"]
        cloud.boot_seconds = 5
        if fault == "reply-lost-and-terminate-fails":
            cloud.replies_to_lose, cloud.terminates_to_fail = 1, 1
        elif fault == "not-visible-for-a-while":
            cloud.replies_to_lose, cloud.visibility_lag_seconds = 1, 40

    cuts = every_cut(make_world, spoil)
    assert {"write:intents", "write:launching", "call:launch", "call:terminate", "write:act"} <= cuts


def test_a_crash_between_the_launch_call_and_its_record_gives_exactly_one_instance(
    make_world: MakeWorld, clock: Clock
) -> None:
    world = make_world(make_fleet(pools=POOL))

    def checkpoint(what: str) -> None:
        if what == "write:launched":
            raise Crash(what)

    world.start(checkpoint)
    world.submit()
    with pytest.raises(Crash):
        world.run(30)
    assert world.billed == 1
    assert [row["ref"] for row in world.rows()] == [None]
    world.start()
    live_through(world)
    check(world, "write:launched")

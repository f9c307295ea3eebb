"""From a queued task to an empty fleet again."""

from __future__ import annotations

from fakes.fleet_world import FleetWorld


def test_a_queued_task_is_bought_a_machine_runs_and_the_fleet_goes_back_to_zero(world: FleetWorld) -> None:
    (task,) = world.submit()
    world.run_until(lambda: world.task(task)["state"] == "completed", within=300)
    assert len(world.clouds["sky"].asked("launch")) == 1
    world.run_until(lambda: world.billed == 0, within=900)
    world.run(30)
    assert [row["state"] for row in world.rows()] == ["terminated"]
    assert world.rows()[0]["reason"] == "IDLE"

"""From an empty fleet to an empty fleet, on machines that run our user-data: only the cloud's hardware is made up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from api.serving import wait_until
from boot.aws_world import AwsWorld, aws_world

PATIENCE_SECONDS = 120.0
TRAIN = """
import os, pathlib, sys, time
import hostler

gate, stop = pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["HOSTLER_STOP_FILE"])
with hostler.init(project="boot"):
    found = hostler.restore()
    step = int(found.read_text()) if found else 0
    print(f"starting after step {step}", flush=True)
    while not gate.exists() or step < 4:
        step += 1
        hostler.log({"loss": 1 / step}, step=step)
        pathlib.Path("step.txt").write_text(str(step))
        hostler.checkpoint("step.txt", step=step)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            if stop.exists():
                sys.exit(75)
            time.sleep(0.02)
"""


def until(world: AwsWorld, condition: object) -> None:
    try:
        wait_until(condition, PATIENCE_SECONDS)  # type: ignore[arg-type]
    except AssertionError:
        raise AssertionError(world.told()) from None


@pytest.mark.slow
def test_a_task_outlives_its_machine(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with aws_world(tmp_path) as world:
        world.daemon.start()
        task_id = world.daemon.submit(
            name="boot", run=[sys.executable, "-c", TRAIN, str(gate)], resources={"cpus": 1}
        )
        until(world, lambda: _steps(world, task_id) >= 3)
        (first,) = world.machines

        first.service.interrupt(seconds=120)
        until(world, lambda: len(world.machines) == 2)
        gate.touch()
        until(world, lambda: world.daemon.get(f"tasks/{task_id}")["state"] == "completed")

        attempts = world.daemon.get(f"tasks/{task_id}/attempts")["items"]
        assert [one["outcome"] for one in attempts] == ["preempted", "completed"]
        begun = [_log(world, task_id, number).splitlines()[0] for number in (1, 2)]
        assert begun[0] == "starting after step 0"
        assert int(begun[1].removeprefix("starting after step ")) >= 3
        assert all("signed identity verified" in one for one in world.messages("instance.ready"))
        assert any("aws-spot" in one for one in world.messages("instance.preemption_notice"))

        until(world, lambda: set(world.states()) == {"terminated"})
        assert len(world.states()) == 2
        assert set(world.cloud.spot_requests.values()) == {"cancelled"}
        assert not [one for machine in world.machines for one in machine.processes()]


def _steps(world: AwsWorld, task_id: int) -> int:
    points = world.daemon.get(f"tasks/{task_id}/metrics")["items"]
    return max((one["last_step"] or 0 for one in points), default=0) if points else 0


def _log(world: AwsWorld, task_id: int, attempt: int) -> str:
    with world.daemon.client() as client:
        answer = client.get(f"/api/v1/tasks/{task_id}/logs", params={"attempt": attempt})
    assert answer.status_code == 200, answer.text
    return answer.text

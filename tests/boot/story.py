"""The story that a task and its two machines have to live through, whatever kind of machine it is."""

from __future__ import annotations

from collections.abc import Callable

from api.serving import wait_until
from boot.aws_world import AwsWorld

TRAIN = """
import os, pathlib, sys, time
import hostler

stop = pathlib.Path(os.environ["HOSTLER_STOP_FILE"])
with hostler.init(project="boot"):
    found = hostler.restore()
    step = begun = int(found.read_text()) if found else 0
    print(f"starting after step {step}", flush=True)
    while int(os.environ["HOSTLER_ATTEMPT"]) < 2 or step < begun + 4:
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


def live_through(world: AwsWorld, patience_seconds: float) -> None:
    """An empty fleet; a task; a machine that is taken back; another that goes on; an empty fleet again."""

    def until(condition: Callable[[], object]) -> None:
        try:
            wait_until(condition, patience_seconds)
        except AssertionError:
            raise AssertionError(world.told()) from None

    daemon = world.daemon
    daemon.start()
    task_id = daemon.submit(name="boot", run=["python3", "-c", TRAIN], resources={"cpus": 1})
    until(lambda: _steps(world, task_id) >= 3)
    (first,) = world.machines

    first.service.interrupt(seconds=120)
    until(lambda: daemon.get(f"tasks/{task_id}")["state"] == "completed")
    attempts = daemon.get(f"tasks/{task_id}/attempts")["items"]
    assert [one["outcome"] for one in attempts] == ["preempted", "completed"]
    begun = [_log(world, task_id, number).splitlines()[0] for number in (1, 2)]
    assert begun[0] == "starting after step 0"
    assert int(begun[1].removeprefix("starting after step ")) >= 3

    joined = world.messages("instance.ready")
    assert len(joined) == 2
    assert all("signed identity verified" in one for one in joined)
    assert any("aws-spot" in one for one in world.messages("instance.preemption_notice"))

    until(lambda: set(world.states()) == {"terminated"})
    assert len(world.states()) == 2
    until(lambda: set(world.cloud.spot_requests.values()) == {"cancelled"})
    until(lambda: not [one for machine in world.machines for one in machine.processes()])


def _steps(world: AwsWorld, task_id: int) -> int:
    metrics = world.daemon.get(f"tasks/{task_id}/metrics")["items"]
    return max((one["last_step"] or 0 for one in metrics), default=0)


def _log(world: AwsWorld, task_id: int, attempt: int) -> str:
    with world.daemon.client() as client:
        answer = client.get(f"/api/v1/tasks/{task_id}/logs", params={"attempt": attempt})
    assert answer.status_code == 200, answer.text
    return answer.text

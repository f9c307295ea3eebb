"""The demo checks what it shows: each check is a promise, and one that is broken fails the demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from daemon import Daemon, DemoFailed
from rich.console import Console
from rich.table import Table
from story import LIMIT, VICTIM_EPOCHS, Seen

METRIC = "valid/accuracy"


def check_all(daemon: Daemon, seen: Seen) -> list[str]:
    """Raises DemoFailed with the first broken promise; returns the kept ones in words."""
    return [
        _every_task_completed(seen),
        _grew_to_the_limit_and_back(seen),
        _resumed_elsewhere(daemon, seen),
        _went_on_from_the_checkpoint(daemon, seen),
        _nothing_is_left_running(daemon.state),
    ]


def print_table(daemon: Daemon, seen: Seen, console: Console) -> None:
    table = Table("task", "name", METRIC, "attempts", "ran on", "seconds", "cost $")
    for task in seen.tasks:
        attempts = daemon.items(f"tasks/{task['id']}/attempts")
        machines = " -> ".join(attempt["instance_id"] for attempt in attempts)
        table.add_row(
            str(task["id"]),
            task["name"],
            f"{_metric(daemon, task):.4f}",
            str(len(attempts)),
            machines,
            f"{task['run_seconds']:.1f}",
            f"{task['usd']:.6f}",
        )
    console.print(table)


def _metric(daemon: Daemon, task: dict[str, Any]) -> float:
    for metric in daemon.items(f"tasks/{task['id']}/metrics"):
        if metric["key"] == METRIC:
            return float(metric["last"])
    raise DemoFailed(f"task {task['id']} has no {METRIC} on record")


def _promise(kept: bool, words: str, otherwise: str) -> str:
    if not kept:
        raise DemoFailed(otherwise)
    return words


def _every_task_completed(seen: Seen) -> str:
    states = {task["name"]: task["state"] for task in seen.tasks}
    bad = {name: state for name, state in states.items() if state != "completed"}
    return _promise(not bad and len(states) >= 12, f"{len(states)} tasks completed", f"not completed: {bad}")


def _grew_to_the_limit_and_back(seen: Seen) -> str:
    states = {one["state"] for one in seen.instances}
    kept = seen.peak_instances == LIMIT and states == {"terminated"}
    words = f"the fleet went 0 -> {seen.peak_instances} -> 0 ({len(seen.instances)} instances in all)"
    return _promise(
        kept, words, f"the fleet's peak was {seen.peak_instances} of {LIMIT}, at the end: {states}"
    )


def _resumed_elsewhere(daemon: Daemon, seen: Seen) -> str:
    attempts = daemon.items(f"tasks/{seen.victim_task}/attempts")
    told = [(attempt["instance_id"], attempt["outcome"]) for attempt in attempts]
    kept = (
        len(told) >= 2
        and (seen.reclaimed, "preempted") in told
        and told[-1][0] != seen.reclaimed
        and told[-1][1] == "completed"
    )
    words = f"task {seen.victim_task} lost {seen.reclaimed} to a reclaim and finished on {told[-1][0]}"
    return _promise(kept, words, f"task {seen.victim_task} was not moved by the reclaim: {told}")


def _went_on_from_the_checkpoint(daemon: Daemon, seen: Seen) -> str:
    """Every epoch is on record once, and the second attempt began where the first one's checkpoint was."""
    whole = _steps(daemon, seen.victim_task)
    later = _steps(daemon, seen.victim_task, attempt=2)
    kept = whole == list(range(1, VICTIM_EPOCHS + 1)) and bool(later) and later[0] > VICTIM_EPOCHS // 6
    words = f"its second attempt went on at epoch {later[0] if later else '?'} of {VICTIM_EPOCHS}"
    return _promise(kept, words, f"epochs on record {whole}, of the second attempt {later}")


def _steps(daemon: Daemon, task_id: int, **query: Any) -> list[int]:
    found = daemon.get(f"tasks/{task_id}/metrics/points", key=METRIC, **query)
    return [int(point["step"]) for point in found["points"]]


def _nothing_is_left_running(state: Path) -> str:
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"HOSTLER_HOME={state}".encode() in environ and process.name != str(os.getpid()):
            left.append(process.name)
    return _promise(not left, "no process of the fleet is left", f"processes {left} are left")

"""What happens in the demo: submit, watch the fleet grow, take a machine away in mid-task, watch it shrink."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon import Daemon, DemoFailed
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EXAMPLES = Path(__file__).parent.parent
LIMIT = 3
"""Instances at most; fleet.yaml says so too, and the demo checks that it was reached and never passed."""
VICTIM = "digits-long"
VICTIM_EPOCHS = 60
EPOCH_SECONDS = "0.3"
NOTICE = "3s"
PATIENCE_SECONDS = 170.0
TERMINAL = {"completed", "failed", "stopped", "dead"}
COLOURS = {"completed": "green", "running": "cyan", "leased": "cyan", "failed": "red", "dead": "red"}


@dataclass
class Seen:
    """What the demo saw with its own eyes, for `checks`."""

    task_ids: list[int] = field(default_factory=list)
    peak_instances: int = 0
    reclaimed: str = ""
    seconds: float = 0.0
    instances: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def victim_task(self) -> int:
        return self.task_ids[0]


def tell(daemon: Daemon, console: Console) -> Seen:
    """Submit twelve trainings through the CLI and watch the fleet go from nothing to its limit and back to nothing."""
    seen = Seen()
    with ThreadPoolExecutor(1) as background, Live(console=console, refresh_per_second=4) as live:
        submitting = background.submit(_submit_all, daemon, seen, console)
        _watch(daemon, seen, live, submitting)
    return seen


def _submit_all(daemon: Daemon, seen: Seen, console: Console) -> None:
    """The first is the long one that will lose its machine."""
    for name, program, words in _trainings():
        spec = str(EXAMPLES / f"train_{program}.task.yaml")
        command = ("python", f"train_{program}.py", *words)
        out = daemon.cli("submit", "-f", spec, "--name", name, "-o", "json", "--", *command)
        seen.task_ids.append(int(json.loads(out)["id"]))
        console.print(
            f"hostler submit -f train_{program}.task.yaml --name {name:<11} -> task {seen.task_ids[-1]}"
        )


def _trainings() -> list[tuple[str, str, list[str]]]:
    pace = ["--epoch-seconds", EPOCH_SECONDS]
    wanted = [(VICTIM, "digits", ["--epochs", str(VICTIM_EPOCHS), "--hidden", "48", *pace])]
    for hidden, lr in (
        (16, "0.003"),
        (32, "0.005"),
        (48, "0.005"),
        (64, "0.01"),
        (96, "0.003"),
        (128, "0.001"),
    ):
        words = ["--epochs", "10", "--hidden", str(hidden), "--lr", lr, *pace]
        wanted.append((f"digits-{hidden}", "digits", words))
    for depth, lr in ((1, "0.3"), (2, "0.1"), (2, "0.3"), (3, "0.1"), (3, "0.3")):
        words = ["--rounds", "10", "--depth", str(depth), "--lr", lr, "--round-seconds", EPOCH_SECONDS]
        wanted.append((f"wine-{depth}-{lr}", "wine", words))
    return wanted


def _watch(daemon: Daemon, seen: Seen, live: Live, submitting: Future[None]) -> None:
    began = time.monotonic()
    while True:
        seen.seconds = time.monotonic() - began
        seen.tasks = sorted(daemon.items("tasks", limit=100), key=lambda task: task["id"])
        seen.instances = daemon.items("instances", limit=100)
        alive = [one for one in seen.instances if one["state"] != "terminated"]
        seen.peak_instances = max(seen.peak_instances, len(alive))
        if not seen.reclaimed and seen.task_ids:
            _reclaim_when_due(daemon, seen)
        live.update(_screen(seen, alive))
        if submitting.done():
            submitting.result()
            if all(task["state"] in TERMINAL for task in seen.tasks) and not alive:
                return
        if seen.seconds > PATIENCE_SECONDS:
            raise DemoFailed(f"not done after {PATIENCE_SECONDS:.0f} s; the daemon's log: {daemon.log}")
        time.sleep(0.4)


def _reclaim_when_due(daemon: Daemon, seen: Seen) -> None:
    """Once the long task has published a few checkpoints, its spot machine is taken back."""
    task = next((one for one in seen.tasks if one["id"] == seen.victim_task), None)
    if task is None or task["state"] != "running":
        return
    steps = [one["step"] for one in daemon.items(f"tasks/{task['id']}/artifacts", type="checkpoint")]
    if steps and max(steps) >= VICTIM_EPOCHS // 6:
        daemon.cli("reclaim", task["instance_id"], "--notice", NOTICE)
        seen.reclaimed = str(task["instance_id"])


def _screen(seen: Seen, alive: list[dict[str, Any]]) -> Group:
    fleet = Text("fleet  ")
    for one in alive:
        label = one["state"] if one["id"] != seen.reclaimed else f"{one['state']} (spot reclaim)"
        fleet.append(
            f" {one['id']} {label} ", style="reverse red" if one["id"] == seen.reclaimed else "reverse"
        )
        fleet.append(" ")
    if not alive:
        fleet.append("no instances", style="dim")
    counts = Counter(task["state"] for task in seen.tasks)
    words = "  ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    bar = ProgressBar(total=len(_trainings()), completed=counts["completed"], width=40)
    table = Table("task", "name", "state", "attempt", "instance", box=None, pad_edge=False)
    for task in seen.tasks:
        state = Text(task["state"], style=COLOURS.get(task["state"], ""))
        table.add_row(str(task["id"]), task["name"], state, str(task["attempt"]), task["instance_id"] or "")
    return Group(Text(f"{seen.seconds:5.1f} s  {words}"), bar, fleet, table)

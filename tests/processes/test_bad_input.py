"""Bad input to a running daemon: a clear error, and not one row changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from api.daemons import DaemonProcess
from api.serving import wait_until
from processes.fleets import fleet, fleet_yaml
from processes.ledger import Ledger

pytestmark = pytest.mark.slow

JSON = "application/json"
BIG = 80 * 1024
"""Bytes; the fleet's `max_body` is 64 KiB."""
CLI = [sys.executable, "-c", "from hostler.fleet.cli import main; main()"]


@dataclass(frozen=True)
class Bad:
    """A request, and the status and words that its answer must have."""

    name: str
    path: str
    body: bytes
    status: int
    words: tuple[str, ...]
    kind: str = JSON


def task(**spec: object) -> bytes:
    return json.dumps({"spec": spec}).encode()


BAD_REQUESTS = (
    Bad("not json", "tasks", b'{"spec": {', 422, ("JSON",)),
    Bad("not an object", "tasks", b"[1, 2]", 422, ()),
    Bad("no spec", "tasks", b"{}", 422, ("spec",)),
    Bad("no command", "tasks", task(name="x"), 422, ("run",)),
    Bad("a misspelt key", "tasks", task(run=["true"], resorces={"cpu": 1}), 422, ("resorces", "resources")),
    Bad("a bad value", "tasks", task(run=["true"], resources={"cpu": "many"}), 422, ("spec.resources.cpu",)),
    Bad("a bad budget", "tasks", task(run=["true"], retry={"error": -1}), 422, ("spec.retry.error",)),
    Bad("an unknown queue", "tasks", task(run=["true"], queue="defualt"), 422, ("defualt", "default")),
    Bad(
        "code nobody sent",
        "tasks",
        json.dumps({"spec": {"run": ["true"]}, "code_digest": "0" * 64}).encode(),
        422,
        (),
    ),
    Bad("an oversize task", "tasks", task(run=["echo", "y" * BIG]), 413, ()),
    Bad("yaml that is none", "config", b"version: [", 422, (":1:",), "text/yaml"),
    Bad(
        "an unknown key of fleet.yaml",
        "config",
        b"version: 1\npoools: {}\n",
        422,
        (":2:1", "pools"),
        "text/yaml",
    ),
    Bad("a fleet without its parts", "config", b"version: 1\n", 422, (), "text/yaml"),
    Bad("an oversize fleet.yaml", "config", b"#" * BIG, 413, (), "text/yaml"),
    Bad("a task that is not there", "tasks/4711/stop", b"", 404, ("4711",)),
    Bad("an instance that is not there", "instances/h-nothing/drain", b"", 404, ("h-nothing",)),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DaemonProcess, Ledger]]:
    with fleet(tmp_path_factory.mktemp("bad_input"), fleet_yaml()) as (daemon, ledger):
        daemon.start()
        held = daemon.submit(run=["sleep", "1000"], name="bystander")
        daemon.wait_for_state(held, "running")
        yield daemon, ledger


def standing(ledger: Ledger) -> tuple[object, ...]:
    """All that a request could have changed. Signs of life and the loop's own notes come and go by themselves."""
    counts = {
        name: count for name, count in ledger.counts().items() if name not in ("decisions", "log_chunks")
    }
    tasks = ledger.rows("SELECT id, uid, state, version, attempt, spec, tags FROM tasks")
    return counts, tasks, ledger.rows("SELECT id, state, version FROM instances")


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=lambda bad: bad.name)
def test_a_bad_request_is_told_what_is_wrong_and_changes_nothing(
    running: tuple[DaemonProcess, Ledger], bad: Bad
) -> None:
    daemon, ledger = running
    before, config = standing(ledger), daemon.get("config")
    with daemon.client() as client:
        headers = {"Content-Type": bad.kind, "Idempotency-Key": f"bad-{bad.name}"}
        answer = client.post(f"/api/v1/{bad.path}", content=bad.body, headers=headers)
    assert answer.status_code == bad.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] and problem["title"]
    assert all(word in answer.text for word in bad.words), answer.text
    assert standing(ledger) == before
    assert daemon.get("config") == config


def test_an_oversize_body_of_unknown_length_is_cut_off_and_changes_nothing(
    running: tuple[DaemonProcess, Ledger],
) -> None:
    daemon, ledger = running
    before = standing(ledger)

    def endless() -> Iterator[bytes]:
        yield b'{"spec": {"run": ["true"], "name": "'
        for _ in range(64):
            yield b"x" * (BIG // 16)

    with daemon.client() as client:
        answer = client.post("/api/v1/tasks", content=endless(), headers={"Content-Type": JSON})
    assert answer.status_code == 413, answer.text
    assert standing(ledger) == before


def test_a_bad_task_file_is_refused_with_its_place_before_anything_is_sent(
    running: tuple[DaemonProcess, Ledger], tmp_path: Path
) -> None:
    daemon, ledger = running
    before = standing(ledger)
    file = tmp_path / "bad.task.yaml"
    file.write_text("run: [python, train.py]\nresources:\n  gpus: 1\n")
    done = subprocess.run(
        [*CLI, "submit", "-f", str(file)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"HOSTLER_CLIENT_FILE": str(daemon.client_file)},
    )
    assert done.returncode != 0
    assert "bad.task.yaml:3:3" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert standing(ledger) == before


def test_a_bad_fleet_file_keeps_the_old_one_at_sighup_and_refuses_the_next_start(tmp_path: Path) -> None:
    with fleet(tmp_path, fleet_yaml()) as (daemon, ledger):
        daemon.start()
        wait_until(lambda: ledger.counts()["offers"] > 0)  # the first look at the clouds is written down
        before, config = standing(ledger), daemon.get("config")["config"]
        file = tmp_path / "fleet.yaml"
        good = file.read_text()
        file.write_text(good.replace("idle_timeout: 1s", "idle_timeout: soon"))
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "config.refused" in daemon.log())
        assert "idle_timeout" in daemon.log()
        assert daemon.get("config")["config"] == config
        assert standing(ledger) == before
        assert daemon.stop() == 0
        rows = ledger.counts()
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(30.0) == 2
        line = 1 + next(n for n, text in enumerate(good.splitlines()) if "idle_timeout" in text)
        assert f"fleet.yaml:{line}:" in daemon.log()
        assert ledger.counts() == rows
        file.write_text(good)
        daemon.start()
        assert daemon.get("config")["config"] == config

"""The fleet from the command line, on a real daemon."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli.calling import Daemon, call, eventually, start

pytestmark = pytest.mark.usefixtures("daemon")


@pytest.fixture
def impossible() -> int:
    return int(call("submit", "--cpus", "64", "--name", "huge", "--", "true").out)


def test_explain_says_why_a_task_waits_and_what_to_do(impossible: int) -> None:
    eventually(lambda: "[NO_MATCHING_OFFER]" in call("explain", "task", impossible).out)
    lines = call("explain", "task", impossible).out.splitlines()
    assert lines[0].startswith(f"task {impossible} QUEUED ")
    assert lines[0].endswith("[NO_MATCHING_OFFER]")
    offers = [line for line in lines[1:] if line.startswith("  here/local/small/")]
    assert len(offers) == 2
    assert all("TOO_SMALL" in line for line in offers)
    assert lines[-1].startswith("  hint: ")
    told = call("explain", "task", impossible, "-o", "json").json
    assert told["decision"]["code"] == "NO_MATCHING_OFFER"
    queue = call("explain", "queue", "default").out
    assert "[NO_MATCHING_OFFER] 1 task" in queue
    call("stop", impossible)
    assert call("explain", "task", impossible).out.startswith(f"task {impossible} STOPPED")


@pytest.mark.slow
def test_an_instance_is_explained_drained_and_gone() -> None:
    assert call("run", "--", "true").code == 0
    instance = call("instances", "-o", "json").json[0]["id"]
    eventually(lambda: "[" in call("explain", "instance", instance).out.splitlines()[0])
    assert call("explain", "instance", instance).out.startswith(f"instance {instance} READY ")
    assert instance in call("instances", "show", instance).out
    done = call("drain", instance, "--wait", "--timeout", "30s", "-o", "json")
    assert done.code == 0, done.err
    assert done.json[0]["state"] == "terminated"
    assert instance not in call("instances").out
    assert instance in call("instances", "--all").out
    assert call("drain", "h-none").code == 3


@pytest.mark.slow
def test_an_instance_is_reclaimed_and_its_task_goes_on_elsewhere() -> None:
    script = "test $HOSTLER_ATTEMPT = 2 || sleep 60"
    task = int(call("submit", "--", "sh", "-c", script).out)
    running = eventually(
        lambda: [one for one in call("ps", "--state", "running", "-o", "json").json if one["id"] == task]
    )
    assert call("reclaim", running[0]["instance_id"], "--notice", "1s").code == 0
    assert call("wait", task, "--timeout", "40s").code == 0
    assert call("show", task, "-o", "json").json["preempted"] == 1


def test_the_overviews_are_printed_for_people_and_programs() -> None:
    for command, word in (
        ("status", "daemon"),
        ("queues", "default"),
        ("pools", "local"),
        ("offers", "small"),
    ):
        assert word in call(command).out
        assert call(command, "-o", "json").json
    assert call("status", "-o", "json").json["loop"]["ok"]
    assert call("pools", "rearm", "local").out == "pool local was not protected; nothing changed\n"
    assert call("pools", "rearm", "nope").code == 3
    assert "local" in call("explain", "pool", "local").out


def test_offers_are_chosen_by_gpu_and_sorted_by_price() -> None:
    assert [one["market"] for one in call("offers", "-o", "json").json] == ["spot", "on_demand"]
    assert call("offers", "--gpu", "A10G", "-o", "json").json == []
    assert call("offers", "--gpu", "no such thing:x").code == 2


def test_events_come_oldest_first_and_by_kind(impossible: int) -> None:
    call("stop", impossible)
    found = call("events", "--task", impossible, "-o", "json").json
    assert [one["kind"] for one in found] == ["task.queued", "task.stopped"]
    only = call("events", "--task", impossible, "--kind", "task.stopped", "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["kind"] for line in only] == ["task.stopped"]


def test_events_are_followed_as_they_come(impossible: int) -> None:
    process = start("events", "-f", "--task", impossible, "-o", "json")
    try:
        assert json.loads(process.stdout.readline())["kind"] == "task.queued"
        call("stop", impossible)
        assert json.loads(process.stdout.readline())["kind"] == "task.stopped"
    finally:
        process.kill()
        process.communicate()


def test_doctor_looks_at_the_daemon_and_its_providers(daemon: Daemon) -> None:
    done = call("doctor", "-o", "json")
    subjects = {one["subject"] for one in done.json["checks"]}
    assert subjects == {"daemon", "here"}
    assert done.code == (0 if done.json["ok"] else 1)
    assert {one["subject"] for one in call("doctor", "--provider", "here", "-o", "json").json["checks"]} == {
        "here"
    }
    assert call("doctor", "--provider", "nope").code == 3
    before = sorted(daemon.folder.iterdir())
    assert call("doctor", "--config", daemon.config).code == 0
    assert sorted(daemon.folder.iterdir()) == before


def test_apply_shows_differences_and_puts_them_in_force(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(daemon.config.read_text().replace("idle_timeout: 5m", "idle_timeout: 6m"))
    wanted = "~ pools.local.idle_timeout: 5m -> 6m\n"
    assert call("apply", "--dry-run", file).out == wanted
    assert call("apply", file).out == wanted
    assert "idle_timeout: 6m" in call("config", "show").out
    assert call("apply", file).err == "no differences\n"
    assert call("apply", daemon.config).code == 0


def test_an_invalid_fleet_file_is_refused_by_line_and_column(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(daemon.config.read_text().replace("idle_timeout: 5m", "idle_timeout: 5"))
    before = call("config", "show").out
    done = call("apply", file)
    line = (
        file.read_text()
        .splitlines()
        .index(next(one for one in file.read_text().splitlines() if "idle_timeout" in one))
    )
    assert done.code == 2
    assert f"{file}:{line + 1}:" in done.err
    assert "has no unit" in done.err
    assert call("config", "show").out == before
    assert call("config", "check", file).code == 2
    assert call("apply", "--dry-run", file).code == 2


def test_the_token_is_found_and_private(daemon: Daemon) -> None:
    path = Path(call("token", "path").out.strip())
    assert path.stat().st_mode & 0o077 == 0
    assert call("token", "show").out == path.read_text().strip() + "\n"


def test_a_watched_view_is_printed_again_until_ctrl_c() -> None:
    process = start("status", "--watch", "--interval", "100ms")
    heads = 0
    while heads < 3:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        heads += line.startswith("daemon ")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0

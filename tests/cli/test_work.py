"""Tasks from the command line, on a real daemon with real agents."""

from __future__ import annotations

import json
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.calling import Daemon, call, eventually, start

pytestmark = pytest.mark.usefixtures("daemon")
IMPOSSIBLE = ("--cpus", "64")
"""Waits for ever: no offer of the fleet holds it."""


def submitted(*arguments: object) -> int:
    done = call("submit", *arguments)
    assert done.code == 0, done.err
    return int(done.out)


def state_of(task_id: int) -> str:
    return str(call("show", task_id, "-o", "json").json["state"])


def test_run_prints_the_log_and_ends_with_the_tasks_own_code() -> None:
    done = call("run", "--retry-error", "0", "--", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7")
    assert done.code == 7
    assert sorted(done.out.splitlines()) == ["to stderr", "to stdout"]
    assert "failed (exit 7)" in done.err


def test_run_of_a_task_that_completes_ends_with_zero() -> None:
    done = call("run", "echo one line of shell; true")
    assert (done.code, done.out) == (0, "one line of shell\n")


def test_run_with_json_keeps_stdout_for_the_task() -> None:
    done = call("run", "-o", "json", "--name", "quiet", "--", "echo", "hello")
    assert done.json["state"] == "completed"
    assert "hello" in done.err


def test_options_after_the_commands_first_word_are_the_commands() -> None:
    assert call("run", "echo", "--name", "-n").out == "--name -n\n"


def test_the_same_uid_is_the_same_task() -> None:
    first, again = (submitted("--uid", "once", *IMPOSSIBLE, "--", "true") for _ in range(2))
    assert first == again
    assert call("stop", first).code == 0


def test_code_is_sent_along_and_found_by_the_task(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import part\nprint(part.VALUE)\n")
    (tmp_path / "part.py").write_text("VALUE = 42\n")
    (tmp_path / "task.yaml").write_text("run: [python, train.py]\ncode: {git: .}\n")
    done = call("run", "-f", tmp_path / "task.yaml")
    assert (done.code, done.out) == (0, "42\n")


def test_a_script_that_is_not_sent_along_is_told(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.touch()
    done = start("submit", *IMPOSSIBLE, "--", "python", "train.py", cwd=tmp_path)
    out, err = done.communicate(timeout=30)
    assert "train.py is not sent along; add --code ." in err
    call("stop", int(out))


def test_logs_are_followed_across_a_requeue() -> None:
    script = "echo attempt $HOSTLER_ATTEMPT; test $HOSTLER_ATTEMPT = 2 || exit 75"
    task_id = submitted("--", "sh", "-c", script)
    done = call("logs", "-f", "--attempt", "1", task_id)
    assert done.code == 0
    assert done.out == "attempt 1\nattempt 2\n"
    assert "--- attempt 2 ---" in done.err
    assert call("logs", task_id).out == "attempt 2\n"
    assert call("logs", "--attempt", "1", task_id).out == "attempt 1\n"


def test_logs_can_begin_with_the_last_lines() -> None:
    task_id = submitted("--", "seq", "100")
    assert call("wait", task_id).code == 0
    assert call("logs", "--tail", "2", task_id).out == "99\n100\n"
    assert call("logs", "-f", "-n", "3", task_id).out == "98\n99\n100\n"
    assert len(call("logs", task_id).out.splitlines()) == 100


def test_metrics_and_artifacts_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import hostler\n"
        "run = hostler.init(project='vision', config={'lr': 0.1})\n"
        "for step in range(5): hostler.log({'loss': 1 / (step + 1)}, step=step)\n"
        "open('model.txt', 'w').write('weights')\n"
        "hostler.log_artifact('model.txt', name='models/best.txt')\n"
    )
    done = call("run", "--code", tmp_path, "--", sys.executable, "train.py")
    assert done.code == 0, done.out + done.err
    task_id = call("ps", "--all", "--limit", "1", "-o", "json").json[0]["id"]
    [loss] = [one for one in call("metrics", task_id, "-o", "json").json if one["key"] == "loss"]
    assert (loss["last"], loss["count"]) == (0.2, 5)
    points = call("metrics", task_id, "loss", "-o", "json").json["points"]
    assert [one["step"] for one in points] == [0, 1, 2, 3, 4]
    assert "models/best.txt" in call("artifacts", task_id).out
    got = call("artifacts", task_id, "--download", "models/best.txt", "--to", tmp_path / "got")
    assert got.out.strip() == str(tmp_path / "got/models/best.txt")
    assert (tmp_path / "got/models/best.txt").read_text() == "weights"
    assert [path.name for path in (tmp_path / "got/models").iterdir()] == ["best.txt"]
    shown = call("show", task_id).out
    assert "loss" in shown
    assert "models/best.txt" in shown
    assert "lr" in shown


def test_a_downloads_name_that_is_not_there_is_not_found() -> None:
    task_id = submitted(*IMPOSSIBLE, "--", "true")
    done = call("artifacts", task_id, "--download", "nothing")
    assert done.code == 3
    call("stop", task_id)


def test_waiting_no_longer_than_asked_is_code_8() -> None:
    task_id = submitted(*IMPOSSIBLE, "--", "true")
    done = call("wait", task_id, "--timeout", "300ms")
    assert done.code == 8
    assert f"task {task_id} is still queued" in done.err
    assert state_of(task_id) == "queued"
    assert call("stop", task_id).code == 0
    assert call("wait", task_id).code == 1


def test_run_gives_up_waiting_with_code_8_and_leaves_the_task() -> None:
    done = call("run", *IMPOSSIBLE, "--wait-timeout", "500ms", "--", "true")
    assert done.code == 8
    [task] = call("ps", "--state", "queued", "-o", "json").json
    assert f"hostler stop {task['id']}" in done.err
    call("stop", task["id"])


def test_ctrl_c_leaves_the_task_running_and_says_how_to_stop_it() -> None:
    process = start("run", "--name", "patient", "--", "sh", "-c", "echo began; exec sleep 60")
    assert process.stdout.readline() == "began\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    [task] = call("ps", "--name", "patient", "-o", "json").json
    assert f"hostler stop {task['id']}" in err
    assert task["state"] == "running"
    assert call("stop", task["id"]).code == 0
    eventually(lambda: state_of(task["id"]) == "stopped")


def test_a_finished_task_runs_once_more_and_an_unfinished_one_conflicts() -> None:
    task_id = submitted("--", "true")
    assert call("wait", task_id).code == 0
    assert call("requeue", task_id, "-o", "json").json[0]["state"] == "queued"
    assert call("wait", task_id).code == 0
    running = submitted("--", "sleep", "60")
    eventually(lambda: state_of(running) == "running")
    assert call("requeue", running).code == 5
    assert call("stop", running).code == 0
    eventually(lambda: state_of(running) == "stopped")


def test_stop_goes_on_past_a_task_that_is_not_there() -> None:
    task_id = submitted(*IMPOSSIBLE, "--", "true")
    done = call("stop", 987654, task_id)
    assert done.code == 3
    assert "There is no task 987654" in done.err
    assert state_of(task_id) == "stopped"


@pytest.fixture
def listed() -> Iterator[tuple[str, list[int]]]:
    """A tag and the ids of three waiting tasks with it."""
    tag = uuid.uuid4().hex
    ids = [submitted("--name", f"n{n}", "--tag", tag, *IMPOSSIBLE, "--", "true") for n in range(3)]
    yield tag, ids
    call("stop", *ids)


def test_ps_prints_what_programs_read(listed: tuple[str, list[int]]) -> None:
    from ruamel.yaml import YAML

    tag, ids = listed
    newest_first = ids[::-1]
    assert [one["id"] for one in call("ps", "-t", tag, "-o", "json").json] == newest_first
    lines = call("ps", "-t", tag, "-o", "jsonl").out.splitlines()
    assert [json.loads(one)["id"] for one in lines] == newest_first
    yaml = YAML(typ="safe").load(call("ps", "-t", tag, "-o", "yaml").out)
    assert [one["id"] for one in yaml] == newest_first


def test_ps_shows_unfinished_tasks_in_a_plain_table(listed: tuple[str, list[int]]) -> None:
    tag, ids = listed
    done = call("ps", "--tag", tag)
    head, *rows = done.out.splitlines()
    assert head.split()[:5] == ["ID", "NAME", "QUEUE", "STATE", "WHY"]
    assert [row.split()[1] for row in rows] == ["n2", "n1", "n0"]
    assert "\x1b" not in done.out
    assert call("ps", "--tag", tag, "--limit", "2").err == "the newest 2 are shown; --limit 0 shows all\n"
    call("stop", ids[0])
    assert len(call("ps", "--tag", tag, "-o", "json").json) == 2
    assert len(call("tasks", "--tag", tag, "-o", "json").json) == 3


def test_environment_and_overrides_reach_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "taken")
    file = tmp_path / "task.yaml"
    file.write_text("name: filed\nrun: [echo, no]\nenviron: {A: file, B: file}\ntags: [one]\n")
    done = call(
        "run",
        "-f",
        file,
        "-e",
        "A=option",
        "-e",
        "FROM_HERE",
        "-t",
        "two",
        "--",
        "sh",
        "-c",
        "echo $A $B $FROM_HERE",
    )
    assert done.out == "option file taken\n"
    [task] = call("ps", "-a", "-n", "1", "-o", "json").json
    assert (task["name"], task["tags"]) == ("filed", ["one", "two"])


def test_a_token_that_is_not_known_is_code_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTLER_TOKEN", "wrong")
    done = call("ps")
    assert done.code == 4
    assert "hostler token path" in done.err


def test_a_task_that_is_not_there_is_code_3_in_words_and_in_json() -> None:
    done = call("show", 987654)
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines()[0] == "error: There is no task 987654"
    assert "hint: `hostler ps --all` lists them" in done.err
    problem = json.loads(call("show", 987654, "-o", "json").err)
    assert (problem["code"], problem["status"], problem["exit_code"]) == ("NOT_FOUND", 404, 3)
    assert call("logs", 987654).code == 3
    assert call("logs", "-f", 987654).code == 3


def test_an_unknown_queue_is_refused_with_the_known_ones() -> None:
    done = call("submit", "-q", "defualt", "--", "true")
    assert done.code == 2
    assert "default" in done.err


def test_an_invalid_task_file_is_told_by_line_and_nothing_is_queued(tmp_path: Path, daemon: Daemon) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("run: [python, train.py]\nresources:\n  memory: 32\n  gqu: A10G\n")
    before = call("tasks", "-n", "1", "-o", "json").out
    done = call("submit", "-f", file)
    assert done.code == 2
    assert f"{file}:3:11: resources.memory" in done.err or f"{file}:3:3: resources.memory" in done.err
    assert f"{file}:4:3: resources.gqu" in done.err
    assert call("tasks", "-n", "1", "-o", "json").out == before


def test_a_run_recorded_offline_is_carried_to_the_server_once(tmp_path: Path) -> None:
    import subprocess

    code = "import hostler\nwith hostler.init(project='p', name='away'): hostler.log({'acc': 0.5}, step=1)"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOSTLER_MODE": "offline", "HOME": str(tmp_path)},
    )
    runs = tmp_path / ".hostler" / "runs"
    first, again = (call("sync", runs, "-o", "json") for _ in range(2))
    assert first.code == 0, first.err
    assert [one["task_id"] for one in first.json] == [one["task_id"] for one in again.json]
    task_id = first.json[0]["task_id"]
    [metric] = call("metrics", task_id, "-o", "json").json
    assert (metric["key"], metric["last"], metric["count"]) == ("acc", 0.5, 1)

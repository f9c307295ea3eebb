"""Real agent processes against a real HTTP server: from joining to a recorded result."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable

import pytest
from agent.agent_process import AgentProcess
from agent.test_package import interpreter
from agent.wire_server import WireServer

Serve = Callable[..., WireServer]
Launch = Callable[..., AgentProcess]

WRITE_RECORDS = """
import hashlib, os
from hostler.tracking.journal import Writer
writer = Writer(os.path.join(os.environ["HOSTLER_OUT"], "journal"))
writer.append(["m", 1, 0.5, {"loss": 0.25}, None])
data = b"weights" * 100000
digest = hashlib.sha256(data).hexdigest()
spool = os.path.join(os.environ["HOSTLER_OUT"], "spool")
os.makedirs(spool, exist_ok=True)
with open(os.path.join(spool, digest), "wb") as file:
    file.write(data)
writer.append(["a", {"name": "checkpoint", "type": "checkpoint", "digest": digest, "size": len(data), "step": 1}])
"""


def archive_of(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "/") + ".py")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_it_joins_with_what_the_machine_has_and_burns_its_token(serve: Serve, launch: Launch) -> None:
    server = serve()
    agent = launch(server, gpus=2)
    server.wait_for(lambda: server.beats)
    inventory = server.joins[0]["inventory"]
    assert inventory["cpus"] == 4
    assert [gpu["uuid"] for gpu in inventory["gpus"]] == ["GPU-0", "GPU-1"]
    assert not (agent.home / "join-token").exists()
    assert (agent.home / "credential").stat().st_mode & 0o777 == 0o600


def test_a_task_runs_and_its_log_metrics_and_checkpoint_are_there_before_its_result(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    task = server.submit(["python", "train.py"], code=archive_of(train=WRITE_RECORDS + "print('trained')"))
    launch(server)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert task.result["outcome"] == "completed", task.log
    assert bytes(task.log) == b"trained\n"
    assert ["m", 1, 0.5, {"loss": 0.25}, None] in task.records
    assert task.artifacts_when_finished == 1
    assert server.blobs[task.artifacts[0]["digest"]] == b"weights" * 100000


def test_the_oldest_python_does_the_same(serve: Serve, launch: Launch) -> None:
    python = interpreter("3.9")
    if python is None:
        pytest.skip("no Python 3.9 on this machine")
    server = serve()
    task = server.submit([python, "train.py"], code=archive_of(train=WRITE_RECORDS + "print('trained')"))
    launch(server, python=python)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert task.result["outcome"] == "completed", task.log
    assert task.artifacts_when_finished == 1
    assert ["m", 1, 0.5, {"loss": 0.25}, None] in task.records


def test_output_arrives_while_the_task_still_runs(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit("echo first; sleep 60")
    launch(server)
    server.wait_for(lambda: b"first\n" in task.log)
    assert task.state == "running"


def test_the_environment_is_the_contract_and_none_of_the_agents_own(serve: Serve, launch: Launch) -> None:
    server = serve()
    code = archive_of(show="import json, os; print(json.dumps(dict(os.environ)))")
    task = server.submit(
        ["python", "show.py"], code=code, environ={"MINE": "x y", "HOSTLER_URL": "http://evil"}
    )
    agent = launch(server, gpus=1)
    server.wait_for(lambda: task.result)
    environ = json.loads(bytes(task.log))
    folder = agent.home / "tasks" / "1-1"
    assert environ["HOSTLER_TASK_ID"] == "1"
    assert environ["HOSTLER_ATTEMPT"] == "1"
    assert environ["HOSTLER_GENERATION"] == "1"
    assert environ["HOSTLER_URL"] == server.url
    assert environ["HOSTLER_STOP_FILE"] == str(folder / "stop.json")
    assert environ["HOSTLER_OUT"] == str(folder / "out")
    assert environ["MINE"] == "x y"
    assert environ["PYTHONUNBUFFERED"] == "1"
    assert environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not {"HOSTLER_HOME", "HOSTLER_INVENTORY", "HOSTLER_LOCAL"} & environ.keys()


def test_tasks_side_by_side_get_gpus_of_their_own(serve: Serve, launch: Launch) -> None:
    server = serve()
    tasks = [server.submit("echo $CUDA_VISIBLE_DEVICES; sleep 60", gpu_count=1.0) for _ in range(2)]
    waiting = server.submit("echo none left", gpu_count=1.0)
    launch(server, gpus=2)
    server.wait_for(lambda: all(task.log for task in tasks))
    assert {bytes(task.log) for task in tasks} == {b"GPU-0\n", b"GPU-1\n"}
    assert waiting.state == "queued"


@pytest.mark.parametrize(
    ("run", "outcome", "code"),
    [
        (["sh", "-c", "exit 3"], "failed", 3),
        (["python", "-c", "raise SystemExit(75)"], "requeue", 75),
        (["python", "-c", "raise SystemExit(78)"], "permanent", 78),
        (["no-such-command"], "failed", 127),
        ("kill -SEGV $$", "failed", None),
    ],
)
def test_how_a_task_ends_is_told_as_it_was(
    serve: Serve, launch: Launch, run: list[str], outcome: str, code: int | None
) -> None:
    server = serve()
    task = server.submit(run)
    launch(server)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["exit_code"]) == (outcome, code), task.result


def test_code_that_would_leave_its_folder_fails_the_task_and_writes_nothing(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../../escaped"))
    task = server.submit(["true"], code=buffer.getvalue())
    agent = launch(server)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["reason"]) == ("failed", "code")
    assert not list(agent.home.rglob("escaped"))


def test_a_run_timeout_lets_the_task_save_itself_first(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit(
        "trap 'echo saved; exit 0' TERM; while :; do sleep 0.05; done", timeout={"run": "500ms"}
    )
    launch(server)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert task.result["outcome"] == "timeout"
    assert b"saved\n" in task.log


def test_a_flood_of_output_keeps_head_and_tail_and_marks_the_gap(serve: Serve, launch: Launch) -> None:
    server = serve()
    script = "import sys\nfor n in range(300000): sys.stdout.write(f'line {n}\\n')"
    task = server.submit(["python", "-c", script])
    agent = launch(server, HOSTLER_LOG_HEAD_BYTES="100000", HOSTLER_LOG_TAIL_BYTES="20000")
    server.wait_for(lambda: task.result, 40)
    text = bytes(task.log).decode()
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 299999\n")
    assert "bytes of output are left out here" in text
    assert len(text) <= 120100
    server.wait_for(lambda: not list((agent.home / "tasks").iterdir()))


def test_what_the_server_could_not_take_at_first_arrives_complete(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit("i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done")
    task.uploads_refused = True
    launch(server)
    server.wait_for(lambda: sum("/log" in line for line in server.requests) >= 2)
    assert task.result is None
    task.uploads_refused = False
    server.wait_for(lambda: task.result)
    assert bytes(task.log).split() == [str(number).encode() for number in range(500)]


def test_a_server_restored_from_an_older_copy_gets_the_rest_again(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second")
    agent = launch(server)
    server.wait_for(lambda: bytes(task.log) == b"first\n")
    del task.log[2:]
    (agent.home / "tasks" / "1-1" / "work" / "go").touch()
    server.wait_for(lambda: task.result)
    assert bytes(task.log) == b"first\nsecond\n"


def test_a_renewed_credential_is_used_and_kept(serve: Serve, launch: Launch) -> None:
    server = serve()
    agent = launch(server)
    server.wait_for(lambda: server.beats)
    server.next_credential = "credential-2"
    server.wait_for(lambda: server.credential == "credential-2")
    task = server.submit("true")
    server.wait_for(lambda: task.result)
    assert json.loads((agent.home / "credential").read_text())["credential"] == "credential-2"


def test_a_drained_agent_finishes_its_task_takes_nothing_new_and_leaves(serve: Serve, launch: Launch) -> None:
    server = serve()
    first = server.submit("sleep 0.5")
    agent = launch(server)
    server.wait_for(lambda: first.state == "running")
    server.drain = True
    second = server.submit("true")
    assert agent.wait() == 0
    assert first.state == "completed"
    assert second.state == "queued"
    assert server.left == 1


def test_the_drain_option_asks_the_running_agent_to_leave(serve: Serve, launch: Launch) -> None:
    server = serve()
    agent = launch(server)
    server.wait_for(lambda: server.beats)
    command = [sys.executable, str(agent.home / "agent.pyz"), "--drain"]
    subprocess.run(command, env=agent.environ, check=True)
    assert agent.wait() == 0
    assert server.left == 1

"""Stop, preemption, stale leases, silence, and agents that are killed: nothing runs on, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent.agent_process import AgentProcess, alive
from agent.wire_server import Task, WireServer

Serve = Callable[..., WireServer]
Launch = Callable[..., AgentProcess]

SAVES_ON_SIGTERM = """
import hashlib, json, os, signal, sys, time
from hostler.tracking.journal import Writer
def save(*_):
    told = json.load(open(os.environ["HOSTLER_STOP_FILE"]))
    data = b"state at the end"
    digest = hashlib.sha256(data).hexdigest()
    open(os.path.join(os.environ["HOSTLER_OUT"], "spool", digest), "wb").write(data)
    record = {"name": "checkpoint", "type": "checkpoint", "digest": digest, "size": len(data)}
    Writer(os.path.join(os.environ["HOSTLER_OUT"], "journal")).append(["a", record])
    print("saved:", json.dumps(told))
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
while True: time.sleep(60)
"""

HOSTILE = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
def spawn(depth, new_session, wipe):
    if os.fork() == 0:
        if new_session: os.setsid()
        if os.fork() == 0:
            if wipe: os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {"PID": "1"})
            while True: time.sleep(60)
        os._exit(0)
for new_session in (False, True):
    for wipe in (False, True):
        spawn(2, new_session, wipe)
os.system("sh -c 'trap \\"\\" TERM; (sleep 601 & echo $!) & wait' >/dev/null &")
time.sleep(0.3)
print("ready", flush=True)
while True: time.sleep(60)
"""


def started(server: WireServer, code: str, **more: Any) -> Task:
    return server.submit([sys.executable, "-c", code], **more)


def ready(server: WireServer, task: Task) -> None:
    server.wait_for(lambda: b"ready" in task.log)


def tree_of(agent: AgentProcess) -> list[int]:
    """Every process below a shim of this agent."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    shims = [pid for pid in agent.processes() if b"agent.shim" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    found, waiting = [], shims
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting = waiting + below
    return found


def test_a_stop_gives_the_task_its_file_its_signal_and_time_to_save(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, SAVES_ON_SIGTERM)
    launch(server)
    ready(server, task)
    task.stop = {"reason": "stopped", "grace_seconds": 10.0}
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["exit_code"]) == ("stopped", 0)
    assert task.artifacts_when_finished == 1
    told = json.loads(bytes(task.log).split(b"saved: ")[1])
    assert told["reason"] == "stopped"
    assert 0 < told["deadline_seconds"] <= 10.0


def test_sigterm_goes_to_the_leader_and_not_to_its_data_loaders(serve: Serve, launch: Launch) -> None:
    server = serve()
    code = """
import signal, subprocess, sys, time
loader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def save(*_):
    time.sleep(0.3)
    print("loader is", "dead" if loader.poll() is not None else "alive")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
while True: time.sleep(60)
"""
    task = started(server, code)
    agent = launch(server)
    ready(server, task)
    task.stop = {"reason": "stopped", "grace_seconds": 10.0}
    server.wait_for(lambda: task.result)
    assert b"loader is alive" in task.log
    assert not tree_of(agent)


def test_a_command_behind_a_shell_is_asked_to_stop_and_nothing_runs_after_it(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    script = shutil.which("python") or sys.executable
    task = server.submit(f"cat > save.py <<'EOF'\n{SAVES_ON_SIGTERM}\nEOF\n{script} save.py\necho after")
    launch(server)
    ready(server, task)
    task.stop = {"reason": "stopped", "grace_seconds": 10.0}
    server.wait_for(lambda: task.result)
    assert b"saved: " in task.log
    assert b"after" not in task.log
    assert task.artifacts_when_finished == 1


def test_hostile_children_are_dead_after_the_grace(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    assert len(tree) >= 6
    task.stop = {"reason": "stopped", "grace_seconds": 1.0}
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["exit_code"]) == ("stopped", None)
    assert [pid for pid in tree if alive(pid)] == []


def test_children_left_behind_by_a_finished_task_are_dead_too(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit("setsid sleep 603 & echo pid $!; exit 0")
    launch(server)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert task.result["outcome"] == "completed"
    assert not alive(int(bytes(task.log).split()[-1]))


def test_a_stale_lease_kills_the_tree_and_is_not_reported(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    task.generation += 1
    server.wait_for(lambda: not any(alive(pid) for pid in tree))
    server.wait_for(lambda: server.beats[-1]["held"] == [])
    assert task.results == []
    assert not list((agent.home / "tasks").iterdir())


@pytest.mark.slow
def test_silence_of_the_server_kills_the_tree_before_the_lease_ends(serve: Serve, launch: Launch) -> None:
    server = serve(ttl_seconds=3.0)
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    server.away = True
    server.wait_for(lambda: not any(alive(pid) for pid in tree))
    server.away = False
    server.wait_for(lambda: server.beats[-1]["held"] == [])
    assert task.results == []


@pytest.mark.slow
def test_a_frozen_agent_does_not_keep_its_task_alive(serve: Serve, launch: Launch) -> None:
    server = serve(ttl_seconds=2.0)
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    assert agent.process
    agent.process.send_signal(signal.SIGSTOP)
    server.wait_for(lambda: not any(alive(pid) for pid in tree))
    agent.process.send_signal(signal.SIGCONT)
    server.wait_for(lambda: server.beats[-1]["held"] == [])
    assert task.results == []


@pytest.mark.slow
def test_a_killed_agents_task_runs_on_and_the_next_agent_brings_it_home(serve: Serve, launch: Launch) -> None:
    server = serve()
    script = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.05; done"
    task = server.submit(script, gpu_count=1.0)
    agent = launch(server, gpus=1)
    server.wait_for(lambda: b"line 5\n" in task.log)
    agent.kill()
    agent.start()
    server.wait_for(lambda: task.result)
    assert len(server.joins) == 1
    assert task.result is not None
    assert task.result["outcome"] == "completed"
    assert bytes(task.log).decode().split("\n") == [*(f"line {n}" for n in range(40)), ""]


def test_a_task_that_ended_while_no_agent_was_there_is_reported_by_the_next(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    task = server.submit("echo begun; sleep 0.5; echo done; exit 7")
    agent = launch(server)
    server.wait_for(lambda: b"begun" in task.log)
    agent.kill()
    server.wait_for((agent.home / "tasks" / "1-1" / "exit.json").exists)
    agent.start()
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["exit_code"]) == ("failed", 7)
    assert bytes(task.log) == b"begun\ndone\n"


def test_sigterm_to_the_agent_leaves_its_tasks_to_the_next_one(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = server.submit("echo begun; sleep 1; echo done")
    agent = launch(server)
    server.wait_for(lambda: b"begun" in task.log)
    assert agent.process
    agent.process.terminate()
    assert agent.wait() == 0
    agent.start()
    server.wait_for(lambda: task.result)
    assert bytes(task.log) == b"begun\ndone\n"


def test_a_killed_shim_is_told_as_lost_and_leaves_no_process(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    leader = min(tree)
    shim = int(Path(f"/proc/{leader}/stat").read_bytes().rpartition(b")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert (task.result["outcome"], task.result["reason"]) == ("infra", "lost")
    assert not alive(leader)


def test_a_notice_saves_the_checkpoint_before_the_machine_goes(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, SAVES_ON_SIGTERM)
    later = server.submit("true", cpus=4.0)
    agent = launch(server)
    ready(server, task)
    agent.notice.write_text(json.dumps({"seconds_left": 5.0}))
    server.wait_for(lambda: task.result)
    assert task.result is not None
    assert task.result["outcome"] == "preempted"
    assert task.artifacts_when_finished == 1
    assert server.notices[0]["source"] == "local"
    assert 0 < server.notices[0]["seconds_left"] <= 5.0
    assert json.loads(bytes(task.log).split(b"saved: ")[1])["reason"] == "preempted"
    assert agent.wait() == 0
    assert later.state == "queued"
    assert server.left == 1


def test_in_a_pod_sigterm_is_the_notice_and_the_agent_leaves_when_all_is_saved(
    serve: Serve, launch: Launch
) -> None:
    server = serve()
    task = started(server, SAVES_ON_SIGTERM)
    agent = launch(server, HOSTLER_SIGTERM="preempt", HOSTLER_SIGTERM_SECONDS="8")
    ready(server, task)
    assert agent.process is not None
    agent.process.send_signal(signal.SIGTERM)
    agent.process.send_signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert task.result is not None
    assert task.result["outcome"] == "preempted"
    assert task.artifacts_when_finished == 1
    assert json.loads(bytes(task.log).split(b"saved: ")[1])["reason"] == "preempted"
    (notice,) = server.notices
    assert notice["source"] == "kubernetes"
    assert 0 < notice["seconds_left"] <= 8.0
    assert server.left == 1


@pytest.mark.slow
def test_a_task_deaf_to_its_notice_is_killed_and_reported_in_time(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    agent.notice.write_text(json.dumps({"seconds_left": 2.0}))
    server.wait_for(lambda: task.result, 10)
    assert task.result is not None
    assert task.result["outcome"] == "preempted"


def test_an_agent_that_is_disowned_ends_its_tasks_and_itself(serve: Serve, launch: Launch) -> None:
    server = serve()
    task = started(server, HOSTILE)
    agent = launch(server)
    ready(server, task)
    tree = tree_of(agent)
    server.credential = "revoked"
    assert agent.wait() == 4
    assert not any(alive(pid) for pid in tree)


def test_an_agent_that_hears_of_nobody_gives_up(serve: Serve, launch: Launch) -> None:
    server = serve(ttl_seconds=0.5)
    server.dead_man_seconds = 1.0
    agent = launch(server)
    server.wait_for(lambda: server.beats)
    server.away = True
    assert agent.wait() == 5


def test_a_used_join_token_is_told_and_ends_the_agent(serve: Serve, launch: Launch) -> None:
    server = serve()
    server.joins.append({})
    agent = launch(server)
    assert agent.wait() == 3
    assert server.failures[0]["stage"] == "join"


def test_two_agents_never_share_a_folder(serve: Serve, launch: Launch) -> None:
    server = serve()
    agent = launch(server)
    server.wait_for(lambda: server.beats)
    first = agent.process
    assert agent.start().wait() == 2
    assert "another agent runs" in agent.console()
    agent.process = first


@pytest.fixture
def small_memory() -> Any:
    """A cgroup of 150 MiB to run an agent in; skipped where none can be made."""
    for folder in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = folder / f"hostler-test-{os.getpid()}"
        limit = group / ("memory.limit_in_bytes" if folder.name == "memory" else "memory.max")
        try:
            group.mkdir()
            limit.write_text(str(150 * 1024**2))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        for _ in range(100):
            try:
                group.rmdir()
            except OSError:
                os.sched_yield()
            else:
                break
        return
    pytest.skip("no cgroup with a memory limit can be made here")


def test_a_task_killed_for_want_of_memory_is_told_so(
    serve: Serve, launch: Launch, small_memory: Path
) -> None:
    server = serve()
    task = started(server, "data = []\nwhile True: data.append(bytearray(10_000_000))")
    task.state = "held back"
    agent = launch(server)
    server.wait_for(lambda: server.beats)
    for pid in agent.processes():
        (small_memory / "cgroup.procs").write_text(str(pid))
    task.state = "queued"
    server.wait_for(lambda: task.result)
    agent.end()
    assert task.result is not None
    assert (task.result["outcome"], task.result["reason"]) == ("failed", "oom")

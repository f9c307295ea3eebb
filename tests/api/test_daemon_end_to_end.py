"""The whole daemon with real processes: a task submitted to an empty fleet runs, and the fleet goes back to zero."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest
from api.daemons import DaemonProcess, daemon_process, instance_processes
from api.serving import wait_until

pytestmark = pytest.mark.slow


def at_zero(daemon: DaemonProcess) -> bool:
    return not daemon.get("instances", live=True)["items"]


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_task_runs_on_a_launched_instance_and_the_fleet_scales_to_zero(tmp_path: Path) -> None:
    with daemon_process(tmp_path) as daemon:
        daemon.start()
        with httpx.Client(base_url=daemon.url, trust_env=False) as stranger:
            assert stranger.get("/livez").status_code == 200
            assert stranger.get("/api/v1/tasks").status_code == 401
        task_id = daemon.submit(run=["sh", "-c", "echo hi from the task"])
        task = daemon.wait_for_state(task_id, "completed", "failed", "dead")
        assert (task["state"], task["exit_code"]) == ("completed", 0)
        with daemon.client() as client:
            logs = client.get(f"/api/v1/tasks/{task_id}/logs").text
        assert "hi from the task" in logs
        assert task["usd"] > 0
        wait_until(lambda: at_zero(daemon), 60.0)
        wait_until(lambda: not instance_processes(tmp_path), 30.0)
        kinds = {event["kind"] for event in daemon.get("events", limit=500)["items"]}
        assert {
            "task.queued",
            "instance.ready",
            "task.running",
            "task.completed",
            "instance.terminated",
        } <= kinds
        with daemon.client() as client:
            assert client.get("/readyz").status_code == 200
            figures = client.get("/metrics").text
            assert 'hostler_queue_wait_seconds_count{queue="default"} 1.0' in figures
            doctor = client.get("/api/v1/doctor").json()
        failed = [check for check in doctor["checks"] if not check["ok"] and check["name"] != "disk"]
        assert failed == []
        assert daemon.stop() == 0


def test_instances_survive_a_restart_and_are_adopted(tmp_path: Path) -> None:
    with daemon_process(tmp_path, port=free_port()) as daemon:
        daemon.start()
        task_id = daemon.submit(run=["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done; echo done"])
        daemon.wait_for_state(task_id, "running")
        instance_id = daemon.get(f"tasks/{task_id}")["instance_id"]
        assert daemon.stop() == 0
        assert instance_processes(tmp_path)
        daemon.start()
        task = daemon.get(f"tasks/{task_id}")
        assert (task["state"], task["instance_id"], task["generation"]) == ("running", instance_id, 1)
        for work in tmp_path.glob("**/work"):
            (work / "go").touch()
        task = daemon.wait_for_state(task_id, "completed", "failed", "dead")
        assert (task["state"], task["attempt"]) == ("completed", 1)
        assert len(daemon.get("instances")["items"]) == 1
        wait_until(lambda: at_zero(daemon), 60.0)


def test_kill_9_and_restart_ends_every_task_once_and_leaves_nothing(tmp_path: Path) -> None:
    with daemon_process(tmp_path, port=free_port()) as daemon:
        daemon.start()
        task_ids = [daemon.submit(run=["sh", "-c", "sleep 0.5; echo done"]) for _ in range(4)]
        daemon.kill()
        daemon.start()
        daemon.wait_for_state(task_ids[0], "running", "completed")
        daemon.kill()
        daemon.start()
        for task_id in task_ids:
            task = daemon.wait_for_state(task_id, "completed", "failed", "dead")
            assert task["state"] == "completed"
        ends = daemon.get("events", kind="task.completed", limit=500)["items"]
        assert sorted(event["task_id"] for event in ends) == sorted(task_ids)
        wait_until(lambda: at_zero(daemon), 60.0)
        wait_until(lambda: not instance_processes(tmp_path), 30.0)


def test_a_second_daemon_on_the_same_state_is_refused_with_the_holders_address(tmp_path: Path) -> None:
    with daemon_process(tmp_path) as daemon:
        daemon.start()
        url, first = daemon.url, daemon.process
        assert first is not None
        daemon.start(wait=False)
        second = daemon.process
        assert second is not None
        assert second.wait(30.0) == 1
        assert f"another hostler runs on {url}, pid {first.pid}" in daemon.log()
        daemon.process = first


def test_a_port_in_use_is_told_clearly(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken, daemon_process(tmp_path) as daemon:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        daemon.port = taken.getsockname()[1]
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(30.0) == 1
        assert f"127.0.0.1:{daemon.port} is in use" in daemon.log()


def test_an_invalid_fleet_file_is_refused_with_its_place(tmp_path: Path) -> None:
    with daemon_process(tmp_path) as daemon:
        daemon.configure("version: 1\npools: 3\n")
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(30.0) == 2
        assert "fleet.yaml:2:" in daemon.log()
        assert not (tmp_path / "state").exists()


def test_sighup_reads_the_file_again_and_keeps_the_old_one_if_it_is_invalid(tmp_path: Path) -> None:
    with daemon_process(tmp_path) as daemon:
        daemon.start()
        file = tmp_path / "fleet.yaml"
        good = file.read_text().replace("idle_timeout: 2s", "idle_timeout: 7s")
        file.write_text("version: [")
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: "config.refused" in daemon.log())
        assert daemon.get("config")["config"]["pools"]["local"]["idle_timeout"] == "2s"
        file.write_text(good)
        daemon.signal(signal.SIGHUP)
        wait_until(lambda: daemon.get("config")["config"]["pools"]["local"]["idle_timeout"] == "7s")


def test_what_only_its_owner_may_read_is_private(tmp_path: Path) -> None:
    with daemon_process(tmp_path) as daemon:
        daemon.start()
        for path in (
            tmp_path / "state" / "admin.token",
            tmp_path / "state" / "server.key",
            daemon.client_file,
        ):
            assert path.stat().st_mode & 0o077 == 0, path
        token = (tmp_path / "state" / "admin.token").read_text().strip()
        assert token not in daemon.log()

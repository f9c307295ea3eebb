"""The whole daemon with static hosts: a task goes to a machine over SSH, and the machine is left as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from api.daemons import DaemonProcess, daemon_process
from api.serving import wait_until
from contract.sshd import Sshd, free_port
from contract.static_harness import machines_in

pytestmark = pytest.mark.slow

FLEET = """\
version: 1
daemon:
  tick: 200ms
  listen: "127.0.0.1:{port}"
  state: "sqlite:///{folder}/state/state.db"
  lease_ttl: 30s
  dead_man: 60s
  bootstrap_timeout: 120s
limits: {{instances: 1, usd_per_hour: 1}}
providers:
  lab:
    type: static
    key_file: {key}
    hosts:
      - {{ssh: "{machine.ssh}", name: lab-1, host_key: "{machine.host_key}", home: {machine.home}}}
pools:
  lab: {{providers: [lab], market: on_demand, instances: 0..1, idle_timeout: 1s}}
"""


def configured(folder: Path) -> tuple[Sshd, int]:
    """One machine and the fleet.yaml that names it."""
    (machine,), key = machines_in(folder / "machines", 1)
    port = free_port()
    (folder / "fleet.yaml").write_text(FLEET.format(port=port, folder=folder, key=key, machine=machine))
    return machine, port


def is_free(machine: Sshd) -> bool:
    return not list(machine.home.glob("on-*/instance*"))


def test_a_task_runs_on_a_static_host_which_is_free_again_afterwards(tmp_path: Path) -> None:
    machine, port = configured(tmp_path)
    try:
        with daemon_process(tmp_path, port=port) as daemon:
            daemon.start()
            task_id = daemon.submit(run=["sh", "-c", "echo hello from $(id -un)"])
            task = daemon.wait_for_state(task_id, "completed", "failed", "dead", seconds=150.0)
            assert (task["state"], task["exit_code"]) == ("completed", 0), daemon.log()
            (instance,) = daemon.get("instances")["items"]
            assert instance["ref"] == f"lab-1/{instance['id']}"
            wait_until(lambda: not daemon.get("instances", live=True)["items"], 90.0)
            assert is_free(machine)
            _doctor_is_content(tmp_path, daemon)
            assert "join" not in (tmp_path / "daemon.log").read_text().lower().replace("joined", "")
            assert daemon.stop() == 0
    finally:
        machine.stop()


def _doctor_is_content(folder: Path, daemon: DaemonProcess) -> None:
    """From the daemon's own machine the host is reached, and the host reaches the daemon."""
    command = [
        str(Path(sys.executable).with_name("hostler")),
        "doctor",
        "--config",
        "fleet.yaml",
        "--provider",
        "lab",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "lab-1 python" in done.stdout, done.stdout + done.stderr
    with daemon.client() as client:
        checks = {check["name"]: check for check in client.get("/api/v1/doctor").json()["checks"]}
    assert checks["lab-1 daemon url"]["ok"], checks["lab-1 daemon url"]


def test_a_host_that_goes_silent_in_the_middle_keeps_its_task_and_is_released_when_it_is_back(
    tmp_path: Path,
) -> None:
    """The way by SSH is not the agent's way to the daemon: work goes on without it."""
    machine, port = configured(tmp_path)
    try:
        with daemon_process(tmp_path, port=port) as daemon:
            daemon.start()
            task_id = daemon.submit(run=["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done"])
            daemon.wait_for_state(task_id, "running", seconds=150.0)
            machine.stop()
            daemon.kill()
            daemon.start()
            for work in machine.home.glob("on-*/instance/tasks/*/work"):
                (work / "go").touch()
            task = daemon.wait_for_state(task_id, "completed", "failed", "dead", seconds=90.0)
            assert (task["state"], task["attempt"]) == ("completed", 1), daemon.log()
            assert not is_free(machine)
            machine.start()
            wait_until(lambda: not daemon.get("instances", live=True)["items"], 150.0)
            assert is_free(machine)
    finally:
        machine.stop()

"""A real daemon, pods whose commands really run, and a node that is drained under a task."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from api.daemons import DaemonProcess, daemon_process
from api.serving import wait_until
from emulators.kubernetes.kubelet import Kubelet
from emulators.kubernetes.server import KubernetesServer

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0
FLEET = """
version: 1
daemon:
  tick: 200ms
  listen: "127.0.0.1:{port}"
  url: "http://hostler.example.org:{port}"
  state: "sqlite:///{folder}/state/state.db"
  lease_ttl: 30s
  dead_man: 90s
  bootstrap_timeout: 60s
limits: {{instances: 2, usd_per_hour: 1}}
providers:
  k8s:
    type: kubernetes
    namespace: ml
    kubeconfig: {folder}/kubeconfig
    image: python:3.12-slim
    spot_nodes: karpenter
    termination_grace: 30s
    sizes:
      - {{name: small, cpus: 1, memory: 1GiB, market: spot, usd_per_hour: 0.01}}
    # Pods reach the daemon by another way than its public name.
    container: {{env: [{{name: HOSTLER_URL, value: "http://127.0.0.1:{port}"}}]}}
pools:
  pods: {{providers: [k8s], market: spot, instances: 0..2, idle_timeout: 2s}}
queues:
  default: {{pools: [pods]}}
"""
COUNTS = """
import os, signal, sys, tempfile, time
import hostler
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
run = hostler.init(project="pods")
found = hostler.restore()
count = int(found.read_text()) if found else 0
print("begins at", count, flush=True)
if found:
    run.finish()
    sys.exit(0)
while not asked:
    count += 1
    time.sleep(0.1)
file = os.path.join(tempfile.mkdtemp(), "count")
with open(file, "w") as out:
    out.write(str(count))
hostler.checkpoint(file, step=count)
print("saved", count, flush=True)
sys.exit(75)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_of(daemon: DaemonProcess, task_id: int, attempt: int) -> str:
    with daemon.client() as client:
        return client.get(f"/api/v1/tasks/{task_id}/logs", params={"attempt": attempt}).text


def pods(server: KubernetesServer) -> list[dict[str, Any]]:
    return server.cluster.all("pods")


def test_a_drained_node_moves_the_task_with_its_checkpoint_to_another_pod(tmp_path: Path) -> None:
    with KubernetesServer() as server, daemon_process(tmp_path, port=free_port()) as daemon:
        server.write_kubeconfig(tmp_path / "kubeconfig")
        daemon.configure(FLEET)
        with Kubelet(server.cluster, tmp_path / "pods") as kubelet:
            kubelet.folder.mkdir()
            daemon.start()
            task_id = daemon.submit(run=["python3", "-c", COUNTS])
            daemon.wait_for_state(task_id, "running", seconds=PATIENCE_SECONDS)
            wait_until(lambda: "begins at 0" in log_of(daemon, task_id, 1), PATIENCE_SECONDS)
            (first,) = pods(server)
            name = first["metadata"]["name"]
            assert server.cluster.drain(name).status == 201
            task = daemon.wait_for_state(task_id, "completed", "failed", "dead", seconds=PATIENCE_SECONDS)
            assert (task["state"], task["attempt"]) == ("completed", 2), daemon.log() + kubelet.console(name)
            assert task["instance_id"] != name
            attempts = daemon.get(f"tasks/{task_id}/attempts")["items"]
            assert [one["outcome"] for one in attempts] == ["preempted", "completed"]
            saved = log_of(daemon, task_id, 1).split("saved ")[1].split()[0]
            assert f"begins at {saved}" in log_of(daemon, task_id, 2)
            (notice,) = daemon.get("events", kind="instance.preemption_notice", limit=50)["items"]
            assert (notice["instance_id"], notice["data"]["source"]) == (name, "kubernetes")

            wait_until(lambda: not daemon.get("instances", live=True)["items"], PATIENCE_SECONDS)
            assert [one for one in pods(server) if one["status"]["phase"] in ("Pending", "Running")] == []
            assert not any(kubelet.processes(one["id"]) for one in daemon.get("instances")["items"])
            assert daemon.stop() == 0
        assert kubelet.broken == []
        assert server.cluster.wrong_answers == []
        assert server.cluster.refused == []

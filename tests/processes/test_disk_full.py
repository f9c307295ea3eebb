"""The disk under a real daemon fills up: it says so, acknowledges nothing it can't keep, and recovers by itself."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from api.daemons import DaemonProcess
from api.serving import wait_until
from processes.fleets import PATIENCE_SECONDS, fleet, fleet_yaml
from processes.ledger import Ledger

pytestmark = pytest.mark.slow

DISK_BYTES = 12 * 1024 * 1024
BALLAST_CHUNK = b"x" * 65_536
TASKS_BEFORE = 5
TASKS_MAX = 2_000
"""More than the disk could hold: one of them must be refused."""


@dataclass
class SmallDisk:
    """A tmpfs of a few MB that holds the whole state; a file of ballast fills it."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "ballast").open("ab") as file, contextlib.suppress(OSError):
            while True:
                file.write(BALLAST_CHUNK)
                file.flush()

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size={DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def submit_until_refused(http: httpx.Client, acknowledged: dict[str, int], prefix: str) -> httpx.Response:
    """The first answer that is not 201. `acknowledged` takes in what was promised."""
    for number in range(TASKS_MAX):
        uid = f"{prefix}-{number}"
        spec = {"run": ["echo", "w" * 16_000]}
        answer = http.post("/api/v1/tasks", json={"spec": spec, "uid": uid})
        if answer.status_code != 201:
            return answer
        acknowledged[uid] = answer.json()["id"]
    raise AssertionError(f"{TASKS_MAX} tasks fitted on a full disk")


def check_it_says_so(http: httpx.Client, refused: httpx.Response) -> None:
    assert refused.status_code == 503, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert "disk" in refused.text
    assert http.get("/livez").status_code == 200
    assert http.get("/api/v1/tasks", params={"limit": 5}).status_code == 200


def check_it_recovers(
    daemon: DaemonProcess, ledger: Ledger, http: httpx.Client, acknowledged: dict[str, int]
) -> None:
    assert not daemon.process_ended(), daemon.log()
    wait_until(lambda: http.get("/readyz").status_code == 200, PATIENCE_SECONDS)
    answer = http.post("/api/v1/tasks", json={"spec": {"run": ["true"]}, "uid": "after"})
    assert answer.status_code == 201, answer.text
    acknowledged["after"] = answer.json()["id"]
    assert daemon.stop() == 0
    rows = {row["uid"]: row["id"] for row in ledger.rows("SELECT uid, id FROM tasks")}
    assert acknowledged.items() <= rows.items()
    assert ledger.is_whole()


@pytest.mark.root
def test_a_full_disk_is_told_and_survived(small_disk: SmallDisk) -> None:
    acknowledged: dict[str, int] = {}
    with fleet(small_disk.folder, fleet_yaml(instances=0)) as (daemon, ledger):
        daemon.start()
        with daemon.client() as http:
            for number in range(TASKS_BEFORE):
                answer = http.post(
                    "/api/v1/tasks", json={"spec": {"run": ["true"]}, "uid": f"before-{number}"}
                )
                acknowledged[f"before-{number}"] = answer.json()["id"]
            small_disk.fill()
            check_it_says_so(http, submit_until_refused(http, acknowledged, "full"))
            blob = b"b" * 500_000
            put = http.put(f"/api/v1/blobs/{hashlib.sha256(blob).hexdigest()}", content=blob)
            assert put.status_code in (503, 507), put.text
            assert not [path for path in (ledger.state / "blobs").rglob("*") if path.is_file()]
            small_disk.free()
            check_it_recovers(daemon, ledger, http, acknowledged)


def test_a_daemon_killed_on_a_full_disk_starts_again_once_there_is_room(small_disk: SmallDisk) -> None:
    acknowledged: dict[str, int] = {}
    with fleet(small_disk.folder, fleet_yaml(instances=0)) as (daemon, ledger):
        daemon.start()
        with daemon.client() as http:
            small_disk.fill()
            assert submit_until_refused(http, acknowledged, "full").status_code == 503
            daemon.kill()
            small_disk.free()
            daemon.start()
            check_it_recovers(daemon, ledger, http, acknowledged)


def test_a_file_that_may_not_grow_any_more_is_told_and_survived(tmp_path: Path) -> None:
    """The same without root: the kernel refuses the daemon's writes past a size, until it is allowed more."""
    acknowledged: dict[str, int] = {}
    with fleet(tmp_path, fleet_yaml(instances=0)) as (daemon, ledger):
        daemon.start()
        assert daemon.process is not None
        process = psutil.Process(daemon.process.pid)
        with daemon.client() as http:
            largest = max(path.stat().st_size for path in ledger.state.glob("state.db*"))
            process.rlimit(psutil.RLIMIT_FSIZE, (largest + 256 * 1024, resource.RLIM_INFINITY))
            check_it_says_so(http, submit_until_refused(http, acknowledged, "full"))
            process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            check_it_recovers(daemon, ledger, http, acknowledged)


def test_the_disk_of_these_tests_really_fills(small_disk: SmallDisk) -> None:
    small_disk.fill()
    with pytest.raises(OSError) as caught:
        (small_disk.folder / "more").write_bytes(BALLAST_CHUNK)
    assert caught.value.errno == errno.ENOSPC

"""The agent's parts by themselves: slots, inventory, snapshot, log, stop, durations."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from agent.agent_process import alive
from agent.test_ending_tasks import HOSTILE
from hostler.agent_bootstrap.agent import gpus, inventory, snapshot
from hostler.agent_bootstrap.agent.durations import seconds
from hostler.agent_bootstrap.agent.environment import command
from hostler.agent_bootstrap.agent.output import BoundedLog
from hostler.agent_bootstrap.agent.slots import NoRoom, Slots
from hostler.agent_bootstrap.agent.stop import plan_stop, sooner
from hostler.agent_bootstrap.wire import GpuFound, Inventory, Joined

GIBIBYTE = 1024**3


def machine(gpu_count: int = 0) -> Inventory:
    found = [GpuFound(uuid=f"GPU-{n}", name="T4", memory_bytes=16 * GIBIBYTE) for n in range(gpu_count)]
    return Inventory(
        cpus=8, memory_bytes=32 * GIBIBYTE, disk_bytes=1, gpus=found, python="", hostname="", agent_version=""
    )


def test_fractions_fill_one_gpu_before_they_touch_the_next() -> None:
    slots = Slots(machine(2))
    thirds = [slots.take(str(n), 1, 0, 1 / 3) for n in range(3)]
    assert len({uuid for share in thirds for uuid in share.gpus}) == 1
    assert slots.free().gpus == 1.0
    whole = slots.take("whole", 1, 0, 1.0)
    assert whole.gpus.keys().isdisjoint(thirds[0].gpus)
    with pytest.raises(NoRoom):
        slots.take("late", 1, 0, 0.5)
    slots.release("0")
    assert slots.take("late", 1, 0, 0.3).gpus.keys() == thirds[0].gpus.keys()


def test_more_than_there_is_is_refused_and_nothing_is_taken() -> None:
    slots = Slots(machine(1))
    for wish in ((9.0, 0, 0.0), (1.0, 33 * GIBIBYTE, 0.0), (1.0, 0, 2.0)):
        with pytest.raises(NoRoom):
            slots.take("x", *wish)
    assert slots.free() == (8.0, 32 * GIBIBYTE, 1.0)


def test_a_task_without_gpus_sees_none_where_others_have_some() -> None:
    slots = Slots(machine(2))
    assert slots.visible_devices(slots.take("a", 1, 0, 2.0)) == "GPU-0,GPU-1"
    assert slots.visible_devices(slots.take("b", 1, 0, 0.0)) == ""
    plain = Slots(machine())
    assert plain.visible_devices(plain.take("c", 1, 0, 0.0)) is None


def as_sold(cpus: float, memory_bytes: int) -> Joined:
    return Joined(
        instance_id="h-1",
        credential="",
        credential_seconds=1.0,
        heartbeat_seconds=1.0,
        lease_ttl_seconds=1.0,
        dead_man_seconds=1.0,
        sold_cpus=cpus,
        sold_memory_bytes=memory_bytes,
    )


def test_a_machine_counts_as_large_as_it_was_sold_though_its_kernel_takes_some_memory() -> None:
    slots = Slots(machine(), as_sold(8.0, 34 * GIBIBYTE))
    assert slots.take("all", 8.0, 34 * GIBIBYTE, 0.0).memory_bytes == 34 * GIBIBYTE


def test_a_machine_far_smaller_than_it_was_sold_counts_as_what_it_is() -> None:
    assert Slots(machine(), as_sold(64.0, 512 * GIBIBYTE)).free() == (8.0, 32 * GIBIBYTE, 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "proc/meminfo": "MemTotal:       16777216 kB\nMemAvailable:    1048576 kB\n",
        "proc/self/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n0::/box/inner\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def limit(root: Path, name: str, text: str) -> None:
    path = root / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_memory_is_what_the_tightest_cgroup_above_us_allows(root: Path) -> None:
    assert inventory.memory_bytes(root) == 16 * GIBIBYTE
    limit(root, "box/inner/memory.max", "max\n")
    assert inventory.memory_bytes(root) == 16 * GIBIBYTE
    limit(root, "box/memory.max", str(4 * GIBIBYTE))
    assert inventory.memory_bytes(root) == 4 * GIBIBYTE
    limit(root, "memory/box/memory.limit_in_bytes", str(2 * GIBIBYTE))
    assert inventory.memory_bytes(root) == 2 * GIBIBYTE


def test_cpus_are_no_more_than_the_quota_pays_for(root: Path) -> None:
    limit(root, "box/cpu.max", "max 100000\n")
    unlimited = inventory.cpus(root)
    assert unlimited >= 1
    limit(root, "box/cpu.max", "50000 100000\n")
    assert inventory.cpus(root) == 1


@pytest.mark.parametrize("text", ["[]", "{", '{"cpus": "two"}', '{"gpus": [{}]}', '{"cpus": -1}'])
def test_an_inventory_file_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "inventory.json"
    file.write_text(text)
    with pytest.raises(inventory.BadInventory, match=r"inventory\.json"):
        inventory.take(tmp_path, str(file))


def test_an_inventory_file_is_what_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "inventory.json"
    file.write_text(json.dumps({"cpus": 3, "memory_bytes": 5, "disk_bytes": 7, "gpus": []}))
    taken = inventory.take(tmp_path, str(file))
    assert (taken["cpus"], taken["memory_bytes"], taken["disk_bytes"], taken["gpus"]) == (3, 5, 7, [])


FAKE_NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *c, unsigned *p) { *c = *p = (long)d == 2; return (long)d == 1 ? 3 : 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **m)
{ if (i == 1) return 6; *m = (void *)(long)(100 + i); return 0; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n)
{ strcpy(s, (long)d == 1 ? "GPU-whole" : (long)d == 100 ? "MIG-a" : "MIG-b"); return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strcpy(s, "NVIDIA A100"); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, memory *m) { m->total = (long)d == 1 ? 80 : 10; return 0; }
"""


def test_gpus_are_found_by_nvml_and_sliced_ones_by_their_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("gcc"):
        pytest.skip("no C compiler to build an NVML to ask")
    (tmp_path / "nvml.c").write_text(FAKE_NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")], check=True)
    monkeypatch.setattr(gpus, "NVML_LIBRARY", str(library))
    found = [(gpu["uuid"], gpu["name"], gpu["memory_bytes"]) for gpu in gpus.find()]
    assert found == [
        ("GPU-whole", "NVIDIA A100", 80),
        ("MIG-a", "NVIDIA A100", 10),
        ("MIG-b", "NVIDIA A100", 10),
    ]


def test_without_nvml_the_tool_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU-1, Tesla T4, 15360'\necho garbage\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(gpus, "NVML_LIBRARY", "libno-such-nvml.so.1")
    assert gpus.find() == [{"uuid": "GPU-1", "name": "Tesla T4", "memory_bytes": 15360 * 1024**2}]


def archive(path: Path, *members: tuple[str, dict[str, Any], bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, fields, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))
    return path


FOLDER: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o755}
LINK: dict[str, Any] = {"type": tarfile.SYMTYPE}
HARD: dict[str, Any] = {"type": tarfile.LNKTYPE}


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/x", {}, b"")],
        [("../x", {}, b"")],
        [("a/../../x", {}, b"")],
        [("link", {**LINK, "linkname": "/etc"}, b"")],
        [("link", {**LINK, "linkname": "../x"}, b"")],
        [("link", {**LINK, "linkname": "a/../../x"}, b"")],
        [("a", {**LINK, "linkname": "."}, b""), ("l", {**LINK, "linkname": "a/../x"}, b""), ("l", {}, b"")],
        [
            ("w", FOLDER, b""),
            ("x", FOLDER, b""),
            ("x/y", {**LINK, "linkname": "../w"}, b""),
            ("x/y/z", {**LINK, "linkname": "../../out"}, b""),
        ],
        [("hard", {**HARD, "linkname": "../secret"}, b"")],
        [("pipe", {"type": tarfile.FIFOTYPE}, b"")],
        [("twice", {}, b""), ("twice", {}, b"")],
        [("big", {}, b"x" * 2000)],
        [(f"n{n}", {}, b"") for n in range(60)],
    ],
)
def test_an_archive_that_reaches_out_or_is_too_large_is_refused(
    tmp_path: Path, members: list[tuple[str, dict[str, Any], bytes]]
) -> None:
    (tmp_path / "secret").write_text("s")
    target = tmp_path / "work"
    target.mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(snapshot.UnsafeArchive):
        snapshot.unpack(archive(tmp_path / "a.tgz", *members), target, bytes_max=1000, members_max=50)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "a.tgz"])


def test_an_honest_archive_is_unpacked_with_its_links_and_modes(tmp_path: Path) -> None:
    target = tmp_path / "work"
    target.mkdir()
    members: list[tuple[str, dict[str, Any], bytes]] = [
        ("./src/train.py", {"mode": 0o4755}, b"print(1)"),
        ("src/link.py", {**LINK, "linkname": "train.py"}, b""),
        ("deep/down/up", {**LINK, "linkname": "../../src"}, b""),
        ("hard.py", {**HARD, "linkname": "src/train.py"}, b""),
    ]
    snapshot.unpack(archive(tmp_path / "a.tgz", *members), target)
    assert (target / "deep/down/up/link.py").read_bytes() == b"print(1)"
    assert (target / "hard.py").read_bytes() == b"print(1)"
    assert (target / "src/train.py").stat().st_mode & 0o7777 == 0o755


def test_damaged_bytes_are_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"nonsense")
    with pytest.raises(snapshot.UnsafeArchive, match="damaged"):
        snapshot.unpack(tmp_path / "a.tgz", tmp_path)


@pytest.mark.parametrize("chunk", [1, 7, 1000, 100000])
def test_a_log_within_its_bounds_is_kept_byte_for_byte(tmp_path: Path, chunk: int) -> None:
    data = b"".join(b"line %d\n" % n for n in range(1000))
    log = BoundedLog(tmp_path / "log", len(data) - 500, 600)
    for at in range(0, len(data), chunk):
        log.write(data[at : at + chunk])
    log.finish()
    assert (tmp_path / "log").read_bytes() == data


@pytest.mark.parametrize("chunk", [1, 77, 5000])
def test_a_longer_log_says_how_many_bytes_are_missing(tmp_path: Path, chunk: int) -> None:
    data = b"".join(b"line %d\n" % n for n in range(1000))
    log = BoundedLog(tmp_path / "log", 100, 200)
    for at in range(0, len(data), chunk):
        log.write(data[at : at + chunk])
    log.finish()
    kept = (tmp_path / "log").read_bytes()
    mark = kept[kept.index(b"\n[hostler] ") :].splitlines(keepends=True)[1]
    head, tail = kept.split(b"\n" + mark)
    assert head == data[:100]
    assert data.endswith(tail)
    assert 0 < len(tail) <= 200
    assert len(head) + len(tail) + int(mark.split()[1]) == len(data)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_costs_output_and_raises_nothing() -> None:
    log = BoundedLog(Path("/dev/full"), 1000, 100)
    log.write(b"x" * 5000)
    log.finish()


@pytest.mark.parametrize(
    ("grace", "killed_after"), [(120, 115), (30, 25), (10, 8), (1, 0.8), (0, 0), (-5, 0)]
)
def test_the_kill_comes_before_the_deadline_and_short_graces_keep_most(
    grace: float, killed_after: float
) -> None:
    assert plan_stop("stopped", 1000.0, grace).kill_at == pytest.approx(1000.0 + killed_after)


def test_a_second_stop_may_hurry_but_never_delay_nor_change_the_reason() -> None:
    first = plan_stop("stopped", 0.0, 10.0)
    assert sooner(first, plan_stop("preempted", 5.0, 60.0)) == first
    hurried = sooner(first, plan_stop("preempted", 1.0, 2.0))
    assert hurried.reason == "stopped"
    assert hurried.kill_at < first.kill_at


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        ("", 0),
        (0, 0),
        (90, 90),
        ("90s", 90),
        ("1h30m", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("7", 7),
    ],
)
def test_durations_are_read_as_the_configuration_prints_them(value: object, expected: float) -> None:
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["soon", "5 parsecs", "h1"])
def test_what_is_no_duration_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(value)


def test_the_configuration_and_the_agent_agree_on_durations() -> None:
    units = pytest.importorskip("hostler.config.units")
    for value in (0.05, 1, 90, 3661.5, 86400, 2_000_000):
        assert seconds(units.print_duration(value)) == pytest.approx(value)


def test_words_are_run_as_they_are_and_only_a_shell_line_is_wrapped() -> None:
    assert command(["python", "train.py"]) == (["python", "train.py"], False)
    for run in ("train | tee log", ["sh", "-c", "train | tee log"]):
        words, shell = command(run)
        assert shell
        assert words[2].endswith("; train | tee log")


def test_without_a_cgroup_the_subreaper_alone_leaves_nobody(tmp_path: Path) -> None:
    program = f"""if True:
        import os, pathlib, subprocess, sys
        from hostler.agent_bootstrap.agent import tree
        tree.Cgroup.create = classmethod(lambda cls, folder: None)
        whole = tree.Tree(pathlib.Path("/t"))
        leader = subprocess.Popen([sys.executable, "-c", {HOSTILE!r}], stdout=subprocess.PIPE, preexec_fn=whole.enter)
        leader.returncode, whole.leader = 0, leader.pid
        leader.stdout.readline()
        print(*tree.descendants(os.getpid()), flush=True)
        print("left", *whole.destroy(), flush=True)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    tree, left = done.stdout.splitlines()
    assert len(tree.split()) >= 6, done.stderr
    assert left == "left"
    assert not [pid for pid in map(int, tree.split()) if alive(pid)]

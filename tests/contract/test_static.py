"""What is static hosts' own: host keys, silent machines, one instance a host, release without switching off."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from contract.harness import eventually, running, state_of
from contract.sshd import keygen
from contract.static_harness import StaticHarness
from hostler.config.static import StaticProvider as Section
from hostler.providers.base import (
    AuthFailed,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Market,
    Unavailable,
)
from hostler.providers.static import host as host_module
from hostler.providers.static import program
from hostler.providers.static.on_host import machine as machine_module
from hostler.providers.static.on_host import starting

pytestmark = pytest.mark.slow

HARD_TO_KILL = """
trap '' TERM
(setsid sh -c 'trap "" TERM; sleep 600' &)
(env -i setsid sh -c 'sleep 600 & sleep 600' &)
setsid sleep 600 &
echo ready >"$HOSTLER_HOME/ready"
sleep 600
"""


def request_for(static: StaticHarness, number: int, user_data: str | None = None) -> LaunchRequest:
    request = replace(static.request(), offer=static.offer_of(number))
    return request if user_data is None else replace(request, user_data=user_data)


def only_first(static: StaticHarness, **changes: object) -> Section:
    """One host, with `changes` to what is said of it."""
    machine = static.machines[0]
    host = {"ssh": machine.ssh, "name": machine.folder.name, "home": str(machine.home), **changes}
    if not {"host_key", "known_hosts"} & set(changes):
        host["host_key"] = machine.host_key
    return static.section(hosts=[host])


def test_a_host_holds_one_instance_and_is_free_again_once_that_has_ended(static: StaticHarness) -> None:
    provider, first, second = static.provider(), request_for(static, 0), request_for(static, 0)
    (made,) = provider.launch(first).instances
    with pytest.raises(InsufficientCapacity, match="this server's instance"):
        provider.launch(second)
    provider.terminate(made.ref)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended")
    (other,) = provider.launch(second).instances
    assert other.state is CloudState.RUNNING
    assert other.ref == f"host-0/{second.token}"


def test_a_host_that_another_server_uses_is_full_and_never_touched(static: StaticHarness) -> None:
    theirs = static.provider("another-server")
    request = replace(static.request(server_id="another-server"), offer=static.offer_of(0))
    (their,) = theirs.launch(request).instances
    ours = static.provider()
    with pytest.raises(InsufficientCapacity, match="another server's instance"):
        ours.launch(request_for(static, 0))
    with pytest.raises(InstanceNotFound):
        ours.terminate(their.ref)
    assert state_of(theirs, their.ref) is CloudState.RUNNING
    theirs.terminate(their.ref)
    eventually(lambda: state_of(theirs, their.ref) is CloudState.TERMINATED, "ended")


def test_an_unknown_host_key_is_refused_and_the_line_to_add_is_told(static: StaticHarness) -> None:
    empty = static.folder / "known_hosts"
    empty.touch()
    with pytest.raises(AuthFailed, match=r"host key SHA256:.* is not known") as caught:
        static.provider(section=only_first(static, known_hosts=str(empty))).launch(request_for(static, 0))
    machine = static.machines[0]
    assert f"host_key: '{machine.host_key}'" in caught.value.hint
    empty.write_text(f"[127.0.0.1]:{machine.port} {machine.host_key}\n")
    made = static.provider(section=only_first(static, known_hosts=str(empty))).launch(request_for(static, 0))
    assert len(made.instances) == 1


def test_a_changed_host_key_is_refused_with_both_fingerprints(static: StaticHarness) -> None:
    other = keygen(static.folder / "other").with_suffix(".pub").read_text()
    section = only_first(static, host_key=" ".join(other.split()[:2]))
    with pytest.raises(AuthFailed, match=r"has changed: SHA256:.* instead of SHA256:") as caught:
        static.provider(section=section).launch(request_for(static, 0))
    assert "ssh-keygen -R" in caught.value.hint


def test_a_key_with_a_passphrase_and_one_that_is_missing_are_told_apart(static: StaticHarness) -> None:
    locked = keygen(static.folder / "locked", passphrase="a secret of a person")
    with pytest.raises(AuthFailed, match="passphrase") as caught:
        static.provider(section=only_first(static, key_file=str(locked))).launch(request_for(static, 0))
    assert "ssh-agent" in caught.value.hint
    with pytest.raises(AuthFailed, match="No such file") as caught:
        static.provider(section=only_first(static, key_file="/nonexistent")).launch(request_for(static, 0))
    assert "key_file" in caught.value.hint


def test_one_dead_machine_hides_no_instance_and_holds_up_no_other(static: StaticHarness) -> None:
    provider = static.provider()
    (dead,) = provider.launch(request_for(static, 0)).instances
    (alive,) = provider.launch(request_for(static, 1)).instances
    static.machines[0].stop()
    listed = {one.ref: one for one in provider.instances()}
    assert listed[alive.ref].state is CloudState.RUNNING
    assert (listed[dead.ref].state, listed[dead.ref].tags) == (CloudState.RUNNING, dead.tags)
    assert "as last known: host-0" in listed[dead.ref].detail
    assert {one.ref for one in static.provider().instances()} == {dead.ref, alive.ref}, "after a restart too"
    with pytest.raises(Unavailable, match="host-0"):
        provider.terminate(dead.ref)
    provider.terminate(alive.ref)
    eventually(lambda: state_of(provider, alive.ref) is CloudState.TERMINATED, "the other one ended")
    static.heal()
    (again,) = [one for one in provider.instances() if one.ref == dead.ref]
    assert (again.state, again.detail) == (CloudState.RUNNING, "")


def test_a_silent_machine_is_not_asked_again_at_every_listing(static: StaticHarness) -> None:
    provider = static.provider()
    silent = provider._hosts["host-0"]
    static.machines[0].stop()
    provider.instances()
    static.machines[0].start()
    static.monotonic.ahead_seconds -= 3_600.0
    provider.instances()
    assert silent.trouble is not None
    static.monotonic.ahead_seconds += 7_200.0
    provider.instances()
    assert silent.trouble is None


def test_a_launch_that_a_dead_machine_never_heard_leaves_nothing_on_record(static: StaticHarness) -> None:
    provider, request = static.provider(), request_for(static, 0)
    static.machines[0].stop()
    with pytest.raises(Unavailable, match="can't be reached") as caught:
        provider.launch(request)
    assert not caught.value.maybe_created
    assert provider.instances() == ()


def test_a_lost_reply_is_on_record_until_the_host_says_what_became_of_it(static: StaticHarness) -> None:
    request = request_for(static, 0)
    static.launch_and_lose_the_reply(request)
    static.machines[0].stop()
    (perhaps,) = static.provider().instances()
    assert (perhaps.state, perhaps.intent) == (CloudState.PENDING, request.token)
    static.heal()
    (found,) = static.provider().instances()
    assert (found.state, found.ref) == (CloudState.RUNNING, perhaps.ref)


def test_an_instance_on_a_host_that_left_fleet_yaml_is_still_listed_and_ended(static: StaticHarness) -> None:
    (made,) = static.provider().launch(request_for(static, 0)).instances
    without = static.provider(section=static.section(hosts=_hosts_from(static, 1)))
    assert [one.ref for one in without.instances()] == [made.ref]
    without.terminate(made.ref)
    eventually(lambda: made.ref not in [one.ref for one in running(without)], "ended")
    assert static.left() == []


def test_a_host_that_left_fleet_yaml_and_stays_silent_is_given_up(static: StaticHarness) -> None:
    (made,) = static.provider().launch(request_for(static, 0)).instances
    without = static.provider(section=static.section(hosts=_hosts_from(static, 1)))
    static.machines[0].stop()
    assert state_of(without, made.ref) is CloudState.RUNNING
    static.clock.ahead_seconds += host_module.GIVEN_UP_AFTER_SECONDS
    assert state_of(without, made.ref) is CloudState.TERMINATED
    without.terminate(made.ref)
    static.clock.ahead_seconds += host_module.LISTED_SECONDS
    assert without.instances() == ()


def _hosts_from(static: StaticHarness, first: int) -> list[dict[str, object]]:
    return [host.to_dict() for host in static.section().hosts[first:]]


def test_a_machine_that_was_started_anew_is_free_again(static: StaticHarness) -> None:
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0)).instances
    folder = static.machines[0].instance
    started = json.loads((folder / "started.json").read_text())
    (folder / "started.json").write_text(json.dumps({**started, "boot_id": "the one before"}))
    for pid in static.processes():
        os.kill(pid, signal.SIGKILL)
    (listed,) = provider.instances()
    assert (listed.state, listed.detail) == (CloudState.TERMINATED, "the machine was started anew")
    assert not folder.exists()
    assert provider.launch(request_for(static, 0)).instances[0].ref != made.ref


def test_an_instance_whose_script_ends_frees_its_host_by_itself_and_says_how(static: StaticHarness) -> None:
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0, "setsid sleep 600 &\necho so long\nexit 3\n")).instances
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended by itself")
    (listed,) = provider.instances()
    assert listed.detail == "its script ended with exit code 3"
    assert static.left() == []
    (log,) = static.machines[0].home.glob("on-*/ended/*.log")
    assert log.read_text() == "so long\n"


def test_terminate_kills_children_that_ignore_sigterm_fork_twice_and_wipe_their_environment(
    static: StaticHarness,
) -> None:
    static.grace_seconds = 0.3
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0, HARD_TO_KILL)).instances
    ready = static.machines[0].instance / "ready"
    eventually(ready.exists, "its children started")
    keeper = int(json.loads((static.machines[0].instance / "started.json").read_text())["pid"])
    eventually(lambda: len(_below(keeper)) >= 7, "all of them run")
    born = _below(keeper)
    provider.terminate(made.ref)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended")
    assert [pid for pid in born if _is_alive(pid)] == []


def test_a_killed_keeper_takes_its_children_with_it_at_the_next_look(static: StaticHarness) -> None:
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0, "setsid sleep 600 &\nsleep 600\n")).instances
    keeper = int(json.loads((static.machines[0].instance / "started.json").read_text())["pid"])
    eventually(lambda: len(_below(keeper)) >= 3, "they run")
    born = _below(keeper)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "released")
    assert [pid for pid in born if _is_alive(pid)] == []


def test_a_keeper_that_is_stuck_is_killed_once_it_is_long_overdue(static: StaticHarness) -> None:
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0)).instances
    folder = static.machines[0].instance
    keeper = int(json.loads((folder / "started.json").read_text())["pid"])
    os.kill(keeper, signal.SIGSTOP)
    provider.terminate(made.ref)
    assert state_of(provider, made.ref) is CloudState.STOPPING
    doom = json.loads((folder / "doom.json").read_text())
    (folder / "doom.json").write_text(json.dumps({**doom, "at": doom["at"] - 3_600}))
    assert state_of(provider, made.ref) is CloudState.TERMINATED
    assert not _is_alive(keeper)


def _below(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            continue
        found += [int(child) for child in children]
    return found[1:]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_agent_says_good_bye_before_its_tree_is_killed(static: StaticHarness) -> None:
    bye = static.folder / "bye"
    script = f"trap 'echo bye >{bye}; exit 0' TERM\ntouch up\nwhile :; do sleep 0.05; done\n"
    static.grace_seconds = 20.0
    provider = static.provider()
    (made,) = provider.launch(request_for(static, 0, script)).instances
    eventually((static.machines[0].instance / "up").exists, "the script runs")
    provider.terminate(made.ref)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended")
    assert bye.read_text() == "bye\n"


def test_the_script_finds_its_folder_no_cloud_and_no_secret_and_nobody_else_may_read_it(
    static: StaticHarness,
) -> None:
    script = (
        'env >"$HOSTLER_HOME/seen.new"\nmv seen.new seen\n# join-token-of-the-test\n' + static.user_data()
    )
    static.provider().launch(request_for(static, 0, script))
    folder = static.machines[0].instance
    eventually((folder / "seen").exists, "the script ran in its folder")
    told = dict(line.split("=", 1) for line in (folder / "seen").read_text().splitlines() if "=" in line)
    assert told["HOSTLER_HOME"] == str(folder)
    assert (told["HOSTLER_LOCAL"], told["HOSTLER_CLOUD"]) == ("1", "")
    assert "SSH_CONNECTION" not in told
    assert "HOSTLER_INVENTORY" not in told
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "user-data").stat().st_mode & 0o777 == 0o700
    assert (folder / "record.json").stat().st_mode & 0o777 == 0o600
    assert "join-token-of-the-test" not in (folder / "record.json").read_text()
    arguments = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"join-token-of-the-test" in one for one in arguments)
    assert "join-token-of-the-test" not in "".join(
        path.read_text() for path in static.state_dir.glob("static/*/*.json")
    )


def test_what_fleet_yaml_says_of_a_machine_is_what_its_agent_reports(static: StaticHarness) -> None:
    section = only_first(static, cpus=2, memory="3GiB", gpus="none")
    provider = static.provider(section=section)
    offers = provider.offers()
    assert {offer.market for offer in offers} == {Market.SPOT, Market.ON_DEMAND}
    assert {(offer.cpus, offer.memory_bytes, offer.gpu) for offer in offers} == {(2.0, 3 * 2**30, None)}
    assert {offer.usd_per_hour for offer in offers} == {0.001}
    provider.launch(replace(static.request(), offer=offers[0]))
    found = json.loads((static.machines[0].instance / "inventory.json").read_text())
    assert found == {"cpus": 2, "memory_bytes": 3 * 2**30, "gpus": []}


def test_gpus_are_found_by_nvidia_smi_and_normalised(static: StaticHarness) -> None:
    with _gpus(static, "GPU-a, NVIDIA GeForce RTX 4090, 24564\nGPU-b, NVIDIA GeForce RTX 4090, 24564\n"):
        offer = static.provider(section=only_first(static)).offers()[0]
        assert offer.gpu is not None
        assert (offer.gpu.name, offer.gpu.count, offer.gpu.memory_bytes) == ("RTX4090", 2, 24564 * 2**20)
        provider = static.provider(section=only_first(static, gpus="RTX4090:1"))
        provider.launch(replace(static.request(), offer=provider.offers()[0]))
    found = json.loads((static.machines[0].instance / "inventory.json").read_text())
    assert [gpu["uuid"] for gpu in found["gpus"]] == ["GPU-a"]


def test_fewer_gpus_than_fleet_yaml_says_are_a_mistake_to_mend(static: StaticHarness) -> None:
    provider = static.provider(section=only_first(static, gpus="RTX4090:2"))
    with pytest.raises(InvalidConfig, match="should have 2 GPUs, and nvidia-smi lists 0") as caught:
        provider.launch(replace(static.request(), offer=provider.offers()[0]))
    assert "correct gpus" in caught.value.hint
    (bad,) = [check for check in provider.check() if not check.ok]
    assert bad.name == "host-0 gpus"
    assert static.left() == []


@contextmanager
def _gpus(static: StaticHarness, listed: str) -> Iterator[None]:
    """An nvidia-smi on the path of the first machine."""
    machine = static.machines[0]
    tools = static.folder / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
    (tools / "nvidia-smi").chmod(0o755)
    usual, machine.python = machine.python, f"{tools}:{machine.python}"
    machine.stop()
    machine.start()
    try:
        yield
    finally:
        machine.python = usual
        machine.stop()
        machine.start()


def test_a_home_that_others_may_write_is_refused(static: StaticHarness) -> None:
    request = request_for(static, 0)
    (root,) = static.machines[0].home.glob("on-*")
    root.chmod(0o777)
    try:
        with pytest.raises(InvalidConfig, match="and to nobody else"):
            static.provider().launch(request)
    finally:
        root.chmod(0o700)


def test_a_machine_without_python_is_told(static: StaticHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "COMMAND", program.COMMAND.replace(" ".join(program.PYTHONS), "no-python"))
    with pytest.raises(InvalidConfig, match=r"no python3 of version 3\.9"):
        static.provider().launch(request_for(static, 0))


def test_the_connection_is_used_again_and_made_anew_when_it_broke(static: StaticHarness) -> None:
    provider = static.provider(section=only_first(static))
    log = static.machines[0].folder / "sshd.log"
    before = log.read_text().count("Accepted publickey")
    provider.instances()
    provider.instances()
    assert log.read_text().count("Accepted publickey") == before + 1
    static.machines[0].stop()
    static.machines[0].start()
    assert provider.instances() == ()
    assert log.read_text().count("Accepted publickey") == before + 2


def test_the_doctor_says_what_is_wrong_with_each_host_and_goes_on(static: StaticHarness) -> None:
    static.machines[0].stop()
    checks = {check.name: check for check in static.provider().check()}
    assert not checks["host-0 ssh"].ok
    assert "ssh -p" in checks["host-0 ssh"].hint
    assert checks["host-1 python"].ok
    assert checks["host-1 service"].detail.startswith("the agent runs as ")


def test_the_modules_of_the_program_share_no_name_so_that_they_can_be_joined() -> None:
    names = Counter(
        node.name
        for node in ast.parse(program.text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []
    parts = {path.stem for path in program.FOLDER.glob("*.py")} - {"__init__"}
    assert parts == set(program.PARTS)


def test_the_program_parses_as_the_oldest_python_and_loads_the_standard_library_only() -> None:
    tree = ast.parse(program.text(), feature_version=(3, 9))
    imported = {
        name.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for name in node.names
    } | {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names


def test_a_question_that_cannot_be_answered_is_a_refusal_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    question = {"verb": "facts", "home": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-IS", "-"], input=program.asking(question), capture_output=True, check=True
    )
    assert b'"refused": "home"' in done.stdout


@pytest.mark.parametrize("root", [True, False])
def test_under_systemd_the_keeper_is_a_transient_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    asked = tmp_path / "asked"
    tool = tmp_path / "systemd-run"
    tool.write_text(f'#!/bin/sh\necho "$XDG_RUNTIME_DIR $@" >{asked}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    kind = "systemd" if root else "user"
    monkeypatch.setattr(starting, "service", lambda: kind)
    assert starting.start_service(["python3", "program.py"], "h-1")
    said = asked.read_text()
    assert "--unit=hostler-h-1" in said
    assert "--property=Delegate=yes" in said
    assert ("--user" in said) is not root
    assert said.endswith("python3 program.py\n")


def test_a_systemd_that_would_not_start_it_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(starting, "service", lambda: "systemd")
    assert not starting.start_service(["python3"], "h-1")


def test_a_user_whose_services_end_with_the_session_gets_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "SYSTEMD", Path("/"))
    monkeypatch.setattr(
        "hostler.providers.static.on_host.machine.shutil.which", lambda name: "/usr/bin/systemd-run"
    )
    monkeypatch.setattr("hostler.providers.static.on_host.machine.os.geteuid", lambda: 4_000_000)
    assert machine_module.service() == "process"
    monkeypatch.setattr("hostler.providers.static.on_host.machine.os.geteuid", lambda: 0)
    assert machine_module.service() == "systemd"

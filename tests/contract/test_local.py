"""What is the local provider's own: processes, folders, kills, reclaims."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from contract.harness import eventually, running, state_of
from contract.local_harness import LocalHarness
from hostler.config.local import LocalProvider as Section
from hostler.providers.base import (
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    Unavailable,
)
from hostler.providers.local import processes, retention
from hostler.providers.local.adapter import LocalProvider

STEPS = ("folder", "user-data", "inventory", "record", "started")
HARD_TO_KILL = """
trap '' TERM
(setsid sh -c 'trap "" TERM; sleep 600' &)
(env -i sh -c 'trap "" TERM; sleep 600 & sleep 600' &)
(env -i setsid sh -c 'sleep 600' &)
setsid sleep 600 &
sleep 600 &
echo ready >"$HOSTLER_HOME/ready"
sleep 600
"""


def first_pid(local: LocalHarness, token: str) -> int:
    return int(json.loads((local.folder(token) / "first.json").read_text())["pid"])


def ends(local: LocalHarness, ref: str) -> None:
    provider = local.provider()
    eventually(lambda: state_of(provider, ref) is CloudState.TERMINATED, f"{ref} terminated")


@pytest.mark.parametrize("step", STEPS)
def test_a_daemon_killed_after_any_step_of_a_launch_and_replayed_leaves_one_instance(
    local: LocalHarness, step: str
) -> None:
    request = local.request()
    request = replace(request, user_data='echo one >>"$HOSTLER_HOME/runs"\n' + local.user_data())
    local.kill_daemon_in_launch(request, after=step)
    made = local.provider().launch(request).instances
    local.provider().launch(request)
    runs = local.folder(request.token) / "runs"
    eventually(runs.exists, "the user-data ran")
    assert [one.intent for one in running(local.provider())] == [request.token]
    assert len(made) == 1
    assert runs.read_text() == "one\n"


def test_an_instance_that_was_recorded_but_not_started_is_listed_and_can_be_terminated(
    local: LocalHarness,
) -> None:
    request = local.request()
    local.kill_daemon_in_launch(request, after="record")
    (listed,) = local.provider().instances()
    assert listed.state is CloudState.PENDING
    local.provider().terminate(listed.ref)
    ends(local, listed.ref)
    (again,) = local.provider().launch(request).instances
    assert again.state is CloudState.TERMINATED
    assert local.left() == []


def test_instances_outlive_the_daemon(local: LocalHarness) -> None:
    request = local.request()
    local.launch_and_lose_the_reply(request)
    (listed,) = local.provider().instances()
    assert listed.state is CloudState.RUNNING
    pid = first_pid(local, request.token)
    assert os.getsid(pid) == pid != os.getsid(0)


def test_the_script_finds_its_folder_its_inventory_and_the_daemons_python_and_no_secret(
    local: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of the daemon")
    request = replace(
        local.request(), user_data=f'env >"$HOSTLER_HOME/seen.new"\nmv seen.new seen\n{local.user_data()}'
    )
    local.provider().launch(request)
    seen = local.folder(request.token) / "seen"
    eventually(seen.exists, "the script ran in its folder")
    told = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    home = str(local.folder(request.token))
    assert told["HOSTLER_HOME"] == home
    assert told["HOSTLER_LOCAL"] == "1"
    assert told["HOSTLER_CLOUD"] == "local"
    assert told["HOSTLER_NOTICE_FILE"] == f"{home}/notice.json"
    assert told["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert "a secret of the daemon" not in seen.read_text()
    assert (local.folder(request.token) / "user-data").stat().st_mode & 0o777 == 0o700
    assert local.folder(request.token).stat().st_mode & 0o777 == 0o700


def test_the_inventory_imitates_the_offers_gpus(local: LocalHarness) -> None:
    local.section = Section.model_validate(
        {
            "type": "local",
            "offers": [{"name": "big", "cpus": 2, "memory": "4GiB", "gpu": "T4:2", "market": "spot"}],
        }
    )
    request = local.request()
    local.provider().launch(request)
    found = json.loads((local.folder(request.token) / "inventory.json").read_text())
    assert (found["cpus"], found["memory_bytes"], found["disk_bytes"]) == (2, 4 * 2**30, 60 * 2**30)
    assert [gpu["name"] for gpu in found["gpus"]] == ["T4", "T4"]
    assert len({gpu["uuid"] for gpu in found["gpus"]}) == 2


def test_terminate_kills_children_that_fork_twice_change_session_ignore_sigterm_and_wipe_their_environment(
    local: LocalHarness,
) -> None:
    local.grace_seconds = 0.3
    request = replace(local.request(), user_data=HARD_TO_KILL)
    (made,) = local.provider().launch(request).instances
    eventually((local.folder(request.token) / "ready").exists, "its children started")
    eventually(lambda: len(sleepers(local, request.token)) >= 7, "all of its children run")
    born = sleepers(local, request.token)
    local.provider().terminate(made.ref)
    ends(local, made.ref)
    assert [pid for pid in born if processes.read(pid) is not None] == []


def sleepers(local: LocalHarness, token: str) -> list[int]:
    """Everything that keeps the instance's folder open, whatever its environment says."""
    folder = local.folder(token)
    return [one.pid for one in processes.everything().values() if processes._has_open(one.pid, folder)]


def test_sigterm_comes_first_so_that_an_agent_can_say_goodbye(local: LocalHarness) -> None:
    script = "trap 'echo bye >\"$HOSTLER_HOME/bye\"; exit 0' TERM\ntouch up\nwhile :; do sleep 0.05; done\n"
    request = replace(local.request(), user_data=script)
    local.grace_seconds = 10.0
    (made,) = local.provider().launch(request).instances
    eventually((local.folder(request.token) / "up").exists, "the script runs")
    local.provider().terminate(made.ref)
    ends(local, made.ref)
    assert (local.folder(request.token) / "bye").read_text() == "bye\n"


def test_an_agent_that_is_killed_takes_its_children_with_it(local: LocalHarness) -> None:
    request = replace(local.request(), user_data="setsid sleep 600 &\ntouch up\nexec sleep 600\n")
    provider = local.provider()
    (made,) = provider.launch(request).instances
    eventually((local.folder(request.token) / "up").exists, "the script runs")
    os.kill(first_pid(local, request.token), signal.SIGKILL)
    ends(local, made.ref)
    assert local.processes(request.token) == []


def test_an_instance_whose_script_ends_is_terminated_and_leaves_no_zombie(local: LocalHarness) -> None:
    request = replace(local.request(), user_data="echo hello from the script\nexit 3\n")
    provider = local.provider()
    (made,) = provider.launch(request).instances
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended by itself")
    pid = first_pid_or_none(local, request.token)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "its exit status was taken")
    assert (local.folder(request.token) / "console.log").read_text() == "hello from the script\n"


def first_pid_or_none(local: LocalHarness, token: str) -> int | None:
    path = local.folder(token) / "first.json"
    return first_pid(local, token) if path.exists() else None


def test_a_pid_used_again_by_somebody_else_is_not_signalled() -> None:
    bystander = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
    try:
        seen = processes.read(bystander)
        assert seen is not None
        replace(seen, start_ticks=seen.start_ticks - 1).signal(signal.SIGKILL)
        assert processes.read(bystander) is not None
        seen.signal(signal.SIGKILL)
        eventually(lambda: processes.read(bystander) is None, "killed when it is the very one")
    finally:
        os.waitpid(bystander, 0)


def test_a_termination_begun_by_a_daemon_that_died_is_finished_by_the_next(local: LocalHarness) -> None:
    local.grace_seconds = 0.2
    request = replace(local.request(), user_data="trap '' TERM\ntouch up\nwhile :; do sleep 0.05; done\n")
    dying = local.provider()
    (made,) = dying.launch(request).instances
    eventually((local.folder(request.token) / "up").exists, "the script runs")
    dying.close()
    dying.terminate(made.ref)
    assert state_of(dying, made.ref) is not CloudState.TERMINATED
    ends(local, made.ref)


def test_a_reclaim_gives_notice_first_and_then_kills_without_asking(local: LocalHarness) -> None:
    provider, request = (
        local.provider(),
        replace(local.request(), user_data="trap 'touch asked' TERM\n" + "sleep 600\n" * 9),
    )
    (made,) = provider.launch(request).instances
    provider.reclaim(made.ref, 0.5)
    assert json.loads((local.folder(request.token) / "notice.json").read_text()) == {"seconds_left": 0.5}
    assert state_of(provider, made.ref) is CloudState.RUNNING
    eventually(lambda: not local.processes(request.token), "killed without a further call")
    (ended,) = [one for one in provider.instances() if one.ref == made.ref]
    assert (ended.state, ended.detail) == (CloudState.TERMINATED, "reclaimed")
    assert not (local.folder(request.token) / "asked").exists()


def test_a_reclaim_without_notice_kills_at_once(local: LocalHarness) -> None:
    provider, request = local.provider(), local.request()
    (made,) = provider.launch(request).instances
    provider.reclaim(made.ref, 0.0)
    ends(local, made.ref)
    assert not (local.folder(request.token) / "notice.json").exists()


def test_a_reclaim_is_carried_out_by_the_next_daemon_if_this_one_dies(local: LocalHarness) -> None:
    dying, request = local.provider(), local.request()
    (made,) = dying.launch(request).instances
    dying.close()
    dying.reclaim(made.ref, 0.1)
    ends(local, made.ref)


def test_reclaiming_what_is_not_there_is_not_found(local: LocalHarness) -> None:
    with pytest.raises(InstanceNotFound):
        local.provider().reclaim(local.missing_ref(), 1.0)


def test_max_instances_is_the_capacity_and_ended_ones_give_it_back(local: LocalHarness) -> None:
    local.section = Section(type="local", max_instances=2)
    provider = local.provider()
    first = provider.launch(local.request()).instances[0]
    provider.launch(local.request())
    with pytest.raises(InsufficientCapacity, match="2 instances of max_instances 2"):
        provider.launch(local.request())
    provider.terminate(first.ref)
    ends(local, first.ref)
    provider.launch(local.request())
    assert len(running(provider)) == 2


def test_a_count_beyond_the_capacity_gives_what_there_is_and_an_error_for_the_rest(
    local: LocalHarness,
) -> None:
    local.section = Section(type="local", max_instances=2)
    result = local.provider().launch(local.request(count=5))
    assert len(result.instances) == 2
    assert [type(error) for error in result.errors] == [InsufficientCapacity]


def test_a_token_with_other_parameters_is_refused(local: LocalHarness) -> None:
    provider, request = local.provider(), local.request()
    provider.launch(request)
    with pytest.raises(InvalidConfig, match="used before with other parameters"):
        provider.launch(replace(request, user_data="echo other\n"))
    assert len(running(provider)) == 1


@pytest.mark.parametrize("token", ["", "../x", "Upper", "1st", "a/b", "a" * 65])
def test_a_token_that_cannot_be_a_folder_is_refused(local: LocalHarness, token: str) -> None:
    with pytest.raises(InvalidConfig):
        local.provider().launch(replace(local.request(), token=token))


def test_a_broken_record_is_an_error_and_never_a_shorter_list(local: LocalHarness) -> None:
    provider, request = local.provider(), local.request()
    provider.launch(request)
    record = local.folder(request.token) / "instance.json"
    whole = record.read_text()
    record.write_text(whole[:20])
    with pytest.raises(Unavailable, match="can't be read"):
        provider.instances()
    record.write_text(whole)


def test_ended_instances_are_listed_for_a_while_then_only_their_logs_stay_then_nothing(
    local: LocalHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEPT_ENDED", 2)
    provider = local.provider()
    tokens = [local.token() for _ in range(4)]
    for token in tokens:
        request = replace(local.request(token), user_data="echo $HOSTLER_HOME\nmkdir work\ntouch work/big\n")
        (made,) = provider.launch(request).instances
        ends(local, made.ref)
    assert len(provider.instances()) == 4
    later = LocalProvider(
        "here", local.section, local.context(), clock=lambda: time.time() + retention.LISTED_SECONDS + 1
    )
    assert later.instances() == ()
    later.instances()
    kept = [token for token in tokens if local.folder(token).exists()]
    assert kept == tokens[2:]
    for token in kept:
        names = {path.name for path in local.folder(token).iterdir()}
        assert names == {"instance.json", "ended.json", "console.log"}


def test_two_local_providers_share_a_folder_and_not_their_instances(local: LocalHarness) -> None:
    here = local.provider()
    there = LocalProvider("there", local.section, local.context())
    (made,) = here.launch(local.request()).instances
    assert there.instances() == ()
    with pytest.raises(InstanceNotFound):
        there.terminate(made.ref)

"""The rendered script: valid, safe with hostile values, small enough, and it brings an agent up for real."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agent.agent_process import AgentProcess
from agent.wire_server import JOIN_TOKEN, WireServer
from hostler.agent_bootstrap import package, userdata
from hostler.agent_bootstrap.userdata import UserData, render

Serve = Callable[..., WireServer]
GOOD = UserData(url="https://fleet.example:8480", join_token="t0ken", agent_sha256="a" * 64)
PEM = "-----BEGIN CERTIFICATE-----\nMIIB'; touch /tmp/x; '\n-----END CERTIFICATE-----"
HOSTILE_TEXT = "a'b\"c$(touch pwned)`touch pwned`${IFS};&|\\ é"


def run_script(script: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = home.with_suffix(".sh")
    path.write_text(script)
    env = {"PATH": os.environ["PATH"], "HOSTLER_HOME": str(home), "HOSTLER_LOCAL": "1", **environ}
    return subprocess.run(
        ["sh", str(path)], env=env, capture_output=True, text=True, timeout=60, cwd=home.parent
    )


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_every_shell_parses_the_script(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} on this machine")
    script = tmp_path / "user-data"
    script.write_text(render(dataclasses.replace(GOOD, ca_pem=PEM, join_token=HOSTILE_TEXT)))
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck on this machine")
    script = tmp_path / "user-data"
    script.write_text(render(dataclasses.replace(GOOD, ca_pem=PEM)))
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_cloud_init_takes_it_for_a_script_to_run(tmp_path: Path) -> None:
    if not shutil.which("cloud-init"):
        pytest.skip("no cloud-init on this machine")
    code = """if True:
        import sys
        from cloudinit import handlers, user_data
        parts = list(user_data.UserDataProcessor({}).process(open(sys.argv[1], "rb").read()).walk())
        print([part.get_content_type() for part in parts if part.get_content_maintype() != "multipart"])
    """
    script = tmp_path / "user-data"
    script.write_text(render(GOOD))
    interpreter = (
        Path(shutil.which("cloud-init") or "").resolve().read_text().splitlines()[0].removeprefix("#!")
    )
    done = subprocess.run([*interpreter.split(), "-c", code, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "text/x-shellscript" in done.stdout


def test_the_same_values_give_the_same_bytes_and_few_of_them() -> None:
    script = render(dataclasses.replace(GOOD, ca_pem=PEM))
    assert script == render(dataclasses.replace(GOOD, ca_pem=PEM))
    assert script.startswith("#!/bin/sh\n")
    assert len(script.encode()) < userdata.USER_DATA_BYTES_MAX
    assert "set -x" not in script


def test_a_script_that_ec2_would_not_take_is_refused() -> None:
    large = "-----BEGIN CERTIFICATE-----\n" + "x" * userdata.USER_DATA_BYTES_MAX
    with pytest.raises(ValueError, match="16384"):
        render(dataclasses.replace(GOOD, ca_pem=large))


@pytest.mark.parametrize(
    "change",
    [
        {"url": "fleet:8480"},
        {"url": "ftp://fleet"},
        {"join_token": ""},
        {"join_token": "two\nlines"},
        {"agent_sha256": "A" * 64},
        {"home": "relative"},
        {"home": "/var/$(id)"},
        {"home": "/var/../etc"},
        {"cloud": "unknown"},
        {"ca_pem": "not a certificate"},
        {"dead_man_seconds": 0},
    ],
)
def test_values_no_instance_could_start_with_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).replace("_", "[_ ]")):
        render(dataclasses.replace(GOOD, **change))  # type: ignore[arg-type]


def test_hostile_values_stay_values_and_secrets_stay_out_of_the_output(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = render(
        dataclasses.replace(
            GOOD, url="http://127.0.0.1:9", join_token=HOSTILE_TEXT, ca_pem=PEM, bootstrap_seconds=1
        )
    )
    done = run_script(script, home)
    assert done.returncode == 1
    assert "fetch failed" in done.stderr
    assert HOSTILE_TEXT not in done.stdout + done.stderr
    assert (home / "join-token").read_text() == HOSTILE_TEXT
    assert (home / "join-token").stat().st_mode & 0o777 == 0o600
    assert (home / "ca.pem").read_text() == PEM + "\n"
    assert not list(tmp_path.rglob("pwned"))


def test_it_brings_up_an_agent_that_runs_a_task(serve: Serve, tmp_path: Path) -> None:
    server = serve(zipapp=package.build_zipapp())
    server.errors_to_give = 2
    agent = AgentProcess(tmp_path / "home", server.url)
    for name in ("agent.pyz", "join-token"):
        (agent.home / name).unlink()
    script = tmp_path / "user-data"
    script.write_text(render(UserData(server.url, JOIN_TOKEN, package.sha256(), cloud="local")))
    task = server.submit("echo on a fresh machine")
    environ = {name: value for name, value in agent.environ.items() if name != "HOSTLER_URL"}
    agent.process = subprocess.Popen(["sh", str(script)], env=environ, start_new_session=True)
    try:
        server.wait_for(lambda: task.result)
        assert bytes(task.log) == b"on a fresh machine\n"
        group = os.getpgid(agent.process.pid)
        assert {os.getpgid(pid) for pid in agent.processes()} == {group}
    finally:
        agent.end()


def test_an_agent_with_a_wrong_checksum_is_never_run(serve: Serve, tmp_path: Path) -> None:
    server = serve(zipapp=b"import os; os.abort()")
    done = run_script(render(UserData(server.url, JOIN_TOKEN, package.sha256())), tmp_path / "home")
    assert done.returncode == 1
    assert not (tmp_path / "home" / "agent.pyz").exists()
    assert server.failures[0]["stage"] == "fetch"
    assert "sha256" in server.failures[0]["message"]


def test_a_refused_join_token_is_not_tried_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(zipapp=package.build_zipapp())
    done = run_script(render(UserData(server.url, "wrong", package.sha256())), tmp_path / "home")
    assert done.returncode == 1
    assert [line for line in server.requests if "pyz" in line] == ["GET /api/v1/agent/hostler-agent.pyz"]


def test_an_image_without_python_is_told(serve: Serve, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl on this machine: without python there is nothing to report with")
    server = serve()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "cat", "tr", "id", "curl", "tail"):
        (tools / name).symlink_to(shutil.which(name) or name)
    script = render(UserData(server.url, JOIN_TOKEN, "a" * 64))
    for place in ("/usr/bin/python3", "/usr/libexec/platform-python"):
        script = script.replace(place, "/nowhere/python3")
    done = run_script(script, tmp_path / "home", PATH=str(tools))
    assert done.returncode == 1
    assert server.failures[0]["stage"] == "python"


def test_the_unit_it_writes_is_one_that_systemd_accepts(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze on this machine")
    text = render(GOOD).split("<<UNIT\n")[1].split("\nUNIT\n")[0]
    unit = tmp_path / "hostler-agent.service"
    unit.write_text(text.replace("$python", sys.executable).replace("$home", "/var/lib/hostler-agent") + "\n")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "hostler-agent.service" in line]
    assert (done.returncode, complaints) == (0, []), done.stderr

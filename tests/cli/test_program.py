"""The program without a daemon: usage, exit codes, what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli.calling import call, start

HEAVY = ("alembic", "apscheduler", "boto3", "fastapi", "httpx", "pydantic", "sqlalchemy", "uvicorn")


@pytest.mark.parametrize(
    "line",
    [
        "ps --bogus",
        "nonsense",
        "show",
        "show seven",
        "show 0",
        "ps --state sleeping",
        "ps -o xml",
        "submit",
        "submit --memory 3 -- true",
        "submit --env NOT_SET_ANYWHERE -- true",
        "submit -f /nonexistent/task.yaml",
        "submit --include *.bin --gpu 0x -- true",
        "wait 1 --timeout soon",
        "up --config /nonexistent.yaml",
        "config check /nonexistent.yaml",
        "config example mars",
        "ps --watch -o json",
        "explain",
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_what_cannot_be_meant_is_a_usage_error(line: str) -> None:
    done = call(*line.split())
    assert done.code == 2
    assert done.out == "" or "Usage" in done.out + done.err


@pytest.mark.usefixtures("nowhere")
def test_an_error_says_where_to_look() -> None:
    assert call("ps", "--bogus").err.splitlines()[-1] == "hint: hostler ps --help"


@pytest.mark.usefixtures("nowhere")
def test_no_daemon_is_code_7_with_what_to_do() -> None:
    done = call("ps")
    assert done.code == 7
    assert "hostler up --config" in done.err


def test_a_daemon_that_does_not_answer_is_code_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTLER_TOKEN", "any")
    done = call("--url", "http://127.0.0.1:9", "ps", "-o", "json")
    assert done.code == 7
    problem = json.loads(done.err)
    assert (problem["code"], problem["exit_code"]) == ("UNREACHABLE", 7)
    assert "hostler up" in problem["hint"]


@pytest.mark.usefixtures("nowhere")
def test_an_address_without_a_token_is_code_4() -> None:
    assert call("--url", "http://127.0.0.1:9", "ps").code == 4
    assert call("--url", "http://127.0.0.1:9", "--token-file", "/nonexistent", "ps").code == 4


def test_the_variables_win_over_the_client_file_and_options_over_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hostler.fleet.cli import session

    (tmp_path / "token").write_text("from-file\n")
    (tmp_path / "said").write_text("from-option\n")
    client = {"url": "http://127.0.0.1:1", "token_file": str(tmp_path / "token")}
    (tmp_path / "client.json").write_text(json.dumps(client))
    monkeypatch.setenv("HOSTLER_CLIENT_FILE", str(tmp_path / "client.json"))
    for name in ("HOSTLER_URL", "HOSTLER_TOKEN", "HOSTLER_TOKEN_FILE", "HOSTLER_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert session.find_server()[:2] == ("http://127.0.0.1:1", "from-file")
    monkeypatch.setenv("HOSTLER_URL", "http://127.0.0.1:2")
    monkeypatch.setenv("HOSTLER_TOKEN", "from-variable")
    assert session.find_server()[:2] == ("http://127.0.0.1:2", "from-variable")
    token = session.address.set(session.Address("http://127.0.0.1:3/", str(tmp_path / "said")))
    try:
        assert session.find_server()[:2] == ("http://127.0.0.1:3", "from-option")
    finally:
        session.address.reset(token)


def test_help_is_shown_without_loading_anything_heavy() -> None:
    code = (
        "import sys\nfrom hostler.fleet.cli.program import run\ncode = run(['--help'])\n"
        "sys.stderr.write(' '.join(sys.modules))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: hostler" in done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert loaded.isdisjoint(HEAVY)


def test_the_version_is_that_of_the_package() -> None:
    import hostler

    assert call("version").out == call("--version").out == f"hostler {hostler.__version__}\n"


def test_a_reader_that_has_enough_is_no_error() -> None:
    process = start("--help")
    process.stdout.close()
    process.wait(30)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_the_example_is_a_valid_fleet(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(call("config", "example").out)
    assert call("config", "check", file).out == f"{file} is valid\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    assert "_HOSTLER_COMPLETE" in call("completion", shell).out


def test_the_daemon_finds_its_configuration_where_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hostler.fleet.cli.failures import Failure
    from hostler.fleet.cli.up import find_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hostler.fleet.cli.up.SEARCHED", (Path("fleet.yaml"),))
    with pytest.raises(Failure, match=r"no fleet\.yaml here"):
        find_config(None)
    Path("fleet.yaml").touch()
    assert find_config(None) == Path("fleet.yaml")

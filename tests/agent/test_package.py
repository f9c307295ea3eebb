from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hostler.agent_bootstrap import package

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def interpreter(version: str) -> str | None:
    """One that runs: a shim of a version manager may stand for a version that isn't installed."""
    candidates = [*map(str, PYENV.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return None


def test_the_same_source_gives_the_same_bytes_and_digest() -> None:
    first = package.build_zipapp()
    package.build_zipapp.cache_clear()
    assert package.build_zipapp() == first
    assert package.sha256() == hashlib.sha256(first).hexdigest()


def test_it_holds_the_agent_and_the_sdk_and_nothing_of_the_control_plane() -> None:
    names = zipfile.ZipFile(io.BytesIO(package.build_zipapp())).namelist()
    assert {"__main__.py", "hostler/__init__.py", "hostler/tracking/journal.py"} <= set(names)
    assert "hostler/agent_bootstrap/agent/shim.py" in names
    assert not [name for name in names if name.endswith(".pyc")]
    assert not [
        name
        for name in names
        if name.startswith(("hostler/fleet", "hostler/config", "hostler/tracking/server"))
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_every_python_a_machine_may_have_runs_it(version: str, option: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    (tmp_path / "agent.pyz").write_bytes(package.build_zipapp())
    command = [python, "-I", str(tmp_path / "agent.pyz"), option]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hostler-agent" in done.stdout


def test_without_a_server_it_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(package.build_zipapp())
    done = subprocess.run(
        [sys.executable, str(tmp_path / "agent.pyz")],
        env={"HOSTLER_HOME": str(tmp_path), "HOSTLER_LOCAL": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "HOSTLER_URL" in done.stderr

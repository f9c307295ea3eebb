"""The systemd unit is sound and closed, by systemd's own judgement."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import hostler.config
import pytest
from hostler.config.daemon import MAX_TICK_SECONDS

UNIT = Path(hostler.config.__file__).parent / "systemd" / "hostler.service"
MAX_EXPOSURE = 2.0


@pytest.fixture
def systemd_analyze() -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        message = "systemd-analyze is not on this machine"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{message}; CI must have it (apt-get install systemd)")
        pytest.skip(message)
    return path


def setting(name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def test_the_unit_verifies_clean(systemd_analyze: str, tmp_path: Path) -> None:
    program = setting("ExecStart").split()[0]
    assert Path(program).is_absolute()
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace(program, "/bin/true"), encoding="utf-8")
    done = subprocess.run([systemd_analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")


def test_verification_would_find_a_mistake(systemd_analyze: str, tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("Type=notify", "Type=notfy")
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run([systemd_analyze, "verify", str(copy)], capture_output=True, text=True, timeout=60)
    assert "notfy" in done.stderr


def test_the_unit_is_hardened(systemd_analyze: str) -> None:
    command = [systemd_analyze, "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    score = re.search(r"exposure level for hostler\.service: ([\d.]+)", done.stdout)
    assert score, done.stdout + done.stderr
    assert float(score[1]) <= MAX_EXPOSURE, done.stdout


def test_the_unit_speaks_the_protocols_of_the_daemon() -> None:
    assert setting("Type") == "notify"
    assert setting("ExecStart").endswith("hostler up --config /etc/hostler/fleet.yaml")
    assert setting("ExecReload").endswith("kill -HUP $MAINPID")
    assert setting("StateDirectory") == "hostler"


def test_the_watchdog_waits_longer_than_the_longest_tick() -> None:
    assert float(setting("WatchdogSec")) >= 2 * MAX_TICK_SECONDS

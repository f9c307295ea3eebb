"""A daemon that is killed while somebody follows a task."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.calling import daemon_in, start


@pytest.mark.slow
def test_run_outlives_a_daemon_that_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon_in(tmp_path, monkeypatch) as daemon:
        process = start("run", "--", "sh", "-c", "echo begun; sleep 5; echo ended; exit 3")
        assert process.stdout.readline() == "begun\n"
        daemon.kill()
        daemon.restart()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        assert out.splitlines()[-1] == "ended"

"""The example programs, run for real: stopped in the middle, they go on and end with the same numbers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostler.tracking import journal
from house import checkout

TIMEOUT_SECONDS = 60
EXIT_REQUEUE = 75
PROGRAMS = {
    "train_digits.py": ["--epochs", "6", "--hidden", "16"],
    "train_wine.py": ["--rounds", "6", "--trees-per-round", "2"],
}
PACE = {"train_digits.py": "--epoch-seconds", "train_wine.py": "--round-seconds"}
ENDLESS_SECONDS = "600"


def start(program: str, runs: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}
    environment = {
        **clean,
        "HOSTLER_MODE": "offline",
        "HOSTLER_DIR": str(runs),
        "HOSTLER_STOP_FILE": str(runs / "stop.json"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(checkout.ROOT / "examples" / program), *PROGRAMS[program], *arguments]
    return subprocess.Popen(command, cwd=runs, env=environment, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, output


def metrics_of(run: Path) -> dict[int, dict[str, float]]:
    """{step: {key: value}} as the journal of the run holds them."""
    folder = run / "journal"
    records = [
        record
        for segment in journal.segments(str(folder))
        for record in journal.parse((folder / segment).read_bytes())[0]
    ]
    return {record[1]: record[3] for record in records if record[0] == "m"}


def by_stop_file(process: subprocess.Popen[str], runs: Path) -> None:
    (runs / "stop.json").write_text('{"reason": "preempted"}')


def by_sigterm(process: subprocess.Popen[str], runs: Path) -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [by_stop_file, by_sigterm])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_was_stopped_goes_on_and_ends_with_the_numbers_of_an_undisturbed_run(
    program: str, stop: Callable[[subprocess.Popen[str], Path], None], tmp_path: Path
) -> None:
    assert finished(start(program, tmp_path, "--resume", "whole"))[0] == 0
    undisturbed = metrics_of(tmp_path / "whole")

    # It tells of a step once its checkpoint is published, then waits for ever: exactly one is done at the stop.
    process = start(program, tmp_path, "--resume", "halved", PACE[program], ENDLESS_SECONDS)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("starting at")
    assert " 1/6 " in process.stdout.readline()
    stop(process, tmp_path)
    code, output = finished(process)
    assert code == EXIT_REQUEUE
    assert "--resume halved" in output
    (tmp_path / "stop.json").unlink(missing_ok=True)
    published = metrics_of(tmp_path / "halved")
    assert list(published) == [1]

    code, output = finished(start(program, tmp_path, "--resume", "halved"))
    assert code == 0
    assert re.fullmatch(r"starting at \w+ 2 from .+", output.splitlines()[0])
    assert metrics_of(tmp_path / "halved") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_wrong_argument_is_a_usage_error(program: str, tmp_path: Path) -> None:
    process = start(program, tmp_path, "--lr", "fast")
    assert finished(process)[0] == 2

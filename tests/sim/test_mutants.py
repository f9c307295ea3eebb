"""A simulator that finds nothing proves nothing: each of these wrong protocols has to be found out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sim.mutants import MUTANTS, Mutant, plant

SEEDS = 24
"""More than twice what the most elusive of them has needed."""


def simulate(path: Path, mutant: Mutant) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "hostler.fleet.chaos", "--seed", "1", "--seeds", str(SEEDS), "--first"]
    words += ["--hours", str(mutant.hours), "--faults", mutant.faults, "--whole"]
    environ = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run(words, env=environ, cwd=path, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds_out(mutant: Mutant, tmp_path: Path) -> None:
    done = simulate(plant(mutant, tmp_path), mutant)
    assert done.returncode == 1, done.stdout[-2_000:] + done.stderr[-4_000:]
    found = {int(number) for number in re.findall(r"invariant (\d+):", done.stdout)}
    assert found & set(mutant.invariants), done.stdout[-4_000:]


def test_there_is_a_mutant_for_each_of_the_ten_ways() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == 10

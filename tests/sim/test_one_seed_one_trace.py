from __future__ import annotations

import os
import subprocess
import sys

from hostler.fleet.chaos.runs import run
from hostler.fleet.chaos.weather import FAULTS
from hostler.fleet.chaos.world import Orders

HOURS = 0.5
ASKED = f"""
from hostler.fleet.chaos.runs import run
from hostler.fleet.chaos.weather import FAULTS
from hostler.fleet.chaos.world import Orders
print(run(Orders(seed=11, hours={HOURS}, faults=frozenset(FAULTS), whole=True)).digest)
"""


def digest_of(seed: int, *, whole_api: bool = False) -> str:
    orders = Orders(seed=seed, hours=HOURS, faults=frozenset(FAULTS), whole=True, whole_api=whole_api)
    return run(orders).digest


def digest_in_another_process(hash_seed: str) -> str:
    environ = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_same_seed_tells_the_same_story_to_the_byte() -> None:
    assert digest_of(11) == digest_of(11)


def test_another_seed_tells_another_story() -> None:
    assert digest_of(11) != digest_of(12)


def test_the_story_does_not_hang_on_the_process_that_tells_it() -> None:
    assert digest_in_another_process("1") == digest_in_another_process("2") == digest_of(11)


def test_through_the_whole_application_the_same_happens_as_through_its_routes() -> None:
    assert digest_of(11, whole_api=True) == digest_of(11)

"""Hours upon hours of a fleet in bad weather, and every invariant of the catalogue holds in each of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import pytest
from hostler.fleet.chaos.invariants import CATALOGUE
from hostler.fleet.chaos.runs import run
from hostler.fleet.chaos.story import tell
from hostler.fleet.chaos.weather import FAULTS
from hostler.fleet.chaos.world import Orders, Outcome

HOURS_OF_A_SEED = 8.0
HOURS_IN_ALL = float(os.environ.get("HOSTLER_SIM_HOURS", "100"))
"""An hour takes about 1.5 s of processor: a thousand are for a machine with time, HOSTLER_SIM_HOURS=1000."""
WHOLE_API_EVERY = 25
"""Of so many seeds one sends its agents through the whole HTTP application, which is slow."""
BATCH_MAX = 64
PROCESSES = min(4, os.cpu_count() or 1)
PROVED_ELSEWHERE = {24: "tests/record/test_migrations.py: it has no part in a run"}


def simulate(seed: int, hours: float) -> Outcome:
    whole_api = seed % WHOLE_API_EVERY == 0
    faults = frozenset(FAULTS)
    outcome = run(
        Orders(seed=seed, hours=hours / 4 if whole_api else hours, faults=faults, whole_api=whole_api)
    )
    if not outcome.violations:
        outcome.story.clear()  # it would be sent from process to process for nothing
    return outcome


def simulate_all(seeds: Iterable[int], hours: float) -> list[Outcome]:
    # Fresh processes: a fork of this one would take pytest's threads' locks along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        jobs = [pool.submit(simulate, seed, hours) for seed in seeds]
        return [job.result() for job in jobs]


def check(outcomes: list[Outcome]) -> None:
    broken = [tell(outcome, 0.0, lines=30) for outcome in outcomes if outcome.violations]
    assert not broken, "\n\n".join(broken[:3])


def simulate_hours(hours: float, first_seed: int) -> list[Outcome]:
    """Seeds one after the other until they make up so many hours; each is checked as it comes."""
    outcomes: list[Outcome] = []
    while sum(outcome.hours for outcome in outcomes) < hours:
        seed = first_seed + len(outcomes)
        missing = hours - sum(outcome.hours for outcome in outcomes)
        batch = min(BATCH_MAX, PROCESSES * (1 + int(missing / HOURS_OF_A_SEED / PROCESSES)))
        more = simulate_all(range(seed, seed + batch), HOURS_OF_A_SEED)
        check(more)
        outcomes += more
    return outcomes


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_invariant_holds_for_an_hour_of_each_fault_at_once(seed: int) -> None:
    outcome = run(Orders(seed=seed, hours=1.0, faults=frozenset(FAULTS), whole=True))
    check([outcome])
    assert outcome.counts["ticks"] > 50


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_every_invariant_holds_through_hours_of_bad_weather() -> None:
    outcomes = simulate_hours(HOURS_IN_ALL, first_seed=1_000)
    # It was weather, not a calm: machines were bought by the hundred and the daemon was killed again and again.
    assert sum(outcome.counts["machines"] for outcome in outcomes) > HOURS_IN_ALL
    assert sum(outcome.counts["lives"] for outcome in outcomes) > 2 * len(outcomes)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_every_invariant_holds_for_as_long_as_one_likes() -> None:
    hours = float(os.environ.get("SOAK_HOURS", "10000"))
    simulate_hours(hours, int(os.environ.get("SOAK_SEED", "1000000")))


def test_each_failure_of_the_catalogue_has_its_invariant() -> None:
    missing = {number for number, checks in CATALOGUE.items() if not checks}
    assert missing == set(PROVED_ELSEWHERE)


def test_each_invariant_says_what_must_hold() -> None:
    assert all(check.__doc__ for checks in CATALOGUE.values() for check in checks)

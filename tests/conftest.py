"""Which databases there are to test with: SQLite always, PostgreSQL where its programs are installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import postgres

NewState = Callable[[], str]
"""Gives the URL of a database with nothing in it."""


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    programs = postgres.find_programs()
    if programs is None:
        reason = "PostgreSQL is not installed here (apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return programs


@pytest.fixture(scope="session")
def postgres_cluster(postgres_programs: Path) -> Iterator[postgres.Cluster]:
    """One server for the whole run, quick and not durable: tests that pull its plug make their own."""
    with postgres.running_cluster(postgres_programs, postgres.FAST) as cluster:
        cluster.make_template()
        yield cluster


@pytest.fixture
def new_postgres(postgres_cluster: postgres.Cluster) -> Iterator[NewState]:
    made: list[str] = []

    def make() -> str:
        made.append(postgres_cluster.lend())
        return made[-1]

    yield make
    for url in made:
        postgres_cluster.take_back(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_state(request: pytest.FixtureRequest, tmp_path: Path) -> NewState:
    """On both databases, one after the other: what holds on one must hold on the other."""
    if request.param == "postgresql":
        make: NewState = request.getfixturevalue("new_postgres")
        return make
    numbers = iter(range(1_000))
    return lambda: f"sqlite:///{tmp_path}/state-{next(numbers)}.db"


@pytest.fixture
def state_url(new_state: NewState) -> str:
    return new_state()

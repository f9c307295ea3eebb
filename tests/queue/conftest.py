from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.queue_world import START, World
from hostler.tracking.server.database import Database


@pytest.fixture
def world(state_url: str) -> Iterator[World]:
    database = Database.open(state_url, lambda: START)
    yield World(database.write)
    database.close()

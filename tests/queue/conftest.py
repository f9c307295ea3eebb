from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.queue_world import World, open_database


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = open_database(tmp_path)
    yield World(database.write)
    database.close()

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from record.world import World


@pytest.fixture
def world(tmp_path: Path, state_url: str) -> Iterator[World]:
    made = World(tmp_path, state_url)
    yield made
    made.close()

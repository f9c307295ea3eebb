"""One run in a folder of its own that is gone afterwards; in memory where the system has such a place."""

from __future__ import annotations

import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from ...tracking.server.database import Database
from .world import START, Orders, Outcome, World

IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108  where it exists, files there never touch a disk


def run(orders: Orders) -> Outcome:
    """Do it once. The same orders always give the same outcome."""
    logging.getLogger("hostler").setLevel(logging.CRITICAL + 1)  # failures are the point here
    with tempfile.TemporaryDirectory(prefix="hostler-chaos-", dir=_place()) as folder:
        path = Path(folder)
        template = path / "template.db"
        template.write_bytes(_empty_database())
        return World(orders, path, template).run()


def _place() -> str | None:
    return str(IN_MEMORY) if IN_MEMORY.is_dir() else None


@cache
def _empty_database() -> bytes:
    """A migrated database without rows, made once a process."""
    with tempfile.TemporaryDirectory(prefix="hostler-chaos-", dir=_place()) as folder:
        path = Path(folder) / "state.db"
        Database.open(f"sqlite:///{path}", lambda: START).close()
        return path.read_bytes()

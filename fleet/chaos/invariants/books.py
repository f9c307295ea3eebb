"""What checkers may look at: the committed tables, by plain SQL on a connection of their own, and the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ....config.fleet import FleetConfig
from ....providers.base import Offer
from ....tracking.server.database import sqlite
from ..ledger import Ledger

LIVE: Final = "('intended','launching','booting','ready','draining','terminating','lost')"
HOLDING: Final = "('leased','running','stopping')"
ENDED: Final = "('completed','failed','stopped','dead')"
GRACE_SECONDS: Final = 300.0
Row = dict[str, Any]


@dataclass
class Books:
    path: Path
    ledger: Ledger
    fleet: FleetConfig
    server_id: str
    clock: Callable[[], float]
    ended_rows: set[str] = field(default_factory=set)
    """Instances whose row was seen terminated."""
    lost_rows: set[str] = field(default_factory=set)
    ends: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Task -> (terminal state, attempt) as first seen."""
    outcomes: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)
    """(task, attempt) -> outcome, time and exit as first seen."""
    looked_at_end: float = -1.0
    looked_at_finish: float = -1.0
    looked_at_expiry: float = -1.0
    calls_seen: int = 0

    def __post_init__(self) -> None:
        self._conn = sqlite.driver().connect(str(self.path), isolation_level=None)
        self._conn.execute("PRAGMA query_only = ON")

    @property
    def now(self) -> float:
        return self.clock()

    def rows(self, query: str, *values: Any) -> list[Row]:
        cursor = self._conn.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def one(self, query: str, *values: Any) -> Row | None:
        found = self.rows(query, *values)
        return found[0] if found else None

    def state_of(self, task_id: int) -> str | None:
        row = self.one("select state from tasks where id = ?", task_id)
        return None if row is None else str(row["state"])

    def close(self) -> None:
        self._conn.close()

    def floors(self) -> dict[str, int]:
        """How many instances each pool keeps for itself now."""
        warm = {
            row["pool"]: row["min"]
            for row in self.rows(
                "select pool, max(min) as min from cron_slots where fired_slot <= ? and until > ? group by pool",
                self.now,
                self.now,
            )
        }
        return {name: max(pool.instances.min, warm.get(name, 0)) for name, pool in self.fleet.pools.items()}

    def is_settled(self) -> bool:
        """Nothing waits, nothing runs, and no more is bought than pools keep for themselves."""
        waiting = self.one(f"select count(*) as n from tasks where state not in {ENDED} and state != 'draft'")
        if waiting is None or waiting["n"]:
            return False
        live = self.rows(f"select pool, state from instances where state in {LIVE}")
        floors = self.floors()
        by_pool: dict[str, int] = {}
        for row in live:
            by_pool[row["pool"]] = by_pool.get(row["pool"], 0) + 1
        rows_fine = all(count <= floors.get(pool, 0) for pool, count in by_pool.items())
        alive = self.ledger.ours_alive(self.server_id)
        return rows_fine and len(alive) <= sum(floors.values())


def fits(offer: Offer, need: str) -> bool:
    """Whether an empty machine of this offer could hold the task; our own reading of its need."""
    wish = json.loads(need or "{}")
    market = wish.get("market")
    return (
        offer.cpus >= wish.get("cpus", 0)
        and offer.memory_bytes >= wish.get("memory", 0)
        and (market in (None, "spot_first", offer.market.value))
    )


def total(values: Iterable[float]) -> float:
    return float(sum(values))

"""What a daemon left on disk and in the process table, read past its own code: the witness of these tests."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TERMINAL = ("completed", "failed", "stopped", "dead")
LOOK_SECONDS = 0.005
JOINED_LINE = "INFO instance "
"""What an agent writes once, when it has joined or come back."""


class Ledger:
    """The rows of one state folder. Opens the file anew for each question, so that no kill can confuse it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.file = state / "state.db"

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.file, timeout=10.0)) as conn:
            conn.row_factory = sqlite3.Row
            conn.execute("PRAGMA query_only = ON")
            return [dict(row) for row in conn.execute(query, values)]

    def one(self, query: str, *values: Any) -> Any:
        """The first column of the first row; None without one."""
        found = self.rows(query, *values)
        return next(iter(found[0].values())) if found else None

    def counts(self) -> dict[str, int]:
        """Rows of every table."""
        names = [row["name"] for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: self.one(f'SELECT count(*) FROM "{name}"') for name in names}

    def last_event(self) -> int:
        return int(self.one("SELECT coalesce(max(id), 0) FROM events"))

    def happened(self, kind: str, after: int, seconds: float) -> bool:
        """Whether an event of this kind with an id above `after` comes within `seconds`. Looks every few ms."""
        end = time.monotonic() + seconds
        with closing(sqlite3.connect(self.file, timeout=10.0)) as conn:
            conn.execute("PRAGMA query_only = ON")
            while time.monotonic() < end:
                query = "SELECT 1 FROM events WHERE id > ? AND kind = ? LIMIT 1"
                if conn.execute(query, (after, kind)).fetchone():
                    return True
                time.sleep(LOOK_SECONDS)
        return False

    def unfinished(self) -> list[dict[str, Any]]:
        marks = ", ".join("?" * len(TERMINAL))
        query = f"SELECT id, state, attempt, instance_id FROM tasks WHERE state NOT IN ({marks})"
        return self.rows(query, *TERMINAL)

    def live_instances(self) -> list[dict[str, Any]]:
        return self.rows("SELECT id, state, reason FROM instances WHERE state != 'terminated'")

    def is_whole(self) -> bool:
        return bool(self.one("PRAGMA integrity_check") == "ok")


def check_one_end_each(ledger: Ledger, state: str = "completed") -> None:
    """Every task ended in `state`, once: one committed result, attempts counted without a gap, none left open."""
    ends = Counter(
        row["task_id"] for row in ledger.rows("SELECT task_id FROM events WHERE kind = ?", f"task.{state}")
    )
    for task in ledger.rows("SELECT * FROM tasks"):
        attempts = ledger.rows("SELECT * FROM attempts WHERE task_id = ? ORDER BY number", task["id"])
        outcomes = [one["outcome"] for one in attempts]
        told = (task["id"], task["state"], task["message"], outcomes)
        assert task["state"] == state, told
        assert ends[task["id"]] == 1, told
        assert [one["number"] for one in attempts] == list(range(1, task["attempt"] + 1)), told
        generations = [one["generation"] for one in attempts]
        assert generations == sorted(set(generations)), told
        assert generations[-1] == task["generation"], told
        completed = [outcome == "completed" for outcome in outcomes]
        assert completed == [False] * (len(outcomes) - 1) + [state == "completed"], told
        assert all(one["finished_at"] is not None for one in attempts), told
        assert task["instance_id"] is None and task["lease_until"] is None, told


def check_one_launch_each(ledger: Ledger) -> None:
    """Every folder of an instance is an intent's, its program began at most once, and every row ended."""
    rows = {row["id"]: row for row in ledger.rows("SELECT * FROM instances")}
    folders = {path.name: path for path in (ledger.state / "local").iterdir() if path.name.startswith("h-")}
    assert set(folders) <= set(rows)
    refs = [row["ref"] for row in rows.values() if row["ref"] is not None]
    assert len(refs) == len(set(refs))
    assert {row["id"] for row in rows.values() if row["ref"] is not None} <= set(folders)
    for name, folder in folders.items():
        console = folder / "console.log"
        lines = console.read_text(errors="replace").splitlines() if console.exists() else []
        begun = [line for line in lines if JOINED_LINE in line]
        assert len(begun) <= 1, (name, begun)
    ready = Counter(
        row["instance_id"] for row in ledger.rows("SELECT * FROM events WHERE kind = 'instance.ready'")
    )
    assert all(times == 1 for times in ready.values()), ready
    assert ledger.live_instances() == []


@dataclass(frozen=True)
class Seen:
    """A process of an instance: its folder's name, pid, start in clock ticks, words, and environment."""

    instance_id: str
    pid: int
    start_ticks: int
    session: int
    command: tuple[str, ...]
    environ: dict[str, str] = field(compare=False, hash=False)

    @property
    def is_agent(self) -> bool:
        """Not a child of it that has not become another program yet."""
        return self.pid == self.session and any(word.endswith("agent.pyz") for word in self.command)


def processes(state: Path) -> list[Seen]:
    """Every live process of an instance below this state folder, agents and tasks; a kernel's zombies do nothing.

    Known by its environment: agents have HOSTLER_HOME, tasks HOSTLER_OUT.
    """
    root = state / "local"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            raw = (entry / "environ").read_bytes()
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        environ = dict(word.split("=", 1) for word in raw.decode(errors="replace").split("\0") if "=" in word)
        home = Path(environ.get("HOSTLER_HOME") or environ.get("HOSTLER_OUT") or "/")
        fields = stat.rpartition(")")[2].split()
        if root not in home.parents or fields[0] in "ZX":
            continue
        words = tuple(command.decode(errors="replace").split("\0"))
        found.append(
            Seen(
                home.relative_to(root).parts[0],
                int(entry.name),
                int(fields[19]),
                int(fields[3]),
                words,
                environ,
            )
        )
    return found


class Witness:
    """Looks at the process table again and again: which agents ever ran, and how many instances at once."""

    def __init__(self, state: Path) -> None:
        self.agents: dict[str, set[tuple[int, int]]] = {}
        self.most_at_once = 0
        self._state = state
        self._over = threading.Event()

    def look(self) -> None:
        seen = processes(self._state)
        self.most_at_once = max(self.most_at_once, len({one.instance_id for one in seen}))
        for one in seen:
            if one.is_agent:
                self.agents.setdefault(one.instance_id, set()).add((one.pid, one.start_ticks))

    @contextmanager
    def watching(self, every_seconds: float = 0.1) -> Iterator[Witness]:
        def run() -> None:
            while not self._over.wait(every_seconds):
                self.look()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def check_one_agent_each(self) -> None:
        twice = {name: found for name, found in self.agents.items() if len(found) > 1}
        assert twice == {}, "more than one agent process for an instance"

"""What this daemon last knew of each host, on its own disk: so that a dead host hides nothing and holds up nobody."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600


@dataclass(frozen=True)
class Entry:
    """The instance that a host holds for us. `certain` is False between the decision to start it and its answer.

    `where` is how to reach it, even when its host is no longer in fleet.yaml; `silent_since` and `given_up_at`
    (epoch seconds) are used for such a host only.
    """

    token: str
    tags: Mapping[str, str]
    instance_type: str
    market: str
    where: Mapping[str, Any]
    certain: bool = False
    launched_at: float | None = None
    silent_since: float | None = None
    given_up_at: float | None = None


@dataclass(frozen=True)
class Ledger:
    """One file for each place that holds an instance of ours, another for what was found out about its machine."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def get(self, place: str) -> Entry | None:
        found = _read(self.folder / f"{place}.json")
        try:
            return Entry(**found) if found else None
        except TypeError:
            return None

    def put(self, place: str, entry: Entry) -> None:
        self._write(f"{place}.json", asdict(entry))

    def drop(self, place: str) -> None:
        (self.folder / f"{place}.json").unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, Entry]]:
        for path in sorted(self.folder.glob("*.json")):
            entry = None if path.name.endswith(".facts.json") else self.get(path.stem)
            if entry is not None:
                yield path.stem, entry

    def facts(self, place: str) -> dict[str, Any]:
        return _read(self.folder / f"{place}.facts.json")

    def keep_facts(self, place: str, facts: Mapping[str, Any]) -> None:
        self._write(f"{place}.facts.json", dict(facts))

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """All of it or nothing; it is on the disk when this returns."""
        with self._lock:
            self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            aside = self.folder / f".{name}.new"
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.folder / name)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

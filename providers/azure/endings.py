"""What has ended. Azure forgets a VM the moment it is deleted; the loop must be told that it ended, not guess.

One small file each under the daemon's state folder, so that a restart remembers too. Losing them costs no money:
the loop then waits out its grace before it believes an absence, as it does for any cloud.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from ..base import TAG_SERVER, CloudInstance, CloudState

KEPT_SECONDS = 2 * 3600.0
"""Longer than any launch token is replayed, so that a late retry finds its instance ended and makes no second one."""
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ending:
    """An instance that was, when its end began (epoch seconds), and whether nothing of it is left."""

    instance: CloudInstance
    at: float
    is_over: bool = False

    def as_listed(self) -> CloudInstance:
        """How it is listed, its VM being gone."""
        return replace(self.instance, state=CloudState.TERMINATED if self.is_over else CloudState.STOPPING)


class Endings:
    """Endings of one provider and server by VM name. Thread-safe. `clock` gives epoch seconds."""

    def __init__(self, folder: Path, server_id: str, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._server_id = server_id
        self._clock = clock
        self._lock = threading.Lock()
        self._unsaved: dict[str, Ending] = {}

    def all(self) -> Mapping[str, Ending]:
        """Those not yet forgotten."""
        with self._lock:
            return self._read()

    def get(self, name: str) -> Ending | None:
        return self.all().get(name)

    def begin(self, instance: CloudInstance) -> None:
        """Its end was asked for, or seen to have begun. What is known of it already stays."""
        with self._lock:
            if instance.ref not in self._read():
                self._write(Ending(instance, self._clock()))

    def confirm(self, name: str) -> None:
        """Nothing of it is left."""
        with self._lock:
            known = self._read().get(name)
            if known is not None and not known.is_over:
                self._write(replace(known, is_over=True))

    def _read(self) -> dict[str, Ending]:
        found = dict(self._unsaved)
        paths = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        for path in paths:
            ending = _load(path)
            if ending is None or ending.instance.tags.get(TAG_SERVER) != self._server_id:
                continue
            if ending.is_over and self._clock() - ending.at > KEPT_SECONDS:
                path.unlink(missing_ok=True)
                continue
            found.setdefault(ending.instance.ref, ending)
        return found

    def _write(self, ending: Ending) -> None:
        name = ending.instance.ref
        path = self._folder / f"{_NOT_IN_FILE_NAMES.sub('_', name)}.json"
        fresh = path.with_suffix(f".{threading.get_ident()}.new")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(asdict(ending)), encoding="utf-8")
            fresh.replace(path)
            self._unsaved.pop(name, None)
        except OSError as error:
            # A full disk must not keep a machine running: what is ended is remembered until a restart at least.
            log.warning("ending not saved", instance=name, detail=str(error))
            self._unsaved[name] = ending


def _load(path: Path) -> Ending | None:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        instance = dict(read["instance"])
        instance["state"] = CloudState(instance["state"])
        return Ending(CloudInstance(**instance), float(read["at"]), bool(read["is_over"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None

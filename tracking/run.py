"""A run: what `hostler.init()` gives back. Every word of it goes to the journal first and to the server later."""

from __future__ import annotations

import os
import threading
import time as clock
import warnings
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

from . import capture, spool, values
from .errors import HostlerError, Refused
from .journal import RecordTooLarge, Writer
from .place import Place

CHECKPOINT_NAME = "checkpoint"
KEYS_MAX = 10_000
"""Metrics in one `log` call; more are refused with a warning."""


class Artifact(NamedTuple):
    """A file or folder as it was recorded; `digest` is the sha256 of its bytes (of a folder: of its tar)."""

    name: str
    type: str
    digest: str
    size: int
    step: Optional[int]
    metadata: Dict[str, Any]


class Run:
    """One task's record, written by this process. Use as a context manager or leave it to the end of the program."""

    def __init__(self, place: Place, project: str, name: str) -> None:
        self.place = place
        self.project = project
        self.name = name
        self.config: Dict[str, Any] = {}
        self._rank = int(os.environ.get("RANK") or 0) if (os.environ.get("RANK") or "0").isdigit() else 0
        self._writer = Writer(os.path.join(place.folder, "journal"), self._rank)
        self._spool = os.path.join(place.folder, "spool")
        self._next_step = 0
        self._checkpoints: List[str] = []
        self._warned: Set[str] = set()
        self._capturing: Optional[threading.Thread] = None
        self.lost_records = 0

    @property
    def id(self) -> str:
        """The task's number on the server where it is known, else the run's own uid."""
        return str(self.place.task_id) if self.place.task_id is not None else self.place.uid

    def log(
        self,
        data: Mapping[str, Any],
        step: Optional[int] = None,
        *,
        context: Optional[Mapping[str, Any]] = None,
        time: Optional[float] = None,
    ) -> None:
        """Record metrics. Never raises and never waits for the network; what can't be recorded is warned of once."""
        if step is None:
            step = self._next_step
        self._next_step = step + 1
        for value in data.values():
            if not (type(value) is float and value - value == 0.0) and type(value) is not int:
                data = self._plain(data)
                break
        self._append(["m", step, clock.time() if time is None else time, data, context])

    def params(self, config: Any) -> None:
        """Record parameters: a mapping (nested ones get dotted names) or an argparse namespace."""
        try:
            flat = values.flatten(config)
        except TypeError as error:
            raise Refused(str(error)) from error
        self.config.update(flat)
        for key, value in flat.items():
            self._append(["p", {key: value}])

    def tag(self, *tags: str) -> None:
        """Add tags to the task."""
        self._append(["g", [str(tag) for tag in tags]])

    def log_artifact(
        self,
        obj: Any,
        name: Optional[str] = None,
        *,
        type: str = "file",  # noqa: A002 - the contract's name
        aliases: Sequence[str] = (),
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> Artifact:
        """Record a file or folder by path, or a dict/list as JSON. Its bytes are copied before this returns."""
        described = dict(metadata or {})
        if aliases:
            described["aliases"] = list(aliases)
        if isinstance(obj, (dict, list)):
            digest, size = self._add_json(obj)
            return self._record(name or "data.json", type, digest, size, None, described, None)
        path = _existing(obj)
        described.setdefault("filename", os.path.basename(os.path.abspath(path)))
        if os.path.isdir(path):
            described["directory"] = True
        digest, size = self._spooled(path)
        return self._record(name or described["filename"], type, digest, size, None, described, None)

    def checkpoint(self, path: Any, *, step: Optional[int] = None, keep: int = 3) -> Artifact:
        """Publish a file or folder as the newest checkpoint: whole or not at all. The newest `keep` are kept."""
        if keep < 1:
            raise Refused("keep must be at least 1")
        source = _existing(path)
        described: Dict[str, Any] = {"filename": os.path.basename(os.path.abspath(source))}
        if os.path.isdir(source):
            described["directory"] = True
        digest, size = self._spooled(source)
        made = self._record(CHECKPOINT_NAME, "checkpoint", digest, size, step, described, keep)
        self._drop_superseded(digest, keep)
        return made

    def flush_capture(self, timeout_seconds: float = 10.0) -> None:
        """Wait for what is gathered in the background."""
        if self._capturing is not None:
            self._capturing.join(timeout_seconds)

    def start_capture(self) -> None:
        """Gather git state, packages and the rest on a thread of its own."""
        if self._rank:
            return  # one rank of a gang is enough
        self._capturing = threading.Thread(target=self._capture, name="hostler-capture", daemon=True)
        self._capturing.start()

    def continue_from(self, step: Optional[int]) -> None:
        """Steps that aren't given count on from a restored checkpoint's."""
        if step is not None:
            self._next_step = step + 1

    def close(self) -> None:
        self._writer.close()

    def _capture(self) -> None:
        self._append(["e", capture.gather()])

    def _plain(self, data: Mapping[str, Any]) -> Dict[str, Any]:
        plain: Dict[str, Any] = {}
        for key, value in data.items():
            known = values.number(value)
            if known is None:
                self._warn(
                    f"value:{key}",
                    f"hostler.log: {key!r} is a {type(value).__name__}, not a number; left out",
                )
            elif len(plain) < KEYS_MAX:
                plain[str(key)] = known
            else:
                self._warn(
                    "keys", f"hostler.log: more than {KEYS_MAX} metrics in one call; the rest is left out"
                )
        return plain

    def _append(self, record: List[Any]) -> None:
        try:
            self._writer.append(record)
        except (OSError, RecordTooLarge, TypeError, ValueError, OverflowError) as error:
            self.lost_records += 1
            self._warn(f"write:{type(error).__name__}", f"hostler: a record could not be written: {error}")

    def _record(
        self,
        name: str,
        kind: str,
        digest: str,
        size: int,
        step: Optional[int],
        metadata: Dict[str, Any],
        keep: Optional[int],
    ) -> Artifact:
        record = {
            "name": name,
            "type": kind,
            "digest": digest,
            "size": size,
            "step": step,
            "metadata": metadata,
        }
        self._writer.append(["a", {**record, "keep": keep}])
        return Artifact(name, kind, digest, size, step, metadata)

    def _spooled(self, path: str) -> tuple[str, int]:
        try:
            return spool.add(self._spool, path)
        except OSError as error:
            raise HostlerError(f"{path} could not be copied to {self._spool}: {error}") from error

    def _add_json(self, obj: Any) -> tuple[str, int]:
        import json

        try:
            data = json.dumps(obj, indent=2, sort_keys=True).encode()
        except (TypeError, ValueError) as error:
            raise Refused(f"not JSON: {error}; save it to a file and log the file") from error
        return spool.add_bytes(self._spool, data)

    def _drop_superseded(self, digest: str, keep: int) -> None:
        """While the server is away only the newest checkpoints take up disk."""
        self._checkpoints = [one for one in self._checkpoints if one != digest] + [digest]
        while len(self._checkpoints) > keep and self.place.kind != "offline":
            spool.remove(self._spool, self._checkpoints.pop(0))

    def _warn(self, key: str, message: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def _existing(obj: Any) -> str:
    try:
        path = os.fspath(obj)
    except TypeError as error:
        raise Refused(
            f"need the path of a file or folder, or a dict or list, not a {type(obj).__name__}"
        ) from error
    if not os.path.exists(path):
        raise Refused(f"{path} does not exist")
    return str(path)

"""The one run of this process: opened by `init`, closed by the end of the program if not before."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Sequence, Type

from . import place as places
from .errors import NoRun, Refused
from .run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from .background import Background

FINISH_SECONDS_MAX = 30.0
"""How long the end of a program may wait for the last upload; the rest stays on disk for `hostler sync`."""
CAPTURES = ("default", "none")

_lock = threading.Lock()
_current: Optional[OpenRun] = None


class OpenRun(Run):
    """A run with what carries it, closed once."""

    background: Optional[Background] = None
    _failure = ""
    _closed = False

    def __enter__(self) -> OpenRun:  # noqa: PYI034 - typing.Self is 3.11
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.finish("failed" if error is not None else "completed", repr(error) if error is not None else "")

    def finish(self, state: str = "completed", message: str = "") -> None:
        """Close the run; under an agent the task's state is the agent's to tell."""
        global _current  # noqa: PLW0603 - one run a process is the contract
        if self._closed:
            return
        self._closed = True
        self.flush_capture()
        self.close()
        if _current is self:
            _current = None
        if self.place.kind == "agent":
            return
        self._write_end(state, message)
        if self.background is not None:
            left = self.background.finish(FINISH_SECONDS_MAX)
            if left:
                warnings.warn(
                    f"hostler: {left}; later: hostler sync {self.place.folder}", RuntimeWarning, stacklevel=3
                )

    def _write_end(self, state: str, message: str) -> None:
        try:
            with open(os.path.join(self.place.folder, places.FINISH_FILE), "w", encoding="utf-8") as file:
                json.dump({"state": state, "message": message}, file)
        except OSError as error:
            warnings.warn(
                f"hostler: the run's end could not be written: {error}", RuntimeWarning, stacklevel=3
            )

    def finish_at_exit(self) -> None:
        self.finish("failed" if self._failure else "completed", self._failure)

    def note_failure(self, error: BaseException) -> None:
        self._failure = repr(error)


class DisabledRun(OpenRun):
    """`mode="disabled"`: every call is taken and nothing is written."""

    def __init__(self) -> None:  # the base would make a folder
        self.place = places.Place("disabled", "", "disabled", None, 0, None)
        self.project = self.name = ""
        self.config = {}

    def _append(self, record: Any) -> None:
        pass

    def log(self, data: Any, step: Optional[int] = None, *, context: Any = None, time: Any = None) -> None:
        pass

    def log_artifact(self, obj: Any, name: Any = None, **described: Any) -> Any:
        return None

    def checkpoint(self, path: Any, *, step: Optional[int] = None, keep: int = 3) -> Any:
        return None

    def finish(self, state: str = "completed", message: str = "") -> None:
        global _current  # noqa: PLW0603
        if _current is self:
            _current = None


def open_run(
    project: Optional[str],
    name: Optional[str],
    config: Any,
    tags: Sequence[str],
    group: Optional[str],
    resume: str,
    mode: str,
    capture: str,
) -> OpenRun:
    global _current  # noqa: PLW0603
    if capture not in CAPTURES:
        raise Refused(f"capture {capture!r} is not one of {', '.join(CAPTURES)}")
    with _lock:
        run = _current
        if run is None:
            run = _current = _new_run(
                project or "default", name or places.program_name(), tags, resume, mode, capture
            )
    if config is not None:
        run.params(config)
    if tags:
        run.tag(*tags)
    if group is not None:
        run.params({"group": group})
    return run


def current() -> OpenRun:
    if _current is None:
        raise NoRun("no run is open: call hostler.init() first")
    return _current


def restore(to: Any) -> Optional[Path]:
    from pathlib import Path

    from . import restoring
    from .client import Client

    run = current()
    if isinstance(run, DisabledRun):
        return None
    place, server = run.place, run.place.server
    if run.background is not None:
        known = run.background.task()
        if known is not None and server is not None:
            place = place._replace(task_id=known["task_id"], generation=known["generation"])
            server = server._replace(token=known["task_token"])
    client = Client(server.url, lambda: server.token, ca_file=server.ca_file) if server else None
    try:
        path, step = restoring.newest(place, client, None if to is None else os.fspath(to))
    finally:
        if client is not None:
            client.close()
    run.continue_from(step)
    return None if path is None else Path(path)


def _new_run(project: str, name: str, tags: Sequence[str], resume: str, mode: str, capture: str) -> OpenRun:
    if mode == "disabled" or (mode == "auto" and os.environ.get("HOSTLER_MODE") == "disabled"):
        return DisabledRun()
    place = places.find(mode, resume)
    run = OpenRun(place, project, name)
    if place.kind != "agent":
        places.write_run_file(place, project, name, tags)
    if place.kind == "online" and place.server is not None:
        from .background import Background  # brings HTTP along: only where we upload ourselves

        run.background = Background(place.folder, place.server)
        run.background.start()
    if capture == "default":
        run.start_capture()
    _watch_for_failure(run)
    atexit.register(run.finish_at_exit)
    return run


def _watch_for_failure(run: OpenRun) -> None:
    """An uncaught exception makes the run a failed one; the program's own hook is called as before."""
    before = sys.excepthook

    def hook(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
        run.note_failure(error)
        before(kind, error, trace)

    sys.excepthook = hook

"""One leased task on the agent's side: prepare, start its shim, follow it, send what it made, report once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...tracking import wire as record
from ...tracking.client import CallFailed, Client, Conflict, Refused
from ...tracking.feeds import Paths
from ...tracking.files import read_json, write_atomic, write_json
from .. import wire
from . import environment, snapshot
from .clock import now
from .durations import seconds
from .home import Home, TaskFolder
from .outcome import Fate, fate_of
from .settings import Settings
from .shim import Exit, Job
from .slots import Share, Slots
from .spare import ShimFailed, Spares
from .stop import Stopping, plan_stop
from .tree import sweep
from .upload import Uploads

LEASE_SHARE = 0.8
"""Without contact the tree is dead after this part of the TTL: before the server gives the task away."""
FINAL_DRAIN_SECONDS = 900.0
"""After its end a task's last files have this long to reach the server, as long as the lease is renewed."""
REPORT_RESERVE_SECONDS = 1.0
CODE_TIMEOUT_SECONDS = 120.0
PREPARE_PAUSE_SECONDS_MAX = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tools:
    """What all runs of an agent share."""

    home: Home
    settings: Settings
    client: Client
    slots: Slots
    spares: Spares
    library: Any
    commands: Any
    over: threading.Event
    """Set when the agent ends: threads stop following, shims run on."""


class Run:
    """A task held here, from the lease to its acknowledged result."""

    def __init__(
        self, tools: Tools, lease: wire.Lease, share: Share, lease_until: float, on_end: Callable[[Run], None]
    ) -> None:
        self.lease = lease
        self.share = share
        self.key = (lease["task_id"], lease["generation"])
        self.folder: TaskFolder = tools.home.task(*self.key)
        self._tools = tools
        self._on_end = on_end
        self._lease_until = lease_until
        self._stopping: Stopping | None = None
        self._gone = threading.Event()
        """Stale: somebody else's now."""
        self._running = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._uploads = Uploads(tools.client, self.folder, *self.key, on_stale=self.abandon)

    @property
    def name(self) -> str:
        return f"{self.key[0]}-{self.key[1]}"

    def start(self) -> None:
        self._thread(self._execute)

    def adopt(self) -> None:
        """Go on with a task that an earlier life of this agent started."""
        self._running = True
        self._thread(self._follow)

    def decline(self, why: str) -> None:
        """Give the task back unrun, at no cost to its budgets."""
        self._thread(lambda: self._report(Fate("requeue", None, "declined", why, 0.0)))

    def renew(self, lease_until: float) -> None:
        """The server still knows us as the holder, until then by `clock.now`."""
        with self._lock:
            self._lease_until = lease_until
        self._tell({"lease_until": lease_until})

    def stop(self, reason: str, grace_seconds: float) -> None:
        """Ask the task to end; asked twice, the earlier end counts."""
        stopping = plan_stop(reason, now(), grace_seconds)
        with self._lock:
            if self._stopping is not None and stopping.kill_at >= self._stopping.kill_at:
                return
            self._stopping = Stopping(self._stopping.reason, *stopping[1:]) if self._stopping else stopping
        self._tell({"stop": list(stopping)})

    def abandon(self) -> None:
        """Stale: kill the tree, say nothing more of it."""
        if not self._gone.is_set():
            self._gone.set()
            self._uploads.abandon()
            self._tell({"end": "stale"})

    def _thread(self, target: Callable[[], None]) -> None:
        threading.Thread(target=self._guard, args=(target,), name=f"run-{self.name}", daemon=True).start()

    def _guard(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:
            _logger.exception("task %s: the runner failed", self.name)
            self._tell({"end": "stale"})
            self._report(Fate("infra", None, "agent", f"{type(error).__name__}: {error}", 0.0))

    def _execute(self) -> None:
        failed = self._prepare()
        if failed or not self._may_start():
            self._report(failed or self._not_run())
            return
        try:
            self._process = self._tools.spares.run(self._job())
        except (ShimFailed, OSError) as error:
            self._report(Fate("infra", None, "shim", str(error), 0.0))
            return
        with self._lock:
            self._running = True
            stopping, lease_until = self._stopping, self._lease_until
        self._tell({"lease_until": lease_until, **({"stop": list(stopping)} if stopping else {})})
        if self._gone.is_set():
            self._tell({"end": "stale"})
        threading.Thread(target=self._say_started, daemon=True).start()
        self._tools.spares.prepare()
        self._follow()

    def _may_start(self) -> bool:
        return self._stopping is None and not self._gone.is_set() and now() < self._lease_until

    def _not_run(self) -> Fate:
        if self._stopping is None:
            return Fate("", None, "lost", "the lease ended before the task began", 0.0)
        reason = self._stopping.reason
        return Fate(reason, None, reason, "stopped before it began", 0.0)

    def _prepare(self) -> Fate | None:
        """Folders, token, code. Gives why the task can't run here, if so."""
        shutil.rmtree(self.folder.path, ignore_errors=True)
        self.folder.make()
        write_atomic(self.folder.token, self.lease["task_token"].encode())
        write_json(self.folder.record, {"lease": self.lease, "share": list(self.share)})
        if not self.lease["has_code"]:
            return None
        archive = self.folder.path / "code.tar.gz"
        try:
            self._tools.client.persistently(lambda: self._fetch_code(archive), self._preparing_ends)
            snapshot.unpack(archive, self.folder.work)
        except snapshot.UnsafeArchive as error:
            return Fate("failed", None, "code", str(error), 0.0)
        except Refused as error:
            return Fate("failed", None, "code", f"the code snapshot can't be had: {error}", 0.0)
        except (CallFailed, OSError) as error:
            return None if self._gone.is_set() else Fate("infra", None, "code", str(error), 0.0)
        finally:
            archive.unlink(missing_ok=True)
        return None

    def _fetch_code(self, archive: Any) -> None:
        self._tools.client.request(
            "GET",
            Paths(*self.key).code(),
            timeout_seconds=CODE_TIMEOUT_SECONDS,
            into=archive,
            limit_bytes=record.CODE_BYTES_MAX,
        )

    def _preparing_ends(self, pause_seconds: float) -> bool:
        return self._gone.wait(min(pause_seconds, PREPARE_PAUSE_SECONDS_MAX)) or not self._may_start()

    def _job(self) -> Job:
        words, shell = environment.command(self.lease["spec"].get("run"))
        tools = self._tools
        environ = environment.of_task(
            self.lease,
            self.folder,
            tools.home,
            url=tools.client.url,
            inherited=os.environ,
            library=tools.library,
            commands=tools.commands,
            visible_devices=tools.slots.visible_devices(self.share),
        )
        return Job(
            folder=str(self.folder.path),
            command=words,
            shell=shell,
            environ=environ,
            lease_until=self._lease_until,
            run_seconds=seconds((self.lease["spec"].get("timeout") or {}).get("run")),
            log_head_bytes=tools.settings.log_head_bytes,
            log_tail_bytes=tools.settings.log_tail_bytes,
        )

    def _say_started(self) -> None:
        path = wire.TASK_STARTED.format(task_id=self.key[0], generation=self.key[1])
        try:
            self._tools.client.persistently(lambda: self._tools.client.post(path, {}), self._reporting_ends)
        except Conflict:
            self.abandon()
        except CallFailed as error:
            _logger.warning("task %s: started was not taken: %s", self.name, error)

    def _follow(self) -> None:
        self._uploads.start()
        self._wait_for_shim()
        if self._tools.over.is_set():
            return
        ended: Exit | None = read_json(self.folder.exit_file)
        if ended is None:
            sweep(self.folder.path, ("HOSTLER_OUT", str(self.folder.out)))
        fate = fate_of(ended)
        if fate.outcome and not self._gone.is_set() and not self._uploads.finish(self._drain_until(fate)):
            fate = fate._replace(message=f"{fate.message}; some of its last output did not reach the server")
        self._report(fate)

    def _drain_until(self, fate: Fate) -> float:
        if fate.outcome == "preempted" and self._stopping:  # the machine goes away whether we are done or not
            return self._stopping.deadline - REPORT_RESERVE_SECONDS
        return now() + FINAL_DRAIN_SECONDS

    def _wait_for_shim(self) -> None:
        """Until the kernel takes the lock from it, for a child of ours and an adopted one alike."""
        with self.folder.lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if self._process:
            self._process.wait()

    def _report(self, fate: Fate) -> None:
        try:
            if fate.outcome and not self._gone.is_set():
                self._send(fate)
        finally:
            self._uploads.abandon()
            if not self._tools.over.is_set():
                shutil.rmtree(self.folder.path, ignore_errors=True)
                self._on_end(self)

    def _send(self, fate: Fate) -> None:
        path = wire.TASK_RESULT.format(task_id=self.key[0], generation=self.key[1])
        try:
            self._tools.client.persistently(
                lambda: self._tools.client.post(path, fate.result()), self._reporting_ends
            )
        except CallFailed as error:
            _logger.warning("task %s: the result was not taken: %s", self.name, error)

    def _reporting_ends(self, pause_seconds: float) -> bool:
        end = time.monotonic() + min(pause_seconds, PREPARE_PAUSE_SECONDS_MAX)
        while time.monotonic() < end:
            if self._gone.wait(0.1) or self._tools.over.is_set():
                return True
        return self._gone.is_set() or self._tools.over.is_set()

    def _tell(self, command: dict[str, Any]) -> None:
        """To the shim, if it is there: with nobody reading, opening fails."""
        if not self._running:
            return
        with contextlib.suppress(OSError):
            control = os.open(self.folder.control, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(control, json.dumps(command).encode() + b"\n")
            finally:
                os.close(control)

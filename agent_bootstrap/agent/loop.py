"""The agent at work: leases by long poll, signs of life, notices, drain, and the dead-man switch.

Ends with SIGTERM (tasks run on in their shims, the next life adopts them), when it is drained and empty, when the
server disowns it, or when nobody has been heard of for too long.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
from collections.abc import Callable
from typing import Any

from ...tracking.client import RETRYABLE, CallFailed, Conflict, Unauthorized
from ...tracking.files import read_json
from .. import wire
from . import inventory as machine
from .clock import now
from .held import HeldRuns
from .joining import Credential
from .metadata import MetadataFailed
from .notice import Notice, Watcher
from .runner import LEASE_SHARE, Run, Tools
from .slots import ROUNDING, NoRoom, Share
from .tree import remove_left_over

LEASE_WAIT_SECONDS = 30.0
BUSY_WAIT_SECONDS = 2.0
"""With tasks running what is free may grow at any time: the server soon learns of it by a new request."""
REPLY_SECONDS = 10.0
WATCH_SECONDS = 0.25
FULL_WAIT_SECONDS = 5.0
LEASE_PAUSE_SECONDS_MAX = 10.0
LEAVE_TRIES = 5
DISOWNED_AFTER = 3
"""401s in a row: one may be an answer that crossed a renewal of the credential."""
BEAT_TIMEOUT_SHARE = 0.3
BEAT_TIMEOUT_SECONDS = (1.0, 10.0)
BEAT_JITTER = 0.1
STALE_WAIT_SECONDS = 15.0

EXIT_OK, EXIT_DISOWNED, EXIT_DEAD_MAN = 0, 4, 5
_logger = logging.getLogger(__name__)


class Agent:
    def __init__(
        self,
        tools: Tools,
        credential: Credential,
        watchers: list[Watcher],
        *,
        rng: random.Random,
        power_off: Callable[[], None],
    ) -> None:
        self._tools, self._client, self._credential = tools, tools.client, credential
        self._watchers = watchers
        self._rng, self._power_off = rng, power_off
        self._joined = credential.joined
        self._held = HeldRuns()
        self._over = tools.over
        self._draining = threading.Event()
        self._beat_now = threading.Event()
        self._contact = now()
        self._refusals = 0
        self._exit_code = EXIT_OK
        self._left = False
        self._tellings: list[threading.Thread] = []

    def run(self) -> int:
        """Work until it is over. Gives the exit code."""
        self._adopt()
        self._tools.spares.prepare()
        threads = [
            self._beats,
            self._leases,
            *[lambda watcher=w: self._watch_for(watcher) for w in self._watchers],
        ]
        for target in threads:
            threading.Thread(target=target, daemon=True).start()
        while not self._over.wait(WATCH_SECONDS):
            self._look_around()
        self._tools.spares.close()
        self._client.close()
        return self._exit_code

    def terminate(self) -> None:
        """End this process, not its tasks."""
        self._over.set()
        self._beat_now.set()
        self._held.changed.set()

    def drain(self) -> None:
        """Finish what runs, take nothing new, then leave."""
        if not self._draining.is_set():
            _logger.info("draining")
        self._draining.set()
        self._held.changed.set()

    # -- tasks ------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        remove_left_over()
        tasks = self._tools.home.tasks
        tasks.mkdir(mode=0o700, exist_ok=True)
        for folder in sorted(tasks.iterdir()):
            kept = read_json(folder / "lease.json")
            if not isinstance(kept, dict):
                shutil.rmtree(folder, ignore_errors=True)
                continue
            share = Share(*kept["share"])
            # How long its lease runs only the shim knows, until the first beat renews it.
            run = Run(self._tools, kept["lease"], share, now(), self._ended)
            self._tools.slots.hold(run.name, share)
            self._held.add(run)
            run.adopt()
            _logger.info("task %s is adopted", run.name)

    def _begin(self, lease: wire.Lease) -> None:
        until = now() + LEASE_SHARE * lease["ttl_seconds"]
        if self._held.get(lease["task_id"], lease["generation"]):
            return
        name = f"{lease['task_id']}-{lease['generation']}"
        share = self._share(name, lease)
        run = Run(self._tools, lease, share or Share(0.0, 0, {}), until, self._ended)
        self._held.add(run)
        if share is None:
            run.decline("there is no room for it on this machine")
        else:
            run.start()
            self._beat_now.set()  # what we were told may be old: the first renewal makes sure

    def _share(self, name: str, lease: wire.Lease) -> Share | None:
        wanted = (lease["cpus"], lease["memory_bytes"], lease["gpu_count"])
        if not any(wanted):  # nothing declared: counts as one CPU, whether that is free or not
            share = Share(1.0, 0, {})
            self._tools.slots.hold(name, share)
            return share
        try:
            return self._tools.slots.take(name, *wanted)
        except NoRoom as error:
            _logger.warning("task %s: %s", name, error)
            return None

    def _ended(self, run: Run) -> None:
        self._tools.slots.release(run.name)
        self._held.remove(run)

    # -- leases -----------------------------------------------------------------------------------------------

    def _leases(self) -> None:
        failures = 0
        while not self._over.is_set():
            self._held.changed.clear()
            free = self._tools.slots.free()
            if self._draining.is_set() or (free.cpus <= ROUNDING and free.gpus <= ROUNDING):
                self._held.changed.wait(FULL_WAIT_SECONDS)
                continue
            try:
                self._lease_once()
                failures = 0
            except CallFailed as error:
                self._heard(error)
                self._over.wait(self._client.pause_after(error, failures, LEASE_PAUSE_SECONDS_MAX))
                failures += 1

    def _lease_once(self) -> None:
        free, held = self._tools.slots.free(), self._held.all()
        wait = BUSY_WAIT_SECONDS if held else LEASE_WAIT_SECONDS
        request = wire.LeaseRequest(
            wait_seconds=wait,
            cpus_free=free.cpus,
            memory_bytes_free=free.memory_bytes,
            disk_bytes_free=machine.disk_free_bytes(self._tools.home.path),
            gpus_free=free.gpus,
            held=[run.key[0] for run in held],
        )
        reply: wire.LeaseReply = self._client.post(wire.LEASE, request, timeout_seconds=wait + REPLY_SECONDS)
        self._heard(None)
        lease = reply["lease"]
        if lease is not None:
            self._begin(lease)
        if reply["drain"]:
            self.drain()

    # -- signs of life ----------------------------------------------------------------------------------------

    def _beats(self) -> None:
        every = self._joined["heartbeat_seconds"]
        failures = 0
        while not self._over.is_set():
            try:
                self._beat()
                failures, pause = 0, every * self._rng.uniform(1 - BEAT_JITTER, 1)
            except CallFailed as error:
                self._heard(error)
                failures, pause = failures + 1, self._client.pause_after(error, failures, every)
            self._beat_now.wait(pause)
            self._beat_now.clear()

    def _beat(self) -> None:
        asked = (
            now()
        )  # before the call: however long the answer takes, the lease is never thought longer than it is
        message = wire.Heartbeat(held=self._held.named(), stats=self._stats())
        least, most = BEAT_TIMEOUT_SECONDS
        timeout = min(most, max(least, BEAT_TIMEOUT_SHARE * self._joined["lease_ttl_seconds"]))
        reply: wire.HeartbeatReply = self._client.post(wire.HEARTBEAT, message, timeout_seconds=timeout)
        self._heard(None)
        self._obey(reply, asked)

    def _obey(self, reply: wire.HeartbeatReply, asked: float) -> None:
        for run in self._held.of_tasks(reply["renewed"]):
            run.renew(asked + LEASE_SHARE * run.lease["ttl_seconds"])
        for stale in reply["stale"]:
            self._with(stale["task_id"], stale["generation"], Run.abandon)
        for stop in reply["stop"]:
            run_to_stop = self._held.get(stop["task_id"], stop["generation"])
            if run_to_stop:
                run_to_stop.stop(stop["reason"], stop["grace_seconds"])
        fresh = reply.get("credential")
        if fresh:
            self._credential.replace(fresh)
        if reply["drain"]:
            self.drain()

    def _with(self, task_id: int, generation: int, action: Callable[[Run], None]) -> None:
        run = self._held.get(task_id, generation)
        if run:
            action(run)

    def _stats(self) -> dict[str, float]:
        free = self._tools.slots.free()
        return {
            "cpus_free": free.cpus,
            "gpus_free": free.gpus,
            "load_1m": os.getloadavg()[0],
            "memory_bytes_available": float(machine.memory_available_bytes()),
            "disk_bytes_free": float(machine.disk_free_bytes(self._tools.home.path)),
        }

    def _heard(self, error: CallFailed | None) -> None:
        """Any answer but a refusal of our credential is contact."""
        if isinstance(error, Unauthorized):
            self._refusals += 1
            if self._refusals >= DISOWNED_AFTER:
                self._disowned()
        elif not isinstance(error, RETRYABLE) or error.status:
            self._contact = now()
            self._refusals = 0

    def _disowned(self) -> None:
        _logger.error("the server does not know this agent any more: ending its tasks")
        for run in self._held.all():
            run.abandon()
        end = now() + STALE_WAIT_SECONDS
        while self._held.all() and now() < end and not self._over.wait(WATCH_SECONDS):
            continue
        self._give_up(EXIT_DISOWNED)

    # -- the end of the machine -------------------------------------------------------------------------------

    def _watch_for(self, watcher: Watcher) -> None:
        told: set[str] = set()
        while not self._over.wait(watcher.poll_seconds):
            try:
                notice = watcher.poll()
            except MetadataFailed as error:
                _logger.debug("no word of preemption: %s", error)
                continue
            if notice and notice.source not in told:
                told.add(notice.source)
                self._preempted(notice)

    def _preempted(self, notice: Notice) -> None:
        _logger.warning("notice from %s: %.0f s left", notice.source, notice.seconds_left)
        end = now() + notice.seconds_left
        self.drain()
        if notice.firm:
            for run in self._held.all():
                run.stop("preempted", notice.seconds_left)
        telling = threading.Thread(target=self._tell_notice, args=(notice.source, end), daemon=True)
        self._tellings.append(telling)
        telling.start()

    def _tell_notice(self, source: str, end: float) -> None:
        def tell() -> Any:
            message = wire.PreemptionNotice(source=source, seconds_left=max(0.0, end - now()))
            return self._client.post(wire.NOTICE, message)

        try:
            self._obey(self._client.persistently(tell, self._over.wait), now())
        except CallFailed as error:
            _logger.warning("the notice was not taken: %s", error)

    def _is_telling(self) -> bool:
        """The server hears why we leave before it hears that we do."""
        return any(telling.is_alive() for telling in self._tellings)

    def _look_around(self) -> None:
        if self._tools.home.drain_flag.exists():
            self.drain()
        if self._draining.is_set() and not self._held.all() and not self._is_telling():
            self._leave()
        if now() - self._contact > self._dead_man_seconds():
            _logger.error("no contact for %.0f s: giving up", now() - self._contact)
            self._give_up(EXIT_DEAD_MAN)

    def _dead_man_seconds(self) -> float:
        return self._joined["dead_man_seconds"] or self._tools.settings.dead_man_seconds

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        tries = iter(range(LEAVE_TRIES))
        try:
            self._client.persistently(
                lambda: self._client.post(wire.LEAVE, {}),
                lambda pause: next(tries, None) is None or self._over.wait(pause),
            )
        except Conflict:
            _logger.info("the server had let us go already")
        except CallFailed as error:
            _logger.warning("leaving was not taken: %s", error)
        self._acknowledge()
        self._tools.home.drain_flag.unlink(missing_ok=True)
        if (
            not self._tools.settings.machine
        ):  # a machine waits to be taken away; silence makes it switch itself off
            self.terminate()

    def _acknowledge(self) -> None:
        for watcher in self._watchers:
            try:
                watcher.acknowledge()
            except MetadataFailed as error:
                _logger.info("the notice was not acknowledged: %s", error)

    def _give_up(self, code: int) -> None:
        self._exit_code = code
        if self._tools.settings.machine:
            self._power_off()
        self.terminate()

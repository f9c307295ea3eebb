"""A fake machine with its agent: boots, joins, leases, beats, runs, loses contact, comes back as a zombie.

It keeps to what the real agent promises: a task without contact is dead after 0.8 TTL of its own monotonic
clock, a stale one at once, and the machine switches itself off when nobody has been heard of for too long.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ...agent_bootstrap import wire
from .door import Refused
from .ledger import Machine
from .surroundings import Around, Fate, Run, Unreachable

LEASE_SHARE: Final = 0.8
IDLE_POLL_SECONDS: Final = 40.0
BUSY_POLL_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 10.0
JOIN_TRIES: Final = 40
DISOWNED_AFTER: Final = 3
LONG_TEXT: Final = "y" * 200_000


@dataclass
class Agent:
    """One machine. `token` is the join token out of its user-data."""

    machine: Machine
    token: str
    around: Around
    rng: random.Random
    secret: str = ""
    joined: dict[str, Any] = field(default_factory=dict)
    held: dict[tuple[int, int], Run] = field(default_factory=dict)
    contact: float = 0.0
    draining: bool = False
    left: bool = False
    refusals: int = 0
    cut_until: float = 0.0
    deaf_until: float = 0.0
    frozen_until: float = 0.0
    _thawing: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_up(self) -> bool:
        return self.machine.alive and not self.left

    # -- time -------------------------------------------------------------------------------------------------

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """On this machine: nothing happens once it is gone, and while it is frozen all is late."""

        def due() -> None:
            if not self.machine.alive:
                return
            if self.around.time.now < self.frozen_until:
                self._thawing.append(work)
                return
            work()

        self.around.time.after(seconds, due)

    def freeze(self, seconds: float) -> None:
        self.frozen_until = max(self.frozen_until, self.around.time.now + seconds)
        self.around.say(f"agent  {self.machine.token} is frozen for {seconds:.0f} s")

        def thaw() -> None:
            if self.around.time.now < self.frozen_until:
                return  # frozen again meanwhile
            late, self._thawing = self._thawing, []
            self.rng.shuffle(late)  # what a thawed machine does first is anybody's guess
            for work in late:
                if self.machine.alive:
                    work()

        self.around.time.after(seconds, thaw)

    # -- talk -------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: dict[str, Any], secret: str = "") -> dict[str, Any]:
        now = self.around.time.now
        if now < self.cut_until:
            raise Unreachable
        reply = self.around.post(self.machine, path, secret or self.secret, body)
        if now < self.deaf_until:
            raise Unreachable
        return reply

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The reply, or None when none came; counts what it says of us."""
        try:
            reply = self._post(path, body)
        except Unreachable:
            return None
        except Refused as refused:
            self._heard(refused)
            raise
        self._heard(None)
        return reply

    def _heard(self, refused: Refused | None) -> None:
        if refused is not None and refused.status == 401:
            self.refusals += 1
            if self.refusals >= DISOWNED_AFTER and not self.left:
                self._abandon_all("disowned")
                self._go("disowned")
        else:
            self.refusals = 0
            self.contact = self.around.time.now

    # -- boot -------------------------------------------------------------------------------------------------

    def boot(self, tries: int = 0) -> None:
        skew = self.rng.uniform(-3_600, 3_600) if self.around.weather.has("clock-skew") else 0.0
        inventory = {
            "cpus": int(self.machine.offer.cpus),
            "memory_bytes": self.machine.offer.memory_bytes,
            "disk_bytes": 0,
            "gpus": [],
            "python": "3.11",
            "hostname": f"{self.machine.ref}-{self.around.time.now + skew:.0f}",
            "agent_version": "0",
        }
        try:
            self.joined = self._post(wire.JOIN, {"inventory": inventory, "identity": {}}, self.token)
        except Unreachable:
            self._boot_again(tries)
            return
        except Refused as refused:
            if refused.status >= 500:
                self._boot_again(tries)
            else:
                self.around.say(f"agent  {self.machine.token} may not join: {refused}")
                self._go("the join was refused")
            return
        self.secret = self.joined["credential"]
        self.machine.joined_at = self.contact = self.around.time.now
        self.around.say(f"agent  {self.machine.token} joined")
        self._beat()
        self._poll()
        self._watch_contact()

    def _boot_again(self, tries: int) -> None:
        if tries >= JOIN_TRIES:
            self._go("can't reach the server")
            return
        self.after(self.rng.uniform(1, 2 * RETRY_SECONDS), lambda: self.boot(tries + 1))

    def fail_boot(self) -> None:
        text = LONG_TEXT if self.around.weather.strikes("oversize", 0.3) else "no GPU driver"
        with contextlib.suppress(Unreachable, Refused):
            self._post(wire.FAILED, {"stage": "bootstrap", "message": text}, self.token)
        self._go("its bootstrap failed")

    # -- leases -----------------------------------------------------------------------------------------------

    def _free(self) -> tuple[float, int]:
        cpus = self.machine.offer.cpus - sum(run.lease["cpus"] for run in self.held.values())
        memory = self.machine.offer.memory_bytes - sum(
            run.lease["memory_bytes"] for run in self.held.values()
        )
        return max(0.0, cpus), max(0, memory)

    def _poll(self) -> None:
        if not self.is_up or self.draining:
            return
        self.after(
            self.rng.uniform(0.5, 1.0) * (BUSY_POLL_SECONDS if self.held else IDLE_POLL_SECONDS), self._poll
        )
        self.look()

    def look(self) -> None:
        """Ask for work if there is room for any."""
        cpus, memory = self._free()
        if not self.is_up or self.draining or not self.secret or cpus < 1:
            return
        if self.around.time.now < self.frozen_until:
            return
        body = {
            "wait_seconds": 0.0,
            "cpus_free": cpus,
            "memory_bytes_free": memory,
            "disk_bytes_free": 0,
            "gpus_free": 0.0,
            "held": sorted(task_id for task_id, _ in self.held),
        }
        try:
            reply = self._ask(wire.LEASE, body)
        except Refused:
            return
        if reply is None:
            return
        if reply["lease"] is not None:
            self._begin(reply["lease"])
            self.after(0.1, self.look)
        if reply["drain"]:
            self._drain()

    def _begin(self, lease: wire.Lease) -> None:
        now = self.around.time.now
        if (lease["task_id"], lease["generation"]) in self.held:
            return
        run = Run(lease, now + LEASE_SHARE * lease["ttl_seconds"], now)
        self.held[run.key] = run
        fate = self.around.fate_of(lease, self.rng)
        self.around.say(
            f"agent  {self.machine.token} runs {lease['task_id']}g{lease['generation']} for {fate.seconds:.0f} s"
        )
        self._watch_lease(run)
        self.after(self.rng.uniform(0.0, 3.0), lambda: self._tell_started(run))
        self.after(fate.seconds, lambda: self._finish(run, fate))

    def _tell_started(self, run: Run) -> None:
        if not run.alive or run.told_started or run.key not in self.held or self.left:
            return
        try:
            run.told_started = self._ask(run.path + "/started", {}) is not None
        except Refused as refused:
            if refused.status == 409:
                self._drop(run, "stale at its start")
                return
        if not run.told_started:
            self.after(self.rng.uniform(1, RETRY_SECONDS), lambda: self._tell_started(run))

    def _watch_lease(self, run: Run) -> None:
        if run.watched or not run.alive:
            return
        run.watched = True

        def look() -> None:
            run.watched = False
            if run.alive and run.key in self.held:
                if self.around.time.now >= run.until - 1e-6:
                    self._drop(run, "no contact")
                else:
                    self._watch_lease(run)

        self.after(max(0.0, run.until - self.around.time.now), look)

    def _finish(self, run: Run, fate: Fate) -> None:
        if not run.alive or run.result is not None or self.left:
            return
        if fate.takes_machine:
            if self.rng.random() < 0.5:
                self.around.end(self.machine, "its task took it down", silently=True)
            else:
                self._go_silent()
            return
        self._ended(run, fate.outcome, fate.exit_code)

    def _ended(self, run: Run, outcome: str, exit_code: int | None) -> None:
        """The process is over: what is left is to say so."""
        text = LONG_TEXT if self.around.weather.strikes("oversize", 0.2) else ""
        run.alive = False
        run.result = {
            "outcome": outcome,
            "exit_code": exit_code,
            "reason": outcome,
            "message": text,
            "run_seconds": self.around.time.now - run.began,
        }
        self._report(run)

    def _report(self, run: Run) -> None:
        if run.key not in self.held or run.result is None or self.left:
            return
        try:
            reply = self._ask(run.path + "/result", dict(run.result))
        except Refused as refused:
            if refused.status in (409, 422):
                self._drop(run, f"its result is refused: {refused}")
                return
            reply = None
        if reply is None:
            self.after(self.rng.uniform(1, RETRY_SECONDS), lambda: self._report(run))
            return
        del self.held[run.key]
        self._leave_when_empty()
        self.look()

    # -- signs of life ----------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if not self.is_up:
            return
        every = self.joined["heartbeat_seconds"]
        self.after(self.rng.uniform(0.9, 1.0) * every, self._beat)
        self.beat()

    def beat(self) -> None:
        """One sign of life, and what follows from the answer."""
        asked = self.around.time.now
        held = [{"task_id": task, "generation": generation} for task, generation in self.held]
        try:
            reply = self._ask(wire.HEARTBEAT, {"held": held, "stats": {}})
        except Refused:
            return
        if reply is not None:
            self._obey(reply, asked)

    def _obey(self, reply: dict[str, Any], asked: float) -> None:
        renewed = set(reply["renewed"])
        for run in list(self.held.values()):
            if run.lease["task_id"] in renewed:
                run.until = asked + LEASE_SHARE * run.lease["ttl_seconds"]
        for stale in reply["stale"]:
            found = self.held.get((stale["task_id"], stale["generation"]))
            if found is not None:
                self._drop(found, "stale")
        for stop in reply["stop"]:
            found = self.held.get((stop["task_id"], stop["generation"]))
            if found is not None and found.alive:
                self._stop(found, stop["reason"], stop["grace_seconds"])
        if reply.get("credential"):
            self.secret = reply["credential"]
        if reply["drain"]:
            self._drain()

    def _stop(self, run: Run, reason: str, grace_seconds: float) -> None:
        """The task saves itself within its grace, and ends as what it was stopped for."""

        def saved() -> None:
            if run.alive and run.key in self.held:
                outcome = "preempted" if reason == "preempted" else "stopped"
                self._ended(run, outcome, 143)

        self.after(self.rng.uniform(0.1, 0.9) * min(grace_seconds, 60.0), saved)

    def notice(self, seconds_left: float) -> None:
        """The cloud says that it takes the machine back."""
        if not self.is_up or not self.secret:
            return
        self.draining = True
        asked = self.around.time.now
        try:
            reply = self._ask(wire.NOTICE, {"source": "aws-spot", "seconds_left": seconds_left})
        except Refused:
            reply = None
        if reply is not None:
            self._obey(reply, asked)
        elif seconds_left > 10:
            self.after(5.0, lambda: self.notice(seconds_left - 5.0))

    # -- the end ----------------------------------------------------------------------------------------------

    def _drop(self, run: Run, why: str) -> None:
        """Kill its tree and say nothing more of it."""
        run.alive = False
        if self.held.pop(run.key, None) is not None:
            self.around.say(f"agent  {self.machine.token} drops {run.key[0]}g{run.key[1]}: {why}")
        self._leave_when_empty()

    def _abandon_all(self, why: str) -> None:
        for run in list(self.held.values()):
            self._drop(run, why)

    def _drain(self) -> None:
        self.draining = True
        self._leave_when_empty()

    def _leave_when_empty(self) -> None:
        if not self.draining or self.held or self.left:
            return
        try:
            self._post(wire.LEAVE, {})
        except (Unreachable, Refused):
            self.after(RETRY_SECONDS, self._leave_when_empty)
            return
        self._go("drained")

    def _go(self, why: str) -> None:
        """The agent ends, and as a rule the machine with it."""
        self.left = True
        for run in self.held.values():
            run.alive = False
        if self.rng.random() < 0.7:
            self.around.shut_down(self.machine, why)

    def _go_silent(self) -> None:
        """The agent is dead and the machine is not."""
        self.around.say(f"agent  {self.machine.token} died, its machine runs on")
        self.left = True
        for run in self.held.values():
            run.alive = False

    def _watch_contact(self) -> None:
        """The dead-man switch."""
        if not self.is_up:
            return
        limit = self.joined["dead_man_seconds"]
        silent = self.around.time.now - self.contact
        if silent >= limit and not any(run.alive for run in self.held.values()):
            self._go("nobody was heard of for too long")
            self.around.shut_down(self.machine, "dead-man switch")
            return
        self.after(max(10.0, limit - silent), self._watch_contact)

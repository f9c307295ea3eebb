"""Agents that wait for work, first come first served: as many are woken as there are new tasks, no more.

A waiter is registered before it looks into the queue, so what arrives between its look and its wait wakes it. A wake
that turns out to be no use to its waiter (the task doesn't fit its machine) goes on to the next who was waiting then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import islice


@dataclass(frozen=True, slots=True)
class Wake:
    """One new task. Goes to one waiter at a time, and only to those registered up to number `newest`."""

    pools: tuple[str, ...]
    newest: int


class Waiter:
    """One agent's long poll. Made by `Dispatcher.poll`; used by the event loop it was made in."""

    def __init__(self, dispatcher: Dispatcher, pool: str, instance_id: str) -> None:
        self.pool = pool
        self.instance_id = instance_id
        self.number = 0
        """Its place in the line, new at each registration."""
        self.pending: Wake | None = None
        self.kicked = False
        self._using: Wake | None = None
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> bool:
        """True: look into the queue again. False: nothing came. The wake before, if any, found nothing: passed on."""
        self._give_up_use()
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                await self._event.wait()
        except TimeoutError:
            pass  # a wake may have come in that very moment: `_awake` sees it
        return self._awake()

    def served(self) -> None:
        """What the last wake promised was found."""
        self._using = None

    def ring(self) -> bool:
        """Have `wait` return; from any thread. False if its event loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            return False
        return True

    def leave(self) -> None:
        """The poll is over: wakes it has not used go to others."""
        unused = self._dispatcher.unregister(self)
        self._give_up_use()
        if unused is not None:
            self._dispatcher.pass_on(unused)

    def _awake(self) -> bool:
        # Registered again before the caller looks: what comes after its look must find it in the line.
        self._event.clear()
        self._using, kicked = self._dispatcher.take_wake(self)
        return kicked or self._using is not None

    def _give_up_use(self) -> None:
        wake, self._using = self._using, None
        if wake is not None:
            self._dispatcher.pass_on(wake)


class Dispatcher:
    """Lines of waiters by pool. `notify` and `notify_instance` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, dict[int, Waiter]] = {}
        """By pool, by number: insertion order is the order of the line. Those with a pending wake are not in it."""
        self._instances: dict[str, set[Waiter]] = {}
        self._last_number = 0

    @contextmanager
    def poll(self, pool: str, instance_id: str) -> Iterator[Waiter]:
        """Stand in line while the block runs. Enter it before looking into the queue."""
        waiter = Waiter(self, pool, instance_id)
        with self._lock:
            self._instances.setdefault(instance_id, set()).add(waiter)
            self._register(waiter)
        try:
            yield waiter
        finally:
            waiter.leave()

    def notify(self, pools: Iterable[str], tasks: int = 1) -> int:
        """Wake those who wait longest in any of these pools, at most one for each task. Returns how many."""
        with self._lock:
            wake = Wake(tuple(dict.fromkeys(pools)), self._last_number)
            return self._give(wake, tasks)

    def notify_instance(self, instance_id: str) -> None:
        """Have this instance's polls look again (it is to drain)."""
        with self._lock:
            for waiter in self._instances.get(instance_id, ()):
                waiter.kicked = True
                waiter.ring()

    def waiting(self, pool: str) -> int:
        """How many stand in this line."""
        with self._lock:
            return len(self._lines.get(pool, ()))

    def pass_on(self, wake: Wake) -> None:
        """Wake the next in line who stood there when this wake came; if nobody did, it is done with."""
        with self._lock:
            self._give(wake, 1)

    def take_wake(self, waiter: Waiter) -> tuple[Wake | None, bool]:
        """What woke it: (wake, kicked). One with a wake goes to the end of the line."""
        with self._lock:
            wake, waiter.pending = waiter.pending, None
            kicked, waiter.kicked = waiter.kicked, False
            if wake is not None:
                self._register(waiter)
            return wake, kicked

    def unregister(self, waiter: Waiter) -> Wake | None:
        """Out of the line; returns the wake it was given and did not take."""
        with self._lock:
            self._drop(self._lines, waiter)
            ours = self._instances[waiter.instance_id]
            ours.discard(waiter)
            if not ours:
                del self._instances[waiter.instance_id]
            wake, waiter.pending = waiter.pending, None
            return wake

    def _register(self, waiter: Waiter) -> None:
        self._last_number += 1
        waiter.number = self._last_number
        self._lines.setdefault(waiter.pool, {})[waiter.number] = waiter

    def _give(self, wake: Wake, tasks: int) -> int:
        lines = [self._lines[pool] for pool in wake.pools if pool in self._lines]
        given = 0
        for number in list(islice(merge(*lines), max(0, tasks))):
            if number > wake.newest:
                break
            waiter = next(line[number] for line in lines if number in line)
            self._drop(self._lines, waiter)
            if waiter.ring():
                waiter.pending = wake
                given += 1
        return given

    @staticmethod
    def _drop(lines: dict[str, dict[int, Waiter]], waiter: Waiter) -> None:
        line = lines.get(waiter.pool)
        if line is not None and line.pop(waiter.number, None) is not None and not line:
            del lines[waiter.pool]

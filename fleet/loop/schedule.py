"""When things happen: APScheduler runs the ticks, the refresh of offers, the sweeps and the warm windows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.executors.pool import BasePoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from ..store import decisions, health, offers
from .context import Context
from .tick import TickReport, tick

TICK: Final = "tick"
OFFERS: Final = "offers"
WARM_PREFIX: Final = "warm:"
OFFERS_EVERY_SECONDS: Final = 600.0
PRUNE_EVERY_SECONDS: Final = 3_600.0
DECISIONS_KEPT_SECONDS: Final = 7 * 86_400.0
WAKE_GAP_SECONDS: Final = 0.1
"""A storm of wakes gives at most so many ticks: one each tenth of a second."""
THREADS: Final = 4
MISFIRE_SECONDS: Final = 3_600
"""A run that is late by less than this still happens, once; ticks and windows look at the time themselves."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """Work that is done every so often. `run` gets nothing and raises what it likes: it is logged."""

    name: str
    every_seconds: float
    run: Callable[[], object]


OnTick = Callable[[TickReport | None, float, BaseException | None], None]
"""Told after each tick: its report (None if it raised), how many seconds it took, and the error."""


def _nobody(_report: TickReport | None, _seconds: float, _error: BaseException | None) -> None:
    """No one is interested."""


class Schedule:
    """A started scheduler. `wake()` runs a tick at once, or once more when one is running; safe from any thread."""

    def __init__(self, context: Context, on_tick: OnTick = _nobody) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hostler-loop")
        self.scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": _Threads(self._pool)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_SECONDS},
        )
        self._context = context
        self._on_tick = on_tick
        self._wanted = threading.Event()
        self._ticking = threading.Lock()

    def wake(self) -> None:
        """Ask for a tick now. Many calls before it begins are one."""
        if self._wanted.is_set():
            return
        self._wanted.set()
        self._run_soon()

    def reload(self) -> None:
        """The configuration has changed: rebuild the windows, take the new interval, and look at it at once.

        What only a person could mend may be mended now: those errors are forgotten, the next call will tell.
        """
        self._context.db.write(lambda conn: health.clear(conn, codes=health.MENDED_BY_PEOPLE))
        interval = IntervalTrigger(seconds=self._context.fleet().daemon.tick, timezone=UTC)
        self.scheduler.reschedule_job(TICK, trigger=interval)
        self._schedule_windows()
        self.scheduler.modify_job(OFFERS, next_run_time=datetime.now(UTC))
        self.wake()

    def stop(self, *, wait: bool = True) -> None:
        """Run nothing more; with `wait` after what runs now has ended. Instances stay as they are."""
        if self.scheduler.running:
            # APScheduler waits while it holds the lock that a job needs to ask for its next run: wait without it.
            self.scheduler.shutdown(wait=False)
        self._pool.shutdown(wait=wait)

    def begin(self, sweeps: Sequence[Sweep], offers_every_seconds: float) -> None:
        """Set up all jobs and start: the first refresh of offers and the first tick run at once."""
        now = datetime.now(UTC)
        seconds = self._context.fleet().daemon.tick
        # Two at once, so that a wake during a tick is not refused: the second only leaves word for the first.
        self.scheduler.add_job(
            self._tick, "interval", seconds=seconds, id=TICK, next_run_time=now, max_instances=2
        )
        self._every(Sweep(OFFERS, offers_every_seconds, self._refresh_offers), now)
        for sweep in (Sweep("prune", PRUNE_EVERY_SECONDS, self._prune), *sweeps):
            self._every(sweep, now + timedelta(seconds=sweep.every_seconds))
        self._schedule_windows()
        self.scheduler.start()

    def _every(self, sweep: Sweep, first: datetime) -> None:
        self.scheduler.add_job(
            _logged(sweep), "interval", seconds=sweep.every_seconds, id=sweep.name, next_run_time=first
        )

    def _schedule_windows(self) -> None:
        """At each start and end of a warm window a tick looks at the time; what is open stands in the store."""
        for job in self.scheduler.get_jobs():
            if job.id.startswith(WARM_PREFIX):
                job.remove()
        for name, pool in self._context.fleet().pools.items():
            for index, window in enumerate(pool.warm):
                for edge, trigger in (("opens", window.opens()), ("closes", window.closes())):
                    self.scheduler.add_job(self.wake, trigger, id=f"{WARM_PREFIX}{name}:{index}:{edge}")

    def _run_soon(self, after_seconds: float = 0.0) -> None:
        try:
            self.scheduler.modify_job(
                TICK, next_run_time=datetime.now(UTC) + timedelta(seconds=after_seconds)
            )
        except JobLookupError:
            _log.debug("woken while the scheduler is stopped")

    def _tick(self) -> None:
        if not self._ticking.acquire(blocking=False):
            self._wanted.set()
            return
        try:
            self._wanted.clear()
            self._run_tick()
        finally:
            self._ticking.release()
        if self._wanted.is_set():
            self._run_soon(WAKE_GAP_SECONDS)

    def _run_tick(self) -> None:
        began = time.monotonic()
        report: TickReport | None = None
        error: BaseException | None = None
        try:
            report = tick(self._context)
        except Exception as raised:  # noqa: BLE001  the next tick tries again; on_tick is told
            _log.exception("the tick failed")
            error = raised
        self._on_tick(report, time.monotonic() - began, error)

    def _refresh_offers(self) -> None:
        self._context.offers.refresh(self._context.effects, self._context.providers)
        self.wake()

    def _prune(self) -> None:
        before = self._context.clock() - DECISIONS_KEPT_SECONDS
        effects = self._context.effects
        while effects.write("prune", lambda conn: decisions.prune(conn, before)) == decisions.PRUNED_AT_ONCE:
            pass
        effects.write("prune", lambda conn: offers.prune(conn, self._context.fleet().providers))


def start(
    context: Context,
    *,
    on_tick: OnTick = _nobody,
    sweeps: Sequence[Sweep] = (),
    offers_every_seconds: float = OFFERS_EVERY_SECONDS,
) -> Schedule:
    """Start the loop. The schedule that comes back holds the scheduler, `wake()`, `reload()` and `stop()`."""
    schedule = Schedule(context, on_tick)
    schedule.begin(sweeps, offers_every_seconds)
    return schedule


class _Threads(BasePoolExecutor):  # type: ignore[misc]  # APScheduler has no type information
    """Runs jobs on a pool that we can wait for ourselves."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__(pool)


def _logged(sweep: Sweep) -> Callable[[], Any]:
    def run() -> None:
        try:
            sweep.run()
        except Exception:  # noqa: BLE001  a sweep must not end the schedule
            _log.exception("%s failed; it runs again in %g s", sweep.name, sweep.every_seconds)

    return run

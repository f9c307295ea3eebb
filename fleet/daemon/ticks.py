"""What is done after each tick: the pulse, the watchdog, the figures, and agents woken for tasks come due."""

from __future__ import annotations

import logging
from typing import Final

from ..api.state import AppState
from ..loop.tick import TickReport
from ..queue import announce, came_due
from .notify import Notifier

_log: Final = logging.getLogger(__name__)


class AfterTick:
    """Called by the schedule after each tick, on its thread."""

    def __init__(self, state: AppState, notifier: Notifier) -> None:
        self._state = state
        self._notifier = notifier
        self._looked_at: float | None = None

    def __call__(self, report: TickReport | None, seconds: float, error: BaseException | None) -> None:
        state = self._state
        state.metrics.reconcile.observe(seconds)
        if report is None or error is not None:
            state.metrics.tick_errors.inc()
            state.pulse.failed(f"{type(error).__name__}: {error}")
            return
        state.metrics.tick_errors.inc(len(report.errors))
        state.pulse.beat(seconds)
        # Only here: a loop that hangs, or fails for good, must be restarted by systemd.
        self._notifier.alive()
        self.wake_for_due_tasks()

    def following(self) -> None:
        """In place of a tick while another daemon leads: all is well, and our own agents wait for work too."""
        self._state.pulse.stand_by()
        self._notifier.alive()
        self.wake_for_due_tasks()

    def wake_for_due_tasks(self) -> None:
        """Tasks whose back-off ended wrote no event, which is what wakes agents otherwise."""
        try:
            self._wake_for_due_tasks()
        except Exception:  # noqa: BLE001  agents poll anew within a minute anyway
            _log.exception("agents could not be woken for tasks whose back-off ended")

    def _wake_for_due_tasks(self) -> None:
        now, since = self._state.clock(), self._looked_at
        self._looked_at = now
        if since is None:
            return
        with self._state.database.read() as conn:
            due = came_due(conn, since=since, now=now)
        if due:
            announce(self._state.dispatcher, self._state.config.fleet, due)

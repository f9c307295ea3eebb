"""Wakes waiting agents when tasks arrived, whoever put them there: a submit, a requeue, a lease that ran out."""

from __future__ import annotations

import logging
from typing import Final

from .. import queue
from .sse import wait_for_change
from .state import AppState

_log: Final = logging.getLogger(__name__)


async def announce_arrivals(state: AppState) -> None:
    """Run until cancelled. An error is told and the next change tried again: agents poll anew within a minute."""
    position = await state.database.read_async(queue.newest)
    with state.hub.listen() as changed:
        while not state.hub.closed:
            changed.clear()
            try:
                position, more = await _announce(state, position)
            except Exception:  # noqa: BLE001  whatever it is, agents must go on being woken
                _log.exception("waiting agents could not be woken")
                more = False
            if not more:
                await wait_for_change(changed)


async def _announce(state: AppState, position: int) -> tuple[int, bool]:
    found = await state.database.read_async(lambda conn: queue.arrivals(conn, after=position))
    queue.announce(state.dispatcher, state.config.fleet, found.by_queue, found.instances)
    return found.last_event_id, found.more

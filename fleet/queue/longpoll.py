"""One agent's long poll: look, wait to be woken, look again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .dispatcher import Dispatcher

T = TypeVar("T")

WAIT_SECONDS_MAX = 60.0
"""A poll is never held open longer: proxies and sleeping machines drop silent connections."""


async def next_lease(
    dispatcher: Dispatcher,
    *,
    pool: str,
    instance_id: str,
    look: Callable[[], Awaitable[T | None]],
    wait_seconds: float,
) -> T | None:
    """What `look` finds first (a claim, or that the instance must drain), or None after `wait_seconds`.

    Cancelled while it waits, a wake it was given goes to the next in line.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + min(max(0.0, wait_seconds), WAIT_SECONDS_MAX)
    with dispatcher.poll(pool, instance_id) as waiter:
        while True:
            found = await look()
            if found is not None:
                waiter.served()
                return found
            left = until - loop.time()
            if left <= 0 or not await waiter.wait(left):
                return None

"""More agents at once than can be served in time: some are served, the rest are told when to come back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
from hostler.agent_bootstrap import wire
from hostler.fleet.api.admission import AT_ONCE_MAX, RETRY_AFTER_SECONDS_MAX, WAITING_MAX, Admission

CROWD = AT_ONCE_MAX + WAITING_MAX + 100


class Slow:
    """An application that answers nobody until it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def until(self, at_once: int) -> None:
        while self.at_once < at_once:  # noqa: ASYNC110  one look for each step of the loop
            await asyncio.sleep(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://daemon")


def test_a_crowd_is_served_a_few_at_a_time_and_those_beyond_are_told_to_come_back() -> None:
    async def play() -> None:
        slow = Slow()
        async with client_of(Admission(slow, random.Random(1))) as client:
            crowd = [asyncio.create_task(client.post(wire.HEARTBEAT)) for _ in range(CROWD)]
            done, waiting = await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 100:
                done, waiting = await asyncio.wait(crowd, timeout=0.01)
            refused = [one.result() for one in done]
            assert {one.status_code for one in refused} == {503}
            asked = {int(one.headers["retry-after"]) for one in refused}
            assert asked == set(range(1, RETRY_AFTER_SECONDS_MAX + 1))
            slow.gate.set()
            served = await asyncio.gather(*waiting)
            assert [one.status_code for one in served] == [200] * (AT_ONCE_MAX + WAITING_MAX)
            assert slow.most_at_once == AT_ONCE_MAX

    asyncio.run(play())


def test_people_and_waiting_polls_do_not_stand_in_line() -> None:
    async def play() -> None:
        slow = Slow()
        async with client_of(Admission(slow)) as client:
            paths = ["/api/v1/tasks", wire.LEASE, "/api/v1/record/tasks/1/1/blobs/00"]
            calls = [asyncio.create_task(client.post(path)) for path in paths for _ in range(AT_ONCE_MAX)]
            await slow.until(len(calls))
            slow.gate.set()
            assert {one.status_code for one in await asyncio.gather(*calls)} == {200}

    asyncio.run(play())


def test_who_gives_up_while_waiting_leaves_its_place_to_others() -> None:
    async def play() -> None:
        slow = Slow()
        async with client_of(Admission(slow)) as client:
            first = [asyncio.create_task(client.post(wire.HEARTBEAT)) for _ in range(AT_ONCE_MAX + 10)]
            await slow.until(AT_ONCE_MAX)
            for one in first[-10:]:
                one.cancel()
            await asyncio.wait(first[-10:])
            slow.gate.set()
            later = [client.post(wire.HEARTBEAT) for _ in range(2 * AT_ONCE_MAX)]
            assert {one.status_code for one in await asyncio.gather(*later)} == {200}

    asyncio.run(play())

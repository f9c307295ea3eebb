from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from hostler.fleet.queue import Dispatcher, next_lease

LONG = 30.0


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 20))


class Shop:
    """Work that lies in pools, agents that poll for it, and a count of how often they looked."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()
        self.work: dict[str, list[str]] = {}
        self.looks = 0
        self.served: list[tuple[str, str]] = []

    def put(self, pool: str, *names: str) -> None:
        self.work.setdefault(pool, []).extend(names)

    def agent(
        self, name: str, *, pool: str = "p", wait: float = LONG, only: str | None = None
    ) -> asyncio.Task[str | None]:
        async def look() -> str | None:
            self.looks += 1
            await asyncio.sleep(0)
            found = next((one for one in self.work.get(pool, []) if only in (None, one)), None)
            if found is not None:
                self.work[pool].remove(found)
                self.served.append((name, found))
            return found

        return asyncio.create_task(
            next_lease(self.dispatcher, pool=pool, instance_id=name, look=look, wait_seconds=wait)
        )

    async def all_wait(self, count: int, pool: str = "p") -> None:
        await until(lambda: self.looks >= count and self.dispatcher.waiting(pool) >= count)
        await settle()


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until it is so; `run` sets the deadline."""
    while not condition():  # noqa: ASYNC110  what is waited for has no event of its own
        await asyncio.sleep(0)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def end(*polls: asyncio.Task[Any]) -> None:
    for one in polls:
        one.cancel()
    await asyncio.gather(*polls, return_exceptions=True)


def test_work_that_lies_there_already_is_had_without_waiting() -> None:
    async def main() -> None:
        shop = Shop()
        shop.put("p", "job")
        assert await shop.agent("a") == "job"
        assert shop.dispatcher.waiting("p") == 0

    run(main())


def test_those_who_wait_longest_are_served_first() -> None:
    async def main() -> None:
        shop = Shop()
        polls = []
        for index in range(5):
            polls.append(shop.agent(f"a{index}"))
            await shop.all_wait(index + 1)
        for job in ("one", "two", "three"):
            shop.put("p", job)
            shop.dispatcher.notify(["p"], 1)
            await settle()
        assert shop.served == [("a0", "one"), ("a1", "two"), ("a2", "three")]
        await end(*polls)

    run(main())


def test_three_tasks_wake_three_of_a_hundred() -> None:
    async def main() -> None:
        shop = Shop()
        polls = [shop.agent(f"a{index}") for index in range(100)]
        await shop.all_wait(100)
        shop.put("p", "one", "two", "three")

        assert shop.dispatcher.notify(["p"], 3) == 3
        await settle()
        assert len(shop.served) == 3
        assert shop.looks == 100 + 3
        await end(*polls)

    run(main())


def test_what_arrives_between_the_look_and_the_wait_is_not_lost() -> None:
    async def main() -> None:
        shop = Shop()
        looked = 0

        async def look() -> str | None:
            nonlocal looked
            looked += 1
            found = shop.work.get("p", [])
            if not found:
                shop.put("p", "job")
                shop.dispatcher.notify(["p"], 1)
                return None  # this look was too early
            return found.pop()

        found = await next_lease(shop.dispatcher, pool="p", instance_id="a", look=look, wait_seconds=LONG)
        assert (found, looked) == ("job", 2)

    run(main())


def test_a_wake_that_is_no_use_to_its_waiter_goes_to_the_next() -> None:
    async def main() -> None:
        shop = Shop()
        polls = []
        for index in range(4):
            polls.append(shop.agent(f"a{index}", only="big" if index == 2 else "small"))
            await shop.all_wait(index + 1)
        shop.put("p", "big")
        shop.dispatcher.notify(["p"], 1)
        await settle()

        assert shop.served == [("a2", "big")]
        assert shop.looks == 4 + 3
        await end(*polls)

    run(main())


def test_a_wake_that_is_no_use_to_anybody_ends_after_one_round() -> None:
    async def main() -> None:
        shop = Shop()
        polls = [shop.agent(f"a{index}", only="small") for index in range(10)]
        await shop.all_wait(10)
        shop.put("p", "big")
        shop.dispatcher.notify(["p"], 1)
        for _ in range(10):
            await settle()

        assert shop.looks == 20
        assert shop.dispatcher.waiting("p") == 10
        await end(*polls)

    run(main())


def test_a_wake_given_to_a_poll_that_is_cancelled_goes_to_the_next() -> None:
    async def main() -> None:
        shop = Shop()
        first = shop.agent("a")
        await shop.all_wait(1)
        second = shop.agent("b")
        await shop.all_wait(2)
        shop.put("p", "job")
        shop.dispatcher.notify(["p"], 1)
        await end(first)

        assert await second == "job"

    run(main())


def test_a_poll_that_was_served_by_its_own_look_leaves_the_wake_to_others() -> None:
    async def main() -> None:
        shop = Shop()
        other = shop.agent("b", only="second")
        await shop.all_wait(1)

        async def look() -> str | None:
            # The line is a's place behind b; two tasks arrive while it looks, and it finds the first of them.
            shop.put("p", "second")
            shop.dispatcher.notify(["p"], 2)
            return "first"

        assert (
            await next_lease(shop.dispatcher, pool="p", instance_id="a", look=look, wait_seconds=1) == "first"
        )
        assert await other == "second"

    run(main())


def test_a_task_for_two_pools_wakes_one_agent_the_first_of_both() -> None:
    async def main() -> None:
        shop = Shop()
        in_p = shop.agent("a", pool="p")
        await shop.all_wait(1, "p")
        in_q = shop.agent("b", pool="q")
        await until(lambda: shop.dispatcher.waiting("q") == 1)
        await settle()
        shop.put("p", "job")

        assert shop.dispatcher.notify(["q", "p"], 1) == 1
        assert await in_p == "job"
        assert not in_q.done()
        await end(in_q)

    run(main())


def test_a_poll_ends_with_nothing_when_its_time_is_over() -> None:
    async def main() -> None:
        shop = Shop()
        assert await shop.agent("a", wait=0.01) is None
        assert shop.dispatcher.waiting("p") == 0
        assert shop.dispatcher.notify(["p"], 5) == 0

    run(main())


def test_an_instance_can_be_had_to_look_again() -> None:
    async def main() -> None:
        shop = Shop()
        polls = [shop.agent("a"), shop.agent("b")]
        await shop.all_wait(2)
        shop.dispatcher.notify_instance("b")
        await settle()

        assert shop.looks == 3
        shop.dispatcher.notify_instance("nobody")
        await end(*polls)

    run(main())


def test_it_can_be_told_from_another_thread() -> None:
    async def main() -> None:
        shop = Shop()
        poll = shop.agent("a")
        await shop.all_wait(1)
        shop.put("p", "job")
        threading.Thread(target=shop.dispatcher.notify, args=(["p"], 1)).start()

        assert await poll == "job"

    run(main())


def test_every_task_is_taken_when_many_agents_and_many_tasks_come_at_once() -> None:
    async def main() -> None:
        shop = Shop()
        jobs = [f"job{index}" for index in range(200)]

        async def worker(name: str) -> None:
            while len(shop.served) < len(jobs):
                await shop.agent(name, wait=5)

        workers = [asyncio.create_task(worker(f"a{index}")) for index in range(16)]
        for job in jobs:
            shop.put("p", job)
            shop.dispatcher.notify(["p"], 1)
            await asyncio.sleep(0)
        await until(lambda: len(shop.served) >= len(jobs))
        assert sorted(job for _, job in shop.served) == sorted(jobs)
        await end(*workers)

    run(main())

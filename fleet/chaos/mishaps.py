"""Mishaps: what befalls machines and those who try to reach them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ...providers.base import Market
from .agent import Agent
from .ledger import Machine
from .weather import HOUR

if TYPE_CHECKING:
    from .world import World


class Mishaps:
    """Draws them; the world lets them happen."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng

    def await_machine(self, machine: Machine, agent: Agent) -> None:
        """What will befall this machine, if it lives so long."""
        rng = self._rng
        cloud = self._world.clouds[machine.cloud]
        if machine.offer.market is Market.SPOT and self._world.weather.strikes("preemption", 0.6):
            notice = rng.choice((0.0, 25.0, 120.0))
            at = rng.expovariate(1 / HOUR)

            def reclaim() -> None:
                if not self._world.weather.has("preemption") or not machine.alive:
                    return
                self._world.say(f"cloud  {machine.ref} is reclaimed, notice {notice:.0f} s")
                if notice:
                    agent.notice(notice)
                self._world.time.after(notice, lambda: cloud.end(machine, "reclaimed"))

            self._world.time.after(at, reclaim)
        if self._world.weather.strikes("vanishing", 0.4):
            silently = rng.random() < 0.5
            self._world.time.after(
                rng.expovariate(1 / HOUR), lambda: self._vanish(machine, silently=silently)
            )

    def _vanish(self, machine: Machine, *, silently: bool) -> None:
        if self._world.weather.has("vanishing"):
            self._world.clouds[machine.cloud].end(machine, "vanished", silently=silently)

    def begin(self) -> None:
        """Every ten minutes or so something happens to somebody."""

        def strike() -> None:
            self.begin()
            self._mishap()

        self._world.time.after(self._rng.uniform(100.0, 900.0), strike)

    def _mishap(self) -> None:
        rng = self._rng
        up = [agent for agent in self._world.agents.values() if agent.is_up and agent.secret]
        seconds = rng.choice((20.0, 70.0, 150.0, 400.0, 1_500.0))
        now = self._world.time.now
        if up and self._world.weather.strikes("partitions", 0.6):
            agent = rng.choice(up)
            agent.cut_until = now + seconds
            self._world.say(f"agent  {agent.machine.token} is cut off for {seconds:.0f} s")
        if up and self._world.weather.strikes("one-way", 0.5):
            agent = rng.choice(up)
            agent.deaf_until = now + seconds
            self._world.say(f"agent  {agent.machine.token} is deaf for {seconds:.0f} s")
        if up and self._world.weather.strikes("pauses", 0.6):
            rng.choice(up).freeze(seconds)
        if self._world.weather.strikes("outages", 0.15):
            self._world.stop_dead(rng.choice((60.0, 300.0, 900.0)))

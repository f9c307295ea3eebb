"""Which faults there are, and how hard they blow in one run: drawn from the seed before it begins."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

HOUR: Final = 3_600.0
SHARE_OF_FAULTS_IN_A_RUN: Final = 0.5
"""Faults hide each other: a run has about half of them, a different half with each seed."""

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        # clouds
        "lost-replies": "launch and terminate happen, their answers don't come back",
        "late-effects": "a launch that timed out takes effect up to two minutes later",
        "throttling": "calls are refused because there were too many",
        "visibility-lag": "a new instance is listed up to 300 s late",
        "tag-lag": "a new instance is listed without its intent's tag, or without any, up to 280 s",
        "partial-answers": "a launch answers an instance and an error at once",
        "capacity-storms": "an offer, a zone or a whole market has nothing to sell for a while",
        "quota-zero": "a cloud's quota is zero for hours",
        "bad-image": "a cloud refuses every launch as invalid for hours",
        "credentials": "every call to a cloud is refused for up to an hour",
        "terminate-failing": "terminate raises for up to an hour",
        "terminate-ignored": "terminate is accepted, and nothing happens",
        "list-failing": "listings fail now and then, and for minutes on end",
        "forgetful-tokens": "a cloud forgets a launch token once it may",
        "strangers": "instances of other servers stand in the listing",
        # machines and agents
        "vanishing": "machines vanish without a word",
        "preemption": "spot machines are reclaimed, with and without notice",
        "bootstrap": "boots hang or fail, now and then or always for one type",
        "partitions": "an agent and the server don't reach each other",
        "one-way": "an agent's calls arrive, their answers don't",
        "pauses": "a machine is frozen and goes on later as if nothing had been",
        "clock-skew": "an agent's wall clock is up to an hour off",
        "oversize": "clouds and agents send texts of a megabyte",
        # server and database
        "disk-full": "the database refuses to commit for a while",
        "commit-unknown": "a commit is reported as failed, though it was made",
        "crashes": "the daemon is stopped dead at some effect of a tick",
        "outages": "the daemon is down for minutes",
        "split-brain": "a second daemon takes over in the middle of a tick of the first",
        # people
        "people": "tasks are stopped while anything is under way, and asked for again",
        "poison": "tasks that take their machine down, each time",
    }
)


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault that lasts. `scope` is what it hits: a cloud, an offer's key, a zone; '' = everything."""

    fault: str
    scope: str
    begins: float
    ends: float


def parse(text: str) -> frozenset[str]:
    """`all`, `none`, or names with commas between; `all,-crashes` is all but one. Raises ValueError."""
    chosen: set[str] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        name = word.removeprefix("-")
        if name in ("all", "none"):
            chosen = set(FAULTS) if name == "all" else set()
        elif name not in FAULTS:
            raise ValueError(f"no fault '{name}'; there are: {', '.join(FAULTS)}")
        elif word.startswith("-"):
            chosen.discard(name)
        else:
            chosen.add(name)
    return frozenset(chosen)


class Weather:
    """The faults of one run. `calm` ends all of them for good: what remains must come right by itself."""

    def __init__(self, rng: random.Random, faults: Collection[str], *, whole: bool) -> None:
        """`whole`: all of `faults` blow; otherwise about half of them, as the seed has it."""
        self._rng = rng
        drawn = {name: (rng.random() < SHARE_OF_FAULTS_IN_A_RUN, rng.random()) for name in FAULTS}
        self.blowing = {name for name in FAULTS if name in faults and (whole or drawn[name][0])}
        self._force = {name: force for name, (_, force) in drawn.items()}
        self._episodes: list[Episode] = []

    def has(self, fault: str) -> bool:
        return fault in self.blowing

    def calm(self) -> None:
        self.blowing = set()
        self._episodes = []

    def strikes(self, fault: str, most: float) -> bool:
        """Whether this fault hits now, with a probability of up to `most` by the force of this run."""
        if fault not in self.blowing:
            return False
        return self._rng.random() < most * (0.2 + 0.8 * self._force[fault])

    def hurts(self, fault: str, scope: str, now: float) -> bool:
        """Whether an episode of it lasts now over this scope."""
        return any(
            one.fault == fault and one.scope in ("", scope) and one.begins <= now < one.ends
            for one in self._episodes
        )

    def brew(self, fault: str, scope: str, *, start: float, hours: float, longest: float) -> list[Episode]:
        """Put up to two episodes of `fault` over `scope` somewhere into the run."""
        if fault not in self.blowing:
            return []
        made = []
        for _ in range(1 + int(self._rng.random() < 0.3)):
            begins = start + self._rng.random() * hours * HOUR
            made.append(Episode(fault, scope, begins, begins + longest * (0.1 + 0.9 * self._rng.random())))
        self._episodes += made
        return made

"""Instances that bear our tag, but that no live row stands for: how long each has been seen, and when to end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ...providers.base import CloudInstance, CloudState

ASK_EVERY_SECONDS: Final = 60.0
"""The end of a stray that is still there is asked for again after so long."""


@dataclass
class Sighting:
    """A stray as we know it so far."""

    first_at: float
    times: int = 0
    next_call_at: float = 0.0


@dataclass
class Sightings:
    """Strays by (provider, ref), kept between ticks. A restart forgets them, which only makes us wait again."""

    seen: dict[tuple[str, str], Sighting] = field(default_factory=dict)

    def due(
        self, provider: str, unknown: Sequence[CloudInstance], *, grace_seconds: float, now: float
    ) -> list[CloudInstance]:
        """Which of a provider's unknown instances were seen twice, are older than the grace and may be ended now."""
        present = {(provider, one.ref) for one in unknown}
        self.seen = {key: value for key, value in self.seen.items() if key[0] != provider or key in present}
        condemned = []
        for one in unknown:
            sighting = self.seen.setdefault((provider, one.ref), Sighting(now))
            sighting.times += 1
            begun = sighting.first_at if one.launched_at is None else min(one.launched_at, sighting.first_at)
            is_old = sighting.times >= 2 and now - begun >= grace_seconds
            if is_old and one.state is not CloudState.STOPPING and now >= sighting.next_call_at:
                sighting.next_call_at = now + ASK_EVERY_SECONDS
                condemned.append(one)
        return condemned

"""The power goes at one effect, for every effect there is; what comes after is a restart from the file."""

from __future__ import annotations

import pytest
from hostler.fleet.chaos.runs import run
from hostler.fleet.chaos.story import tell
from hostler.fleet.chaos.world import Orders

STORIES = {
    "fair weather": (2, "none"),
    "lost replies": (2, "lost-replies,visibility-lag,tag-lag"),
    "machines that end": (15, "preemption,vanishing,terminate-failing,terminate-ignored"),
}


def orders(seed: int, faults: str, stop_at: int | None = None) -> Orders:
    chosen = frozenset() if faults == "none" else frozenset(faults.split(","))
    return Orders(seed=seed, hours=0.25, faults=chosen, whole=True, stop_at=stop_at, tasks=2)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES)
def test_stopped_dead_at_any_effect_nothing_is_leaked_or_lost(story: str) -> None:
    seed, faults = STORIES[story]
    undisturbed = run(orders(seed, faults))
    assert not undisturbed.violations
    assert undisturbed.counts["machines"] > 0
    died = 0
    for k in range(1, undisturbed.effects + 1):
        outcome = run(orders(seed, faults, stop_at=k))
        assert not outcome.violations, f"stopped at effect {k}\n" + tell(outcome, 0.0, lines=40)
        died += outcome.counts["lives"] > 1
    assert died == undisturbed.effects

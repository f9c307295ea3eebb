"""A run told in words: one line if all was well, else what broke and what led to it."""

from __future__ import annotations

from typing import Final

from .world import Outcome

DIGEST_SHOWN: Final = 16


def tell(outcome: Outcome, seconds: float, *, lines: int) -> str:
    """`lines`: how much of the story before each violation is shown."""
    orders = outcome.orders
    counts = ", ".join(f"{number} {what}" for what, number in outcome.counts.items())
    head = (
        f"seed {orders.seed}: {outcome.hours:.1f} h in {seconds:.1f} s of CPU, {counts}, "
        f"{outcome.effects} effects, trace {outcome.digest[:DIGEST_SHOWN]}: "
    )
    if not outcome.violations:
        return head + "all invariants held"
    told = [head + f"{len(outcome.violations)} violations"]
    told += [f"  {violation}" for violation in outcome.violations]
    told += ["", f"the {lines} lines before the first of them that is still remembered:"]
    return "\n".join([*told, *_before_first(outcome.story, lines)])


def _before_first(story: list[str], lines: int) -> list[str]:
    for place, line in enumerate(story):
        if "!!!!!" in line:
            return story[max(0, place - lines) : place + 1]
    return ["  (it lies too far back: run it with fewer hours)"]

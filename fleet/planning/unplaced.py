"""Why a task got no place: one headline, the offers that were looked at, when to expect a change, what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .candidates import Bundle, Rejection
from .headroom import Headroom
from .model import Decision, TaskDemand

REJECTIONS_MAX = 20
"""Offers named in one decision; the rest are counted."""

# The first code of this list that any rejection bears makes the headline: from what a person must mend, over what time
# mends, to what can never be.
_HEADLINES: tuple[tuple[str, str, str], ...] = (
    ("AUTH", "AUTH", "mend the provider's credentials, then: hostler doctor"),
    (
        "INVALID_CONFIG",
        "INVALID_CONFIG",
        "mend the provider's or pool's section of fleet.yaml, then: hostler apply",
    ),
    ("QUOTA", "QUOTA", "ask the cloud for more quota or allow another region or type"),
    ("LIMIT_POOL", "LIMIT", "raise pools.*.instances or wait for a running task to end"),
    ("LIMIT_INSTANCES", "LIMIT", "raise limits.instances or wait for a running task to end"),
    ("LIMIT_GPUS", "LIMIT", "raise limits.gpus or wait for a running task to end"),
    ("LIMIT_USD_PER_HOUR", "LIMIT", "raise limits.usd_per_hour or wait for a running task to end"),
    ("LIMIT_PROVIDER", "LIMIT", "raise the provider's max_instances or wait for a running task to end"),
    ("LIMIT_FALLBACK_SHARE", "LIMIT", "raise the pool's fallback.max_share or wait for spot"),
    ("WAITING_PROBE", "WAITING_PROBE", ""),
    ("NO_CAPACITY", "NO_CAPACITY", "allow another zone, type or market: hostler submit --market on_demand"),
    ("WAITING_FALLBACK", "WAITING_FALLBACK", "hostler submit --market on_demand doesn't wait"),
    ("THROTTLED", "BLOCKED", ""),
    ("UNAVAILABLE", "BLOCKED", ""),
    ("PROVIDER_ERROR", "BLOCKED", ""),
    ("POOL_PROTECTED", "POOL_PROTECTED", "see hostler explain queue, mend the cause, then re-arm the pool"),
    ("PRICE_UNKNOWN", "PRICE_UNKNOWN", "give the offer a price in fleet.yaml or allow another type"),
    ("NO_OFFERS_YET", "NO_OFFERS_YET", "the catalogue is read at start; if it stays so: hostler doctor"),
    (
        "MARKET",
        "NO_MATCHING_OFFER",
        "the market that is asked for has no offer that fits; allow the other one",
    ),
    ("TOO_SMALL", "NO_MATCHING_OFFER", "ask for less, or let the pool use larger machines"),
    ("NOT_IN_POOL", "NO_MATCHING_OFFER", "widen the pool's offers or providers"),
    ("POOL_GONE", "NO_MATCHING_OFFER", "submit to a queue whose pools exist"),
)


def unplaced_decisions(bundle: Bundle, headroom: Headroom) -> list[Decision]:
    """A decision for each task that is left in the bundle; all share one list of rejections."""
    if not bundle.tasks:
        return []
    rejected = [*bundle.rejected, *_refused_by_caps(bundle, headroom)]
    code, hint = _headline(bundle, rejected)
    message = _summary(rejected)
    shown = tuple(_most_telling(rejected))
    return [
        Decision("task", str(task.task_id), code, message, hint, bundle.next_at, shown)
        for task in bundle.tasks
    ]


def frozen_decision(task: TaskDemand, why: str) -> Decision:
    return Decision("task", str(task.task_id), "FROZEN", why, "hostler status says what the freeze waits for")


def _refused_by_caps(bundle: Bundle, headroom: Headroom) -> list[Rejection]:
    refused = []
    for one in bundle.candidates:
        refusal = headroom.refusal(one.pool, one.offer, as_fallback=one.as_fallback)
        if refusal is not None:
            refused.append((str(one.offer.key), *refusal))
    return refused


def _headline(bundle: Bundle, rejected: Sequence[Rejection]) -> tuple[str, str]:
    codes = {code for _, code, _ in rejected}
    for code, headline, hint in _HEADLINES:
        if code in codes:
            if headline == "NO_CAPACITY" and all(
                "/spot" in name for name, seen, _ in rejected if seen == code
            ):
                return "NO_SPOT_CAPACITY", hint
            return headline, hint
    return "NO_MATCHING_OFFER", f"none of the pools {', '.join(bundle.pools)} sells anything yet"


def _summary(rejected: Sequence[Rejection]) -> str:
    counts = Counter(code for _, code, _ in rejected)
    said = ", ".join(f"{code} x{count}" if count > 1 else code for code, count in sorted(counts.items()))
    return f"{len(rejected)} offer(s) looked at: {said}" if said else "its pools have no offers"


def _most_telling(rejected: Sequence[Rejection]) -> list[Rejection]:
    rank = {code: place for place, (code, _, _) in enumerate(_HEADLINES)}
    best = sorted(rejected, key=lambda one: (rank.get(one[1], len(rank)), one[0]))
    if len(best) <= REJECTIONS_MAX:
        return best
    return [*best[:REJECTIONS_MAX], ("", "MORE", f"and {len(best) - REJECTIONS_MAX} more")]

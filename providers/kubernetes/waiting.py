"""Offers whose pods find no node: no capacity, as a cloud would say at once and a cluster says by keeping pods waiting.

What is known here comes from the latest listing alone, so that a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..base import CloudState, InsufficientCapacity, InvalidConfig, Offer, ProviderError, Scope
from . import names
from .description import epoch_of, state_of, unscheduled, waiting_reason

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_Key = tuple[str, str, str]
_MakeError = Callable[[], ProviderError]


class Waiting:
    """Which launches it would be wrong to add to those that wait already. Thread-safe."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._errors: Mapping[_Key, _MakeError] = {}

    def look_at(self, pods: Sequence[Mapping[str, Any]], now: float) -> None:
        """Take in a listing: pods that have waited for longer than the time-out speak for their offer."""
        found: dict[_Key, _MakeError] = {}
        for pod in pods:
            made_at = epoch_of(pod["metadata"].get("creationTimestamp"))
            late = made_at is not None and now - made_at > self._timeout_seconds
            error = self._error(pod) if late and state_of(pod) is CloudState.PENDING else None
            if error is not None:
                found.setdefault(_key(pod), error)
        self._errors = found

    def refusal(self, offer: Offer) -> ProviderError | None:
        """What to answer a launch of `offer`, if its like find no place."""
        make = self._errors.get((offer.instance_type, offer.market.value, offer.zone))
        return make() if make is not None else None

    def _error(self, pod: Mapping[str, Any]) -> _MakeError | None:
        name, limit = pod["metadata"]["name"], f"{self._timeout_seconds:g} s"
        words = unscheduled(pod)
        if words:
            return partial(InsufficientCapacity, f"pod {name} has found no node within {limit}: {words}")
        reason, words = waiting_reason(pod)
        if reason in IMAGE_REASONS:
            detail = f"pod {name} can't be started within {limit}: {words}"
            hint = "correct image of this provider, or imagePullSecrets of its template"
            return partial(InvalidConfig, detail, scope=Scope.PROVIDER, hint=hint)
        return None


def _key(pod: Mapping[str, Any]) -> _Key:
    labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    return labels.get(names.SIZE, ""), labels.get(names.MARKET, ""), annotations.get(names.ZONE, "")

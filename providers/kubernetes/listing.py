"""All pods of ours and all that have ended: whole lists or an error. And what a look at them is a good time for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..base import CloudInstance, CloudState, ProviderError
from ..calls import IN_TICK, READING
from . import names
from .client import Client
from .description import describe, ended_at, state_of, why
from .endings import KEPT_SECONDS, Endings, is_old
from .errors import errors_told
from .waiting import Waiting

PODS = "pods"
CHANGES_A_LISTING = 20
"""What is put in order on the way must not hold up the tick."""


class Listing:
    """Instances that bear this server's tag."""

    def __init__(
        self,
        client: Client,
        server_id: str,
        endings: Endings,
        waiting: Waiting,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._server_id = server_id
        self._endings = endings
        self._waiting = waiting
        self._clock = clock

    def all(self) -> tuple[CloudInstance, ...]:
        """Every pod, then the ends: a pod that is deleted between the two was recorded before."""
        pods = self.pods()
        records = self._endings.all()
        with errors_told("list pods", self._client.namespace):
            found = [describe(self._client.name, pod) for pod in pods]
            seen = {one.ref for one in found}
            found += [one for one in map(self._endings.describe, records) if one.ref not in seen]
            self._waiting.look_at(pods, self._clock())
            self._put_in_order(pods, records)
        return tuple(found)

    def pods(self) -> list[dict[str, Any]]:
        """Ours alone: a selector that a server ignores must not make another's pods ours."""
        found = self._client.all_of(PODS, names.selector(self._server_id), READING)
        with errors_told("list pods", self._client.namespace):
            return [pod for pod in found if names.is_of(pod, self._server_id)]

    def pod(self, name: str) -> dict[str, Any] | None:
        """One pod of ours, or None: there is none, or it isn't ours."""
        found = self._client.get(PODS, name, IN_TICK)
        with errors_told("get pods", self._client.namespace):
            return found if found is not None and names.is_of(found, self._server_id) else None

    def _put_in_order(self, pods: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> None:
        """Write down ends that others bring about, and forget those that everyone has seen.

        Neither is needed for a right answer now; what fails is done at the next listing.
        """
        now = self._clock()
        recorded = {record["metadata"]["name"] for record in records}
        taken = [
            pod
            for pod in pods
            if state_of(pod) is CloudState.STOPPING and pod["metadata"]["name"] not in recorded
        ]
        over = [pod for pod in pods if state_of(pod) is CloudState.TERMINATED and _is_past(pod, now)]
        old = [record for record in records if is_old(record, now)]
        try:
            for pod in taken[:CHANGES_A_LISTING]:
                self._endings.record(pod, why(pod) or "the cluster took its pod away")
            for pod in over[:CHANGES_A_LISTING]:
                self._client.delete(PODS, pod["metadata"]["name"], IN_TICK, uid=pod["metadata"]["uid"])
            self._endings.forget(old[:CHANGES_A_LISTING])
        except ProviderError:
            return


def _is_past(pod: Mapping[str, Any], now: float) -> bool:
    ended = ended_at(pod)
    return ended is not None and now - ended > KEPT_SECONDS

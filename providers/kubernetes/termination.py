"""The end of a pod: written down first, then asked for. Its secret goes with it, being owned by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..base import CloudState, InstanceNotFound
from ..calls import IN_TICK
from . import names
from .client import Client
from .description import epoch_of, state_of, why
from .endings import Endings
from .listing import PODS, Listing

STUCK_SECONDS = 300.0
"""So long after its time was up a pod still stands only if its node is lost; nobody will ever confirm its end."""
WHY = "terminated by hostler"


class Terminator:
    """Ends pods of ours; never one whose tag names another server."""

    def __init__(
        self, client: Client, listing: Listing, endings: Endings, clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._listing = listing
        self._endings = endings
        self._clock = clock

    def terminate(self, ref: str) -> None:
        """See `Provider.terminate`; an instance that has ended already is well."""
        name = self._name(ref)
        pod = self._listing.pod(name)
        if pod is None:
            if self._endings.find(name) is None:
                raise InstanceNotFound(f"{ref} is not a pod of this server")
            return
        self._endings.record(pod, why(pod) or WHY)
        stuck = self._is_stuck(pod)
        if state_of(pod) is CloudState.STOPPING and not stuck:
            return
        uid = pod["metadata"]["uid"]
        self._client.delete(PODS, name, IN_TICK, uid=uid, grace_seconds=0 if stuck else None)

    def evict(self, ref: str, notice_seconds: float) -> None:
        """Play a node drain: SIGTERM now, SIGKILL when the notice is over."""
        name = self._name(ref)
        if self._listing.pod(name) is None:
            raise InstanceNotFound(f"{ref} is not a pod of this server")
        self._client.evict(name, max(0, round(notice_seconds)), IN_TICK)

    def _name(self, ref: str) -> str:
        name = names.pod_of(self._client.namespace, ref)
        if name is None:
            raise InstanceNotFound(f"{ref} is not NAMESPACE/POD in the namespace of {self._client.name}")
        return name

    def _is_stuck(self, pod: Mapping[str, Any]) -> bool:
        due = epoch_of(pod["metadata"].get("deletionTimestamp"))
        return due is not None and self._clock() - due > STUCK_SECONDS

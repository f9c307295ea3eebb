"""How instances ended, by the zones' operations: a deleted instance is in no list, so nothing else says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..base import TAG_SERVER, CloudInstance, CloudState
from ..calls import READING
from .client import Client
from .listing import Seen, epoch_of
from .names import Ref, is_our_delete, ref_of_link, region_of
from .operations import DONE

MEMORY_SECONDS = 3600.0
"""How long an ended instance is still told, as EC2 does."""
ZONES_AT_ONCE = 8
DELETE, PREEMPTED = "delete", "compute.instances.preempted"
WORDS = {DELETE: "it was deleted", PREEMPTED: "preempted by Compute Engine"}
FILTER = f'(operationType = "{DELETE}") OR (operationType = "{PREEMPTED}")'
NEWEST_FIRST = "creationTimestamp desc"
ACTION = "zoneOperations.list"


@dataclass(frozen=True)
class Ending:
    """One operation that ended an instance, or took it away. `at` is epoch seconds by the cloud's clock."""

    ref: Ref
    kind: str
    request_id: str
    at: float


class Endings:
    """Instances of this server that ended lately. `clock` is epoch seconds."""

    def __init__(
        self, name: str, server_id: str, client: Client, seen: Seen, clock: Callable[[], float]
    ) -> None:
        self._name = name
        self._server_id = server_id
        self._client = client
        self._seen = seen
        self._clock = clock

    def among(self, zones: Iterable[str]) -> dict[Ref, CloudInstance]:
        """Those that ended within the last hour in these zones. An ending that isn't provably ours is left out."""
        found: dict[Ref, CloudInstance] = {}
        for ending in self._all(zones):
            one = self._ours(ending)
            # The preemption is newer knowledge than the deletion that follows from it.
            if one is not None and (ending.ref not in found or ending.kind == PREEMPTED):
                found[ending.ref] = one
        return found

    def preempted(self, zones: Iterable[str]) -> tuple[Ending, ...]:
        """Preemptions of instances that this process has seen, newest first in each zone."""
        return tuple(
            one for one in self._all(zones) if one.kind == PREEMPTED and self._seen.get(one.ref) is not None
        )

    def why(self, ref: Ref) -> str | None:
        """How the instance of this name ended; None if nothing says that it did."""
        kinds = [one.kind for one in self._of(ref.zone) if one.ref == ref]
        return WORDS[PREEMPTED if PREEMPTED in kinds else DELETE] if kinds else None

    def _all(self, zones: Iterable[str]) -> list[Ending]:
        wanted = sorted(set(zones))
        if len(wanted) <= 1:
            return [one for zone in wanted for one in self._of(zone)]
        with ThreadPoolExecutor(min(ZONES_AT_ONCE, len(wanted)), "gcp-operations") as threads:
            return [one for part in threads.map(self._of, wanted) for one in part]

    def _of(self, zone: str) -> list[Ending]:
        pages = self._client.pages(ACTION, zone, READING, zone=zone, filter=FILTER, order_by=NEWEST_FIRST)
        since = self._clock() - MEMORY_SECONDS
        return self._client.read(ACTION, zone, lambda: list(_newer_than(since, pages)))

    def _ours(self, ending: Ending) -> CloudInstance | None:
        seen = self._seen.get(ending.ref)
        if seen is None and not is_our_delete(ending.request_id, self._server_id, ending.ref):
            return None
        return CloudInstance(
            provider=self._name,
            ref=str(ending.ref),
            state=CloudState.TERMINATED,
            tags=seen.tags if seen else {TAG_SERVER: self._server_id},
            instance_type=seen.instance_type if seen else "",
            region=region_of(ending.ref.zone),
            zone=ending.ref.zone,
            market=seen.market if seen else "",
            launched_at=seen.launched_at if seen else None,
            detail=WORDS[ending.kind],
        )


def _newer_than(since: float, pages: Iterable[Any]) -> Iterator[Ending]:
    for page in pages:
        for operation in page.items:
            at = epoch_of(operation.end_time or operation.insert_time)
            asked_at = epoch_of(operation.insert_time)
            if asked_at is not None and asked_at < since:
                return
            ref = ref_of_link(operation.target_link)
            well = operation.status == DONE and not operation.error.errors
            if ref is not None and well and operation.operation_type in WORDS and at is not None:
                yield Ending(ref, operation.operation_type, operation.client_operation_id, at)

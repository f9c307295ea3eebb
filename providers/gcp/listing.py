"""All instances that bear this server's label: every zone, every page, or an error."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ..base import (
    TAG_SERVER,
    CloudInstance,
    CloudState,
    InstanceNotFound,
    InvalidConfig,
    Market,
    Scope,
    Unavailable,
)
from ..calls import READING
from .accelerators import instance_type
from .client import Client
from .labels import server_filter, to_tags
from .names import Ref, last, region_of

STATES = {
    "PENDING": CloudState.PENDING,
    "PROVISIONING": CloudState.PENDING,
    "STAGING": CloudState.PENDING,
    "RUNNING": CloudState.RUNNING,
    "REPAIRING": CloudState.RUNNING,
    "PENDING_STOP": CloudState.STOPPING,
    "STOPPING": CloudState.STOPPING,
    "DEPROVISIONING": CloudState.STOPPING,
    "SUSPENDING": CloudState.STOPPING,
    # A machine that was stopped still costs its disk and can be started again: it has not ended, whatever its name.
    "STOPPED": CloudState.STOPPING,
    "SUSPENDED": CloudState.STOPPING,
    "TERMINATED": CloudState.STOPPING,
}
HALTED = {
    "STOPPED": "it was stopped; it still costs its disk",
    "SUSPENDED": "it was suspended; it still costs its disk",
    "TERMINATED": "it was stopped (shut down from inside, or preempted); it still costs its disk",
}
EMPTY_SCOPE = "NO_RESULTS_ON_PAGE"
ACTION = "instances.aggregatedList"
_NO_ZONE = re.compile(r"/zones/[^/']+' was not found|Unknown zone")


class Listing:
    """Instances that bear this server's label."""

    def __init__(
        self, name: str, server_id: str, client: Client, our_zones: Callable[[], tuple[str, ...]]
    ) -> None:
        self._name = name
        self._server_id = server_id
        self._client = client
        self._our_zones = our_zones

    def alive(self) -> dict[Ref, CloudInstance]:
        """All that are there, in every zone of the project: a region taken out of fleet.yaml may still hold some."""
        pages = self._client.pages(
            ACTION,
            self._client.project,
            READING,
            filter=server_filter(TAG_SERVER, self._server_id),
        )
        zones = frozenset(self._our_zones())
        return self._client.read(
            ACTION,
            self._client.project,
            lambda: {
                Ref(last(one.zone), one.name): found
                for page in pages
                for one in _instances(page, zones)
                # A filter that a cloud ignores must not make another server's instances ours.
                if (found := self.describe(one)).server == self._server_id
            },
        )

    def get(self, ref: Ref) -> Any:
        """Compute Engine's own description. Raises InstanceNotFound, for a zone that isn't there too."""
        try:
            return self._client.call("instances.get", ref.zone, READING, zone=ref.zone, instance=ref.name)
        except InvalidConfig as error:
            if _NO_ZONE.search(error.detail):
                raise InstanceNotFound(error.detail) from error
            raise

    def ours(self, ref: Ref) -> Any:
        """As `get`; InstanceNotFound too when it doesn't bear this server's label."""
        found = self.get(ref)
        if self.describe(found).server != self._server_id:
            raise InstanceNotFound(f"{ref} is not an instance of this server")
        return found

    def describe(self, instance: Any) -> CloudInstance:
        """Compute Engine's description as the port's."""
        return self._client.read(ACTION, last(instance.zone), lambda: self._described(instance))

    def _described(self, instance: Any) -> CloudInstance:
        zone = last(instance.zone)
        cards = instance.guest_accelerators[0] if instance.guest_accelerators else None
        attached = (last(cards.accelerator_type), cards.accelerator_count) if cards is not None else ("", 0)
        scheduling = instance.scheduling
        spot = scheduling.provisioning_model == "SPOT" or scheduling.preemptible
        return CloudInstance(
            provider=self._name,
            ref=str(Ref(zone, instance.name)),
            state=STATES[instance.status],
            tags=to_tags(instance.labels),
            instance_type=instance_type(last(instance.machine_type), *attached),
            region=region_of(zone),
            zone=zone,
            market=(Market.SPOT if spot else Market.ON_DEMAND).value,
            launched_at=epoch_of(instance.creation_timestamp),
            address=_address(instance),
            detail=instance.status_message or HALTED.get(instance.status, ""),
            identity=str(instance.id),
        )


class Seen:
    """What was alive in earlier listings of this process, so that its end can be told by its own tags. Thread-safe."""

    MAX_INSTANCES = 20_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Ref, CloudInstance] = {}

    def note(self, alive: Mapping[Ref, CloudInstance]) -> None:
        """Remember the newest; the oldest are forgotten beyond the limit."""
        with self._lock:
            for ref, one in alive.items():
                self._seen.pop(ref, None)
                self._seen[ref] = one
            for ref in list(self._seen)[: max(0, len(self._seen) - self.MAX_INSTANCES)]:
                del self._seen[ref]

    def get(self, ref: Ref) -> CloudInstance | None:
        with self._lock:
            return self._seen.get(ref)


def epoch_of(timestamp: str) -> float | None:
    """Epoch seconds of an RFC 3339 time; None if there is none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def _instances(page: Any, our_zones: frozenset[str]) -> list[Any]:
    _refuse_a_part(page.warning, "all zones")
    for scope in page.unreachables:
        if last(scope) in our_zones:
            raise Unavailable(f"{ACTION}: {scope} is unreachable", scope=Scope.REGION)
    found = []
    for scope, content in page.items.items():
        if last(scope) in our_zones:
            _refuse_a_part(content.warning, scope)
        found += content.instances
    return found


def _refuse_a_part(warning: Any, scope: str) -> None:
    """A list with a hole in it looks as if instances had ended."""
    if warning.code and warning.code != EMPTY_SCOPE:
        raise Unavailable(f"{ACTION}: {scope}: {warning.code}: {warning.message}", scope=Scope.REGION)


def _address(instance: Any) -> str:
    for interface in instance.network_interfaces:
        outside = [config.nat_i_p for config in interface.access_configs if config.nat_i_p]
        return str(outside[0] if outside else interface.network_i_p)
    return ""

"""Interfaces, disks and addresses of ours: they go with their VM, except when its creation or end went wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from ..base import InstanceNotFound, ProviderError
from ..calls import IN_TICK, READING
from .client import Client, Json
from .listing import Listing
from .machine import NAME_TAG

SWEEP_EVERY_SECONDS = 60.0
GRACE_SECONDS = 300.0
"""A VM may be listed later than what belongs to it: without knowledge of an end, only what stays alone so long goes."""
NIC, ADDRESS, DISK = "networkInterfaces", "publicIPAddresses", "disks"
ORDER = (NIC, ADDRESS, DISK)
"""An address can't go before its interface."""
SERVICE = {NIC: "Microsoft.Network", ADDRESS: "Microsoft.Network", DISK: "Microsoft.Compute"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Belonging:
    """Something that belongs to the VM named `owner`."""

    kind: str
    name: str
    owner: str
    region: str
    address: str = ""


@dataclass
class Sweep:
    """What one look at the resource group found, by owner; `at` is monotonic seconds."""

    at: float
    by_owner: dict[str, list[Belonging]] = field(default_factory=dict)

    def address_of(self, owner: str) -> str:
        """The public address if it has one, the private one otherwise."""
        told = {one.kind: one.address for one in self.by_owner.get(owner, ()) if one.address}
        return told.get(ADDRESS) or told.get(NIC) or ""


class Leftovers:
    """What belongs to our VMs, and the removal of what lost its VM. `monotonic` is in seconds."""

    def __init__(self, client: Client, listing: Listing, region: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._listing = listing
        self._region = region
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: Sweep | None = None
        self._alone_since: dict[str, float] = {}

    def sweep(self, *, now: bool) -> Sweep:
        """The last look, or a new one if it is old or asked for."""
        with self._lock:
            last = self._last
        if last is not None and not now and self._monotonic() - last.at < SWEEP_EVERY_SECONDS:
            return last
        fresh = Sweep(self._monotonic())
        for kind in ORDER:
            for resource in self._list(kind):
                if self._listing.is_ours(resource):
                    one = _belonging(kind, resource)
                    fresh.by_owner.setdefault(one.owner, []).append(one)
        with self._lock:
            self._last = fresh
        return fresh

    def remove_strays(self, sweep: Sweep, alive: Collection[str], ended: Collection[str]) -> None:
        """Remove what has no VM in `alive`: at once if its VM is known to have `ended`, else after the grace."""
        strays = {owner: found for owner, found in sweep.by_owner.items() if owner not in alive}
        for owner, found in strays.items():
            if owner in ended or self._has_been_alone(owner):
                self.remove(found)
        with self._lock:
            self._alone_since = {
                owner: since for owner, since in self._alone_since.items() if owner in strays
            }

    def remove(self, found: Collection[Belonging]) -> None:
        """Ask for the end of each. What can't go yet (Azure reserves interfaces for minutes) goes in a later sweep."""
        for one in sorted(found, key=lambda one: ORDER.index(one.kind)):
            try:
                self._delete(one)
            except InstanceNotFound:
                continue
            except ProviderError as error:
                log.warning("leftover stays", kind=one.kind, name=one.name, detail=error.detail)

    def _has_been_alone(self, owner: str) -> bool:
        with self._lock:
            since = self._alone_since.setdefault(owner, self._monotonic())
        return self._monotonic() - since >= GRACE_SECONDS

    def _list(self, kind: str) -> list[Json]:
        group = self._client.group

        def ask(**options: Any) -> Any:
            if kind == DISK:
                return self._client.compute.disks.list_by_resource_group(group, **options)
            if kind == NIC:
                return self._client.network.network_interfaces.list(group, **options)
            return self._client.network.public_ip_addresses.list(group, **options)

        return self._client.pages(f"{SERVICE[kind]}/{kind}/read", self._region, READING, ask)

    def _delete(self, one: Belonging) -> None:
        group = self._client.group

        def ask() -> None:
            if one.kind == DISK:
                self._client.compute.disks.begin_delete(group, one.name, polling=False)
            elif one.kind == NIC:
                self._client.network.network_interfaces.begin_delete(group, one.name, polling=False)
            else:
                self._client.network.public_ip_addresses.begin_delete(group, one.name, polling=False)

        self._client.call(f"{SERVICE[one.kind]}/{one.kind}/delete", one.region, IN_TICK, ask)


def _belonging(kind: str, resource: Json) -> Belonging:
    name = str(resource["name"])
    owner = str((resource.get("tags") or {}).get(NAME_TAG) or name)
    return Belonging(kind, name, owner, str(resource.get("location") or ""), _address(kind, resource))


def _address(kind: str, resource: Json) -> str:
    properties: Mapping[str, Any] = resource.get("properties") or {}
    if kind == ADDRESS:
        return str(properties.get("ipAddress") or "")
    for configuration in properties.get("ipConfigurations") or ():
        found = (configuration.get("properties") or {}).get("privateIPAddress")
        if found:
            return str(found)
    return ""

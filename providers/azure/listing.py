"""All VMs of the resource group that bear this server's tag, every page, or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import structlog

from ..base import TAG_SERVER, AuthFailed, CloudInstance, CloudState, InstanceNotFound, Market
from ..calls import READING
from .client import Client, Json, plain
from .errors import Told

READ = "Microsoft.Compute/virtualMachines/read"
READ_ALL = "Microsoft.Compute/virtualMachines/read on the subscription"
POWER_AGE_SECONDS = 60.0
"""Azure counts lists dearly (some twenty a minute): whether a machine switched itself off may be seen a bit later."""
DELETING = "Deleting"
FAILED = frozenset({"Failed", "Canceled"})
MAKING = frozenset({"Creating"})
AT_WORK = frozenset({"running", "starting"})
OFF = frozenset({"stopping", "stopped", "deallocating", "deallocated"})

log = structlog.get_logger(__name__)


class Listing:
    """VMs of this server. `monotonic` is in seconds."""

    def __init__(
        self, name: str, server_id: str, region: str, client: Client, monotonic: Callable[[], float]
    ) -> None:
        self._name = name
        self._server_id = server_id
        self._region = region
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._power: tuple[float, Mapping[str, str]] | None = None

    def ours(self) -> list[Json]:
        """The VMs as Azure describes them, with the newest known power states put in."""
        group = self._client.group
        every = self._client.pages(
            READ,
            self._region,
            READING,
            lambda **options: self._client.compute.virtual_machines.list(group, **options),
        )
        found = [vm for vm in every if self.is_ours(vm)]
        power = self._power_states() if found else {}
        for vm in found:
            code = power.get(str(vm["name"]).lower())
            properties = vm.setdefault("properties", {})
            if code is not None and "instanceView" not in properties:
                properties["instanceView"] = {"statuses": [{"code": f"PowerState/{code}"}]}
        return found

    def one(self, name: str) -> Json | None:
        """A VM with its instance view, whoever's it is; None if there is none."""
        group = self._client.group
        try:
            return self._client.call(
                READ,
                self._region,
                READING,
                lambda: plain(self._client.compute.virtual_machines.get(group, name, expand="instanceView")),
            )
        except InstanceNotFound:
            return None

    def is_ours(self, resource: Json) -> bool:
        """Whether a VM or anything else bears this server's tag."""
        return bool((resource.get("tags") or {}).get(TAG_SERVER) == self._server_id)

    def tags_of(self) -> dict[str, str]:
        """The tag by which anything is ours, for what has lost its own."""
        return {TAG_SERVER: self._server_id}

    def describe(self, vm: Json, address: str = "") -> CloudInstance:
        """Azure's description as the port's."""
        properties = vm.get("properties") or {}
        region, zones = str(vm.get("location") or ""), vm.get("zones") or []
        spot = properties.get("priority") in ("Spot", "Low")
        return CloudInstance(
            provider=self._name,
            ref=str(vm["name"]),
            state=state_of(vm),
            tags={str(key): str(value) for key, value in (vm.get("tags") or {}).items()},
            instance_type=str((properties.get("hardwareProfile") or {}).get("vmSize") or ""),
            region=region,
            zone=f"{region}-{zones[0]}" if zones else "",
            market=(Market.SPOT if spot else Market.ON_DEMAND).value,
            launched_at=_epoch(properties.get("timeCreated")),
            address=address,
            detail=_detail(vm),
            identity=str(properties.get("vmId") or ""),
        )

    def _power_states(self) -> Mapping[str, str]:
        """By VM name in lower case. One listing of the subscription: the resource group's own tells none."""
        with self._lock:
            known = self._power
        if known is not None and self._monotonic() - known[0] < POWER_AGE_SECONDS:
            return known[1]
        try:
            states = self._read_power_states()
        except AuthFailed as error:
            # It needs a permission on the whole subscription; without it a VM counts as running until deleted.
            log.warning("power states unavailable", code=error.code, detail=error.detail)
            states = {}
        with self._lock:
            self._power = (self._monotonic(), states)
        return states

    def _read_power_states(self) -> dict[str, str]:
        every = self._client.pages(
            READ_ALL,
            self._region,
            READING,
            lambda **options: self._client.compute.virtual_machines.list_all(status_only="true", **options),
        )
        inside = f"/resourcegroups/{self._client.group.lower()}/"
        found = [vm for vm in every if inside in str(vm.get("id") or "").lower()]
        return {str(vm["id"]).lower().rpartition("/")[2]: power_of(vm) for vm in found if power_of(vm)}


def state_of(vm: Json) -> CloudState:
    """Never TERMINATED: a VM that is listed still costs something."""
    provisioning, power = provisioning_of(vm), power_of(vm)
    if provisioning == DELETING or power in OFF:
        return CloudState.STOPPING
    if is_stillborn(vm):
        return CloudState.STOPPING
    if power == "starting" or (provisioning in MAKING and power != "running"):
        return CloudState.PENDING
    return CloudState.RUNNING


def is_stillborn(vm: Json) -> bool:
    """Whether its creation failed. A VM that only reported too late runs all the same, and may yet join."""
    return provisioning_of(vm) in FAILED and power_of(vm) not in AT_WORK


def provisioning_of(vm: Json) -> str:
    return str((vm.get("properties") or {}).get("provisioningState") or "")


def power_of(vm: Json) -> str:
    """``running``, ``deallocated`` and so on; empty when not told."""
    codes = (str(one.get("code") or "") for one in _statuses(vm))
    return next((code.partition("/")[2] for code in codes if code.startswith("PowerState/")), "")


def failure_of(vm: Json) -> Told:
    """Why its creation failed, as its instance view says: ``ProvisioningState/failed/CODE``."""
    for status in _statuses(vm):
        kind, _, rest = str(status.get("code") or "").partition("/")
        outcome, _, code = rest.partition("/")
        if kind == "ProvisioningState" and outcome == "failed" and code:
            return Told(code.split(".")[0], str(status.get("message") or ""))
    return Told("", "its creation failed")


def _statuses(vm: Json) -> list[Json]:
    view = (vm.get("properties") or {}).get("instanceView") or {}
    return [one for one in view.get("statuses") or () if isinstance(one, dict)]


def _detail(vm: Json) -> str:
    if is_stillborn(vm):
        told = failure_of(vm)
        return f"{told.code}: {told.words}" if told.code else told.words
    if provisioning_of(vm) == DELETING:
        return "it is being deleted"
    return f"it is {power_of(vm)}" if power_of(vm) in OFF else ""


def _epoch(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None

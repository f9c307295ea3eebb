"""VMs and what belongs to them: how they are made, fail, run, are evicted and end."""

from __future__ import annotations

import base64
import datetime as dt
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import schema
from .request import Answer, Request, answer, error

Json = dict[str, Any]
_BAD_TAG = re.compile(r"[<>%&\\?/]")
_KEY = re.compile(r"ssh-(rsa|ed25519) [A-Za-z0-9+/]+=*( .*)?")


@dataclass
class Machine:
    """A VM: its resource, when it was made, and what is going on with it (``due`` is when that is done)."""

    body: Json
    born: float
    due: float
    goes: str = "create"
    failure: tuple[str, str] | None = None
    power: str = ""
    operation: str = ""


@dataclass
class Operation:
    """What Azure-AsyncOperation tells: of which VM, and how it ended."""

    name: str
    goes: str
    status: str = "InProgress"
    failure: tuple[str, str] | None = None


@dataclass
class Machines:
    """All resources of one subscription. Times are seconds of `clock`; set attributes at any moment."""

    url: str = ""
    clock: Callable[[], float] = lambda: 0.0
    create_seconds: float = 0.0
    delete_seconds: float = 0.0
    cascade: bool = True
    """Whether the end of a VM takes with it what it should."""
    failure: tuple[str, str] | None = None
    """How operations fail that were accepted: (code, message)."""
    vms: dict[str, Machine] = field(default_factory=dict)
    disks: dict[str, Json] = field(default_factory=dict)
    nics: dict[str, Json] = field(default_factory=dict)
    ips: dict[str, Json] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def settle(self) -> None:
        """Let everything that is due come about."""
        for name, machine in list(self.vms.items()):
            if machine.goes and self.clock() >= machine.due:
                done = machine.goes
                machine.goes = ""
                operation = self.operations[machine.operation]
                operation.status = "Failed" if machine.failure and done == "create" else "Succeeded"
                operation.failure = machine.failure
                if done == "delete":
                    self._vanish(name)
                elif machine.failure:
                    machine.body["properties"]["provisioningState"] = "Failed"
                else:
                    machine.body["properties"]["provisioningState"] = "Succeeded"
                    machine.power = "running"

    def create(self, request: Request) -> Answer:
        """PUT of a VM that is not there."""
        body, name = request.json(), request.names["name"]
        base = f"/subscriptions/{request.names['subscription']}/resourceGroups/{request.names['group']}/providers"
        properties = body["properties"]
        made = {
            **body,
            "id": f"{base}/Microsoft.Compute/virtualMachines/{name}",
            "name": name,
            "type": "Microsoft.Compute/virtualMachines",
            "properties": {
                **properties,
                "provisioningState": "Creating",
                "vmId": f"00000000-0000-0000-0000-{next(self._numbers):012d}",
                "timeCreated": dt.datetime.now(dt.UTC).isoformat(),
            },
        }
        made["properties"]["osProfile"] = {
            key: value for key, value in properties["osProfile"].items() if key != "customData"
        }
        now = self.clock()
        machine = Machine(made, now, now + self.create_seconds, failure=self.failure)
        machine.operation = self._operation(name, "create")
        self.vms[name] = machine
        self._make_belongings(name, made, base)
        self.settle()
        return answer(201, self.view(machine), **self._follow(machine, made["location"]))

    def delete(self, request: Request) -> Answer:
        """DELETE of a VM; one that isn't there is well."""
        machine = self.vms.get(request.names["name"])
        if machine is None:
            return answer(204)
        self.begin_end(request.names["name"])
        follow = self._follow(machine, machine.body["location"])
        self.settle()
        return answer(202, **follow)

    def evict(self, name: str) -> None:
        """The cloud takes a spot VM back: with evictionPolicy Delete it is deleted."""
        assert self.vms[name].body["properties"]["evictionPolicy"] == "Delete"
        self.begin_end(name)
        self.settle()

    def view(self, machine: Machine, *, instance_view: bool = False) -> Json:
        """How a VM is shown; its state of power only where Azure tells it."""
        shown = {**machine.body, "properties": dict(machine.body["properties"])}
        # What it was made from is not told again; what was made is.
        shown["properties"].pop("networkProfile", None)
        if instance_view:
            state = shown["properties"]["provisioningState"]
            code = f"ProvisioningState/{state.lower()}"
            status: Json = {"code": code, "level": "Info", "displayStatus": state}
            if machine.failure and state == "Failed":
                status = {
                    "code": f"{code}/{machine.failure[0]}",
                    "level": "Error",
                    "displayStatus": "Provisioning failed",
                    "message": machine.failure[1],
                }
            statuses = [status]
            if machine.power:
                statuses.append(
                    {"code": f"PowerState/{machine.power}", "level": "Info", "displayStatus": machine.power}
                )
            shown["properties"]["instanceView"] = {"statuses": statuses}
        assert schema.problems(shown, schema.VIRTUAL_MACHINE) == []
        return shown

    def delete_belonging(self, request: Request) -> Answer:
        """DELETE of a disk, an interface or an address; not while something holds it."""
        kind, name = request.action.partition(".")[0], request.names["name"]
        shelf = {"disk": self.disks, "nic": self.nics, "ip": self.ips}[kind]
        found = shelf.get(name)
        if found is None:
            return answer(204)
        if kind == "nic" and self._holds(found):
            return error(400, "NicInUse", f"Network Interface {name} is used by existing resource")
        if kind == "disk" and found.get("managedBy", "").rpartition("/")[2] in self.vms:
            return error(409, "OperationNotAllowed", f"Disk {name} is attached to VM")
        if kind == "ip" and any(self._ip_of(nic) == found["id"] for nic in self.nics.values()):
            return error(
                400, "PublicIPAddressCannotBeDeleted", f"Public IP address {name} is still allocated"
            )
        del shelf[name]
        return answer(202)

    def begin_end(self, name: str) -> None:
        """What deletion and eviction have in common."""
        machine = self.vms[name]
        if machine.goes != "delete":
            machine.goes, machine.due = "delete", self.clock() + self.delete_seconds
            machine.body["properties"]["provisioningState"] = "Deleting"
            machine.operation = self._operation(name, "delete")

    def _vanish(self, name: str) -> None:
        machine = self.vms.pop(name)
        if not self.cascade:
            return
        for shelf in (self.nics, self.ips, self.disks):
            for key in [key for key, one in shelf.items() if one["tags"].get("Name") == machine.body["name"]]:
                del shelf[key]

    def _operation(self, name: str, goes: str) -> str:
        key = f"op-{next(self._numbers)}"
        self.operations[key] = Operation(name, goes)
        return key

    def _follow(self, machine: Machine, location: str) -> dict[str, str]:
        subscription = machine.body["id"].split("/")[2]
        path = f"/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{location}/operations"
        return {
            "Azure_AsyncOperation": f"{self.url}{path}/{machine.operation}?api-version=2026-04-01",
            "Retry_After": "2",
        }

    def _make_belongings(self, name: str, body: Json, base: str) -> None:
        """Disk, interface and address; of these Azure lengthens the last two's names."""
        properties = body["properties"]
        disk = properties["storageProfile"]["osDisk"]
        self.disks[disk["name"]] = {
            "id": f"{base}/Microsoft.Compute/disks/{disk['name']}",
            "name": disk["name"],
            "type": "Microsoft.Compute/disks",
            "location": body["location"],
            "tags": dict(body["tags"]),
            "managedBy": body["id"],
            "properties": {
                "creationData": {"createOption": "FromImage"},
                "diskSizeGB": disk["diskSizeGB"],
                "provisioningState": "Succeeded",
            },
        }
        assert schema.problems(self.disks[disk["name"]], schema.DISK) == []
        number = next(self._numbers)
        for wanted in properties["networkProfile"]["networkInterfaceConfigurations"]:
            ip_id = self._make_address(wanted, body["location"], base, number)
            inside: Json = {
                "privateIPAddress": f"10.0.{number // 250}.{number % 250 + 4}",
                "subnet": wanted["properties"]["ipConfigurations"][0]["properties"]["subnet"],
            }
            if ip_id:
                inside["publicIPAddress"] = {"id": ip_id}
            nic_name = f"{wanted['name']}-{number:x}"
            self.nics[nic_name] = {
                "id": f"{base}/Microsoft.Network/networkInterfaces/{nic_name}",
                "name": nic_name,
                "type": "Microsoft.Network/networkInterfaces",
                "location": body["location"],
                "tags": dict(wanted["tags"]),
                "properties": {
                    "provisioningState": "Succeeded",
                    "virtualMachine": {"id": body["id"]},
                    "ipConfigurations": [{"name": wanted["name"], "properties": inside}],
                },
            }
            assert schema.problems(self.nics[nic_name], schema.INTERFACE) == []

    def _make_address(self, wanted: Json, location: str, base: str, number: int) -> str:
        asked = wanted["properties"]["ipConfigurations"][0]["properties"].get("publicIPAddressConfiguration")
        if asked is None:
            return ""
        name = f"{asked['name']}-{number:x}"
        self.ips[name] = {
            "id": f"{base}/Microsoft.Network/publicIPAddresses/{name}",
            "name": name,
            "type": "Microsoft.Network/publicIPAddresses",
            "location": location,
            "tags": dict(asked["tags"]),
            "sku": asked["sku"],
            "properties": {
                "provisioningState": "Succeeded",
                "publicIPAllocationMethod": "Static",
                "ipAddress": f"203.0.113.{number % 250 + 1}",
            },
        }
        assert schema.problems(self.ips[name], schema.ADDRESS) == []
        return str(self.ips[name]["id"])

    def _holds(self, nic: Json) -> bool:
        vm = nic["properties"].get("virtualMachine", {}).get("id", "")
        return vm.rpartition("/")[2] in self.vms

    def _ip_of(self, nic: Json) -> str:
        inside = nic["properties"]["ipConfigurations"][0]["properties"]
        return str(inside.get("publicIPAddress", {}).get("id", ""))


def refused(body: Json, name: str) -> str:
    """What Azure would not take of a VM's body beyond its shape; '' if it takes it."""
    properties = body["properties"]
    system = properties.get("osProfile", {})
    keys = system.get("linuxConfiguration", {}).get("ssh", {}).get("publicKeys", [])
    interfaces = properties.get("networkProfile", {}).get("networkInterfaceConfigurations", [])
    try:
        data = base64.b64decode(system.get("customData", ""), validate=True)
    except ValueError:
        return "customData is not base64"
    checks = (
        (not body.get("tags"), "no tags"),
        (any(_BAD_TAG.search(tag) for tag in body.get("tags", {})), "a tag's name has forbidden characters"),
        (len(data) > 65_535, "customData is too long"),
        (not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?", name), "the VM's name"),
        (not system.get("computerName"), "computerName"),
        (not keys and not system.get("adminPassword"), "neither a password nor a key"),
        (not all(_KEY.fullmatch(key.get("keyData", "")) for key in keys), "a key is no public key"),
        ("networkApiVersion" not in properties.get("networkProfile", {}), "networkApiVersion is required"),
        (not interfaces, "no network interface"),
        (any(not one.get("tags") for one in interfaces), "an interface without tags"),
        (
            properties.get("priority") != "Spot"
            and ("evictionPolicy" in properties or "billingProfile" in properties),
            "evictionPolicy and billingProfile are for Spot",
        ),
    )
    return next((what for wrong, what in checks if wrong), "")

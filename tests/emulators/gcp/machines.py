"""Instances, their disks and the operations that make and end them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from typing import Any

from . import goods
from .answers import Refused, timestamp

BASE = "https://www.googleapis.com/compute/v1/projects"
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
MAX_METADATA_BYTES = 256 * 1024
MAX_LABELS = 64
OPTIONAL_GPUS = "n1-"
HTTP_STATUSES = {
    "INTERNAL_ERROR": 500,
    "PERMISSIONS_ERROR": 403,
    "QUOTA_EXCEEDED": 403,
    "RESOURCE_NOT_FOUND": 404,
    "RESOURCE_OPERATION_RATE_EXCEEDED": 429,
    "ZONE_RESOURCE_POOL_EXHAUSTED": 503,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": 503,
}
"""What a failed operation tells beside its code; others 400."""


@dataclass(frozen=True)
class Creation:
    """A checked request for an instance."""

    name: str
    zone: str
    project: str
    machine_type: str
    body: dict[str, Any]

    @property
    def is_spot(self) -> bool:
        return bool(self.body.get("scheduling", {}).get("provisioningModel") == "SPOT")

    @property
    def disks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["disks"]
        return found

    @property
    def link(self) -> str:
        return f"{BASE}/{self.project}/zones/{self.zone}/instances/{self.name}"


@dataclass
class Machine:
    """One instance."""

    number: int
    made: Creation
    created_at: float
    status: str = "PROVISIONING"

    def shown(self) -> dict[str, Any]:
        body, made = self.made.body, self.made
        cards = body.get("guestAccelerators") or [
            {"acceleratorType": one["guestAcceleratorType"], "acceleratorCount": one["guestAcceleratorCount"]}
            for one in goods.MACHINES[made.machine_type].get("accelerators", ())
        ]
        interface = {
            **body["networkInterfaces"][0],
            "networkIP": f"10.0.0.{self.number % 250 + 2}",
            "name": "nic0",
        }
        if "accessConfigs" in interface:
            interface["accessConfigs"] = [{**interface["accessConfigs"][0], "natIP": "203.0.113.9"}]
        return {
            "kind": "compute#instance",
            "id": str(10**12 + self.number),
            "name": made.name,
            "zone": f"{BASE}/{made.project}/zones/{made.zone}",
            "machineType": f"{BASE}/{made.project}/zones/{made.zone}/machineTypes/{made.machine_type}",
            "status": self.status,
            "creationTimestamp": timestamp(self.created_at),
            "labels": body.get("labels", {}),
            "metadata": body.get("metadata", {}),
            "disks": [
                {"boot": one.get("boot", False), "autoDelete": one.get("autoDelete", False)}
                for one in made.disks
            ],
            "networkInterfaces": [interface],
            "scheduling": {**body.get("scheduling", {}), "preemptible": made.is_spot},
            "serviceAccounts": body.get("serviceAccounts", []),
            "guestAccelerators": cards,
        }


@dataclass
class Operation:
    """Something under way. It ends `steps_left` calls from now; a failed creation leaves nothing."""

    name: str
    kind: str
    zone: str
    project: str
    target: tuple[str, str]
    target_link: str
    asked_at: float
    steps_left: int
    request_id: str = ""
    failure: dict[str, Any] | None = None
    ended_at: float | None = None


@dataclass
class Machines:
    """All that the project holds, by (zone, name)."""

    instances: dict[tuple[str, str], Machine] = field(default_factory=dict)
    disks: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Disk -> its labels."""
    operations: dict[str, Operation] = field(default_factory=dict)
    by_request: dict[str, tuple[dict[str, Any], Operation]] = field(default_factory=dict)
    hidden: set[tuple[str, str]] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def create(
        self, made: Creation, failure: dict[str, Any] | None, request_id: str, steps: int, now: float
    ) -> Operation:
        key = (made.zone, made.name)
        self.instances[key] = Machine(next(self._numbers), made, now)
        for number, disk in enumerate(made.disks):
            labels = disk.get("initializeParams", {}).get("labels", {})
            self.disks[made.zone, made.name if not number else f"{made.name}-{number}"] = labels
        return self._begin("insert", made, request_id, failure, steps, now)

    def delete(self, zone: str, name: str, request_id: str, steps: int, now: float) -> Operation:
        machine = self.instances[zone, name]
        machine.status = "STOPPING"
        return self._begin("delete", machine.made, request_id, None, steps, now)

    def preempt(self, zone: str, name: str, now: float) -> None:
        machine = self.instances[zone, name]
        assert machine.made.is_spot, f"{name} is not spot"
        operation = self._begin("compute.instances.preempted", machine.made, "", None, 0, now)
        operation.ended_at = now
        if machine.made.body["scheduling"].get("instanceTerminationAction") == "DELETE":
            self._remove((zone, name))
        else:
            machine.status = "TERMINATED"

    def halt(self, zone: str, name: str, now: float) -> None:
        machine = self.instances[zone, name]
        operation = self._begin("compute.instances.guestTerminate", machine.made, "", None, 0, now)
        operation.ended_at = now
        machine.status = "TERMINATED"

    def multiply(self, count: int) -> None:
        """As many instances like the newest as make `count` in all: a crowd, without a call for each."""
        machine = next(reversed(self.instances.values()))
        while len(self.instances) < count:
            number = next(self._numbers)
            made = replace(machine.made, name=f"{machine.made.name}-{number}")
            self.instances[made.zone, made.name] = Machine(number, made, machine.created_at, "RUNNING")

    def clear(self) -> None:
        """Away with all instances and disks."""
        self.instances.clear()
        self.disks.clear()

    def step(self, now: float) -> None:
        """Let everything under way go on by one step."""
        for operation in list(self.operations.values()):
            if operation.ended_at is None:
                operation.steps_left -= 1
                if operation.steps_left <= 0:
                    self._finish(operation, now)

    def shown(self, operation: Operation) -> dict[str, Any]:
        done = operation.ended_at is not None
        number = operation.name.rpartition("-")[2]
        found: dict[str, Any] = {
            "kind": "compute#operation",
            "id": str(10**15 + int(number)),
            "name": operation.name,
            "operationType": operation.kind,
            "targetLink": operation.target_link,
            "zone": f"{BASE}/{operation.project}/zones/{operation.zone}",
            "status": "DONE" if done else "RUNNING",
            "progress": 100 if done else 0,
            "insertTime": timestamp(operation.asked_at),
            "startTime": timestamp(operation.asked_at),
        }
        if operation.request_id:
            found["clientOperationId"] = operation.request_id
        if operation.ended_at is not None:
            found["endTime"] = timestamp(operation.ended_at)
        if done and operation.failure is not None:
            status = HTTP_STATUSES.get(operation.failure["code"], 400)
            found |= {"error": {"errors": [operation.failure]}, "httpErrorStatusCode": status}
            found["httpErrorMessage"] = "FAILED"
        return found

    def _begin(
        self,
        kind: str,
        made: Creation,
        request_id: str,
        failure: dict[str, Any] | None,
        steps: int,
        now: float,
    ) -> Operation:
        name = f"operation-{next(self._numbers)}"
        key = (made.zone, made.name)
        operation = Operation(
            name, kind, made.zone, made.project, key, made.link, now, steps, request_id, failure
        )
        self.operations[name] = operation
        return operation

    def _finish(self, operation: Operation, now: float) -> None:
        operation.ended_at = now
        machine = self.instances.get(operation.target)
        if machine is None:
            return
        if operation.kind == "delete":
            self._remove(operation.target)
        elif operation.failure is not None:
            self._remove(operation.target, failed=True)
        elif machine.status == "PROVISIONING":
            machine.status = "RUNNING"

    def _remove(self, key: tuple[str, str], *, failed: bool = False) -> None:
        machine = self.instances.pop(key)
        for number, disk in enumerate(machine.made.disks):
            if failed or disk.get("autoDelete"):
                self.disks.pop((key[0], key[1] if not number else f"{key[1]}-{number}"), None)


def creation(body: dict[str, Any], zone: str, project: str) -> Creation:
    """The request, if Compute Engine would take it; it refuses most nonsense before it makes an operation."""
    if zone not in {one for zones in goods.ZONES.values() for one in zones}:
        raise Refused(404, "notFound", f"The resource 'projects/{project}/zones/{zone}' was not found")
    machine_type = _reference(body, "machineType", f"zones/{zone}/machineTypes/", goods.MACHINES)
    for disk in body.get("disks") or [_refuse("disks", "", "At least one disk is needed.")]:
        asked = disk.get("initializeParams", {})
        _reference(
            asked, "diskType", f"zones/{zone}/diskTypes/", goods.DISK_TYPES, "disks[0].initializeParams."
        )
        _check_image(asked, project)
        _check_labels(asked.get("labels", {}))
    _check_labels(body.get("labels", {}))
    _check_network(body, zone)
    _check_metadata(body)
    _check_scheduling(body, machine_type)
    for account in body.get("serviceAccounts", ()):
        if account["email"] not in goods.SERVICE_ACCOUNTS:
            _refuse(
                "serviceAccounts[0].email", account["email"], "The referenced service account does not exist."
            )
    return Creation(body["name"], zone, project, machine_type, body)


def _refuse(name: str, value: str, words: str = "The referenced resource does not exist.") -> dict[str, Any]:
    raise Refused(400, "invalid", f"Invalid value for field 'resource.{name}': '{value}'. {words}")


def _reference(body: dict[str, Any], key: str, folder: str, known: Any, where: str = "") -> str:
    value = str(body.get(key, ""))
    name = value.rpartition("/")[2]
    if not value.endswith(folder + name) or name not in known:
        _refuse(f"{where}{key}", value)
    return name


def _check_image(asked: dict[str, Any], project: str) -> None:
    source = str(asked.get("sourceImage", ""))
    found = re.fullmatch(r"projects/([^/]+)/global/images/(family/)?([^/]+)", source)
    about = None
    for (owner, name), one in goods.IMAGES.items():
        if found and owner == found[1] and found[3] == (one.get("family") if found[2] else name):
            about = one
    if about is None:
        _refuse("disks[0].initializeParams.sourceImage", source)
    elif int(asked.get("diskSizeGb", 0)) < int(about["diskSizeGb"]):
        _refuse(
            "disks[0].initializeParams.diskSizeGb", asked.get("diskSizeGb", ""), "Smaller than the image."
        )


def _check_labels(labels: dict[str, str]) -> None:
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            _refuse(
                "labels", f"{key}={value}", "Label keys and values are lower case, 63 characters at most."
            )
    if len(labels) > MAX_LABELS:
        _refuse("labels", "", "Too many labels.")


def _check_network(body: dict[str, Any], zone: str) -> None:
    for interface in body.get("networkInterfaces") or [
        _refuse("networkInterfaces", "", "At least one is needed.")
    ]:
        subnetwork, network = interface.get("subnetwork"), interface.get("network")
        region = zone.rpartition("-")[0]
        if subnetwork is not None:
            allowed = {f"regions/{at}/subnetworks/{name}" for at, name in goods.SUBNETWORKS if at == region}
            if not any(subnetwork.endswith(one) for one in allowed):
                _refuse("networkInterfaces[0].subnetwork", subnetwork)
        elif str(network).rpartition("/")[2] not in goods.NETWORKS:
            _refuse("networkInterfaces[0].network", str(network))


def _check_metadata(body: dict[str, Any]) -> None:
    for item in body.get("metadata", {}).get("items", ()):
        if len(item["value"].encode()) > MAX_METADATA_BYTES:
            _refuse("metadata.items[0].value", "", "Too large.")


def _check_scheduling(body: dict[str, Any], machine_type: str) -> None:
    asked, cards = body.get("scheduling", {}), body.get("guestAccelerators", [])
    spot, moves = asked.get("provisioningModel") == "SPOT", asked.get("onHostMaintenance") != "TERMINATE"
    if spot and asked.get("automaticRestart", True):
        _refuse("scheduling.automaticRestart", "true", "Spot instances are not restarted.")
    if "instanceTerminationAction" in asked and not spot:
        _refuse("scheduling.instanceTerminationAction", "", "Only for Spot instances.")
    if moves and (spot or cards or "accelerators" in goods.MACHINES[machine_type]):
        _refuse(
            "scheduling.onHostMaintenance", "MIGRATE", "Instances with GPUs and Spot instances don't migrate."
        )
    for card in cards:
        name = card["acceleratorType"].rpartition("/")[2]
        if name not in goods.ACCELERATORS or not machine_type.startswith(OPTIONAL_GPUS):
            _refuse("guestAccelerators[0].acceleratorType", card["acceleratorType"])

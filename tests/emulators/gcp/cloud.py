"""A Compute Engine with a memory, programmable from a test: capacity, quota, faults, lag, pages, preemption.

Every request and every answer is judged by Google's own schema; what doesn't fit is kept in `violations`.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from . import goods
from .answers import Answer, Refused, error, matches, ok
from .machines import Machines, creation
from .schema import Api, Call, Violation

ANY = "*"
PERMISSIONS = {
    "acceleratorTypes.list": "compute.acceleratorTypes.list",
    "images.get": "compute.images.get",
    "images.getFromFamily": "compute.images.getFromFamily",
    "instances.aggregatedList": "compute.instances.list",
    "instances.delete": "compute.instances.delete",
    "instances.get": "compute.instances.get",
    "instances.insert": "compute.instances.create",
    "machineTypes.list": "compute.machineTypes.list",
    "networks.get": "compute.networks.get",
    "projects.get": "compute.projects.get",
    "regions.get": "compute.regions.get",
    "subnetworks.get": "compute.subnetworks.get",
    "zoneOperations.get": "compute.zoneOperations.get",
    "zoneOperations.list": "compute.zoneOperations.list",
    "zones.list": "compute.zones.list",
}


@dataclass
class Fault:
    """`answer` instead of the truth for the next `times` calls of `method`; `forward`: the call takes effect first."""

    method: str
    answer: Answer
    times: int
    forward: bool = False
    after: int = 0
    """How many calls go well before the first that doesn't."""


@dataclass
class Cloud:
    """The emulator's state; set attributes at any moment. Operations end after `steps` further calls of anybody."""

    project: str = "acme-ml"
    clock: Callable[[], float] = time.time
    steps: int = 1
    page_size: int = 500
    hidden_lists: int = 0
    """How many lists still don't show what was created last."""
    quota: int | None = None
    """The most instances there may be, None = no limit."""
    quota_limit_name: str = "PREEMPTIBLE-NVIDIA-L4-GPUS-per-project-region"
    unreachable: set[str] = field(default_factory=set)
    """Zones that lists leave out, saying so."""
    warned: dict[str, str] = field(default_factory=dict)
    """Zone -> the code of a warning that a list has for it."""
    denied: set[str] = field(default_factory=set)
    """Permissions that the account lacks."""
    quotas_shown: list[dict[str, Any]] = field(default_factory=list)
    skus: list[dict[str, Any]] = field(default_factory=goods.catalogue)
    calls: list[Call] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    machines: Machines = field(default_factory=Machines)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _faults: list[Fault] = field(default_factory=list)
    _operation_faults: list[tuple[str, str]] = field(default_factory=list)
    _out: set[tuple[str, str, str]] = field(default_factory=set)
    _details: bool = False
    _snapshots: dict[str, list[Any]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _apis: dict[str, Api] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("compute.v1", "cloudbilling.v1", "cloudresourcemanager.v1")
        self._apis = {name: Api(name) for name in names}

    def reset(self) -> None:
        """As new, but instances, disks and operations stay: they are the cloud's."""
        fresh = Cloud.__new__(Cloud)
        kept = ("machines", "_lock", "_apis", "_snapshots", "_numbers")
        for one in (one for one in fields(Cloud) if one.name not in kept):
            default = one.default_factory() if callable(one.default_factory) else one.default
            setattr(fresh, one.name, default)
            setattr(self, one.name, getattr(fresh, one.name))

    # -- what a test programs -------------------------------------------------------------------------

    def exhaust(
        self, machine_type: str = ANY, zone: str = ANY, market: str = ANY, *, details: bool = False
    ) -> None:
        """No capacity from now on for what matches; with `details` the message names the type."""
        self._out.add((machine_type, zone, market))
        self._details = details

    def restock(self) -> None:
        """Capacity everywhere again."""
        self._out.clear()

    def heal(self) -> None:
        """Forget the faults that have not been met."""
        self._faults.clear()
        self._operation_faults.clear()
        self.denied.clear()
        self.unreachable.clear()
        self.warned.clear()
        self.quota = None
        self.restock()

    def fail(
        self, method: str, status: int, reason: str, message: str = "", *, times: int = 1, after: int = 0
    ) -> None:
        """Answer `method` with an error `times` times, once `after` calls went well; it takes no effect."""
        self._faults.append(Fault(method, error(status, reason, message), times, after=after))

    def fail_operation(self, code: str, message: str, *, times: int = 1) -> None:
        """Accept the next creations and let their operations end with this error."""
        self._operation_faults += [(code, message)] * times

    def lose_reply(self, method: str, *, times: int = 1) -> None:
        """Carry `method` out and hang up without an answer."""
        self._faults.append(Fault(method, Answer(0, b"", drop=True), times, forward=True))

    def answer(self, method: str, body: bytes, *, status: int = 200, times: int = 1) -> None:
        """Answer `method` with these bytes, whatever they are."""
        self._faults.append(Fault(method, Answer(status, body), times))

    def preempt(self, zone: str, name: str) -> None:
        """Take a spot instance back."""
        with self._lock:
            self.machines.preempt(zone, name, self.clock())

    def halt(self, zone: str, name: str) -> None:
        """Shut an instance down from inside."""
        with self._lock:
            self.machines.halt(zone, name, self.clock())

    def count(self, method: str) -> int:
        """How often `method` was called since `reset`."""
        return Counter(call.method for call in self.calls)[method]

    def sent(self, method: str) -> Call:
        """The last call of `method`."""
        return [call for call in self.calls if call.method == method][-1]

    # -- the door -------------------------------------------------------------------------------------

    def handle(self, verb: str, path: str, query: list[tuple[str, str]], body: bytes) -> Answer:
        """The answer to one request that was let in."""
        with self._lock:
            for api in self._apis.values():
                found = api.find(verb, path)
                if found is not None:
                    return self._judged(api, *found, query, body)
            self.violations.append(f"{verb} {path} is no method of an API that is known here")
            return error(404, "notFound", "Not Found")

    def _judged(
        self, api: Api, method: str, parameters: dict[str, str], query: list[tuple[str, str]], body: bytes
    ) -> Answer:
        try:
            call = api.judge(method, parameters, query, body)
        except Violation as wrong:
            self.violations.append(str(wrong))
            return error(400, "invalid", str(wrong))
        self.calls.append(call)
        fault = self._take_fault(method)
        if fault is not None and not fault.forward:
            return fault.answer
        answer = self._truth(call)
        if answer.status == 200:
            try:
                api.judge_answer(method, json.loads(answer.body))
            except Violation as wrong:
                self.violations.append(str(wrong))
        return answer if fault is None else fault.answer

    def _take_fault(self, method: str) -> Fault | None:
        for fault in self._faults:
            if fault.method == method and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _truth(self, call: Call) -> Answer:
        permission = PERMISSIONS.get(call.method)
        own = call.parameters.get("project", self.project) == self.project
        try:
            if permission in self.denied and own:
                words = f"Required '{permission}' permission for 'projects/{self.project}'"
                raise Refused(403, "forbidden", words)
            self.machines.step(self.clock())
            name = "_" + "".join(
                f"_{one.lower()}" if one.isupper() else one for one in call.method.replace(".", "_")
            )
            answer: Answer = getattr(self, name)(call)
        except Refused as no:
            return no.answer
        return answer

    # -- instances ------------------------------------------------------------------------------------

    def _instances_insert(self, call: Call) -> Answer:
        zone, request_id = call.parameters["zone"], call.parameters.get("requestId", "")
        known = self.machines.by_request.get(request_id)
        if known is not None:
            sent, operation = known
            if sent != call.body:
                self.violations.append(f"instances.insert: request id {request_id} came with another body")
            return ok(self.machines.shown(operation))
        made = creation(call.body, zone, self.project)
        if (zone, made.name) in self.machines.instances:
            link = f"projects/{self.project}/zones/{zone}/instances/{made.name}"
            raise Refused(409, "alreadyExists", f"The resource '{link}' already exists")
        failure = self._no(made.machine_type, zone, "spot" if made.is_spot else "on_demand")
        operation = self.machines.create(made, failure, request_id, self.steps, self.clock())
        if self.hidden_lists:
            self.machines.hidden.add((zone, made.name))
        if request_id:
            self.machines.by_request[request_id] = (call.body, operation)
        return ok(self.machines.shown(operation))

    def _no(self, machine_type: str, zone: str, market: str) -> dict[str, Any] | None:
        if self._operation_faults:
            code, message = self._operation_faults.pop(0)
            return {"code": code, "message": message}
        if self.quota is not None and len(self.machines.instances) >= self.quota:
            info = {
                "metricName": "compute.googleapis.com/gpus",
                "limitName": self.quota_limit_name,
                "limit": 1.0,
            }
            words = f"Quota '{self.quota_limit_name}' exceeded. Limit: {self.quota}.0 in region us-central1."
            return {"code": "QUOTA_EXCEEDED", "message": words, "errorDetails": [{"quotaInfo": info}]}
        for out in self._out:
            if all(mine in (ANY, its) for mine, its in zip(out, (machine_type, zone, market), strict=True)):
                return _stock_out(machine_type, zone, self.project, details=self._details)
        return None

    def _instances_get(self, call: Call) -> Answer:
        return ok(self._instance(call))

    def _instances_delete(self, call: Call) -> Answer:
        self._instance(call)
        key = (call.parameters["zone"], call.parameters["instance"])
        operation = self.machines.delete(*key, call.parameters.get("requestId", ""), self.steps, self.clock())
        return ok(self.machines.shown(operation))

    def _instance(self, call: Call) -> dict[str, Any]:
        zone, name = call.parameters["zone"], call.parameters["instance"]
        if zone not in self._zones():
            raise Refused(
                404, "notFound", f"The resource 'projects/{self.project}/zones/{zone}' was not found"
            )
        found = self.machines.instances.get((zone, name))
        if found is None:
            link = f"projects/{self.project}/zones/{zone}/instances/{name}"
            raise Refused(404, "notFound", f"The resource '{link}' was not found")
        return found.shown()

    def _instances_aggregated_list(self, call: Call) -> Answer:
        if self.hidden_lists:
            self.hidden_lists -= 1
        elif self.machines.hidden:
            self.machines.hidden.clear()

        def every() -> list[Any]:
            shown = ((key, one.shown()) for key, one in sorted(self.machines.instances.items()))
            return [
                (zone, one)
                for (zone, name), one in shown
                if (zone, name) not in self.machines.hidden
                and zone not in self.unreachable
                and matches(call.parameters.get("filter", ""), one)
            ]

        page, token = self._page(call, every)
        items: dict[str, Any] = {}
        for zone in self._zones():
            content: dict[str, Any] = {"instances": [one for at, one in page if at == zone]}
            if not content["instances"]:
                content = {
                    "warning": {
                        "code": "NO_RESULTS_ON_PAGE",
                        "message": f"There are no results for scope 'zones/{zone}' on this page.",
                    }
                }
            if zone in self.warned:
                content["warning"] = {"code": self.warned[zone], "message": "part of the data is missing"}
            items[f"zones/{zone}"] = content
        answer = {"kind": "compute#instanceAggregatedList", "items": items, **token}
        if self.unreachable:
            answer["unreachables"] = [f"zones/{zone}" for zone in sorted(self.unreachable)]
        return ok(answer)

    # -- operations -----------------------------------------------------------------------------------

    def _zone_operations_get(self, call: Call) -> Answer:
        operation = self.machines.operations.get(call.parameters["operation"])
        if operation is None:
            raise Refused(
                404, "notFound", f"The resource 'operations/{call.parameters['operation']}' was not found"
            )
        return ok(self.machines.shown(operation))

    def _zone_operations_list(self, call: Call) -> Answer:
        if call.parameters.get("orderBy", "creationTimestamp desc") != "creationTimestamp desc":
            raise Refused(400, "invalid", "Invalid value for field 'orderBy'")

        def every() -> list[Any]:
            found = [self.machines.shown(one) for one in reversed(self.machines.operations.values())]
            zone = f"/zones/{call.parameters['zone']}"
            return [
                one
                for one in found
                if one["zone"].endswith(zone) and matches(call.parameters.get("filter", ""), one)
            ]

        return self._list(call, "compute#operationList", every)

    # -- the catalogue --------------------------------------------------------------------------------

    def _machine_types_list(self, call: Call) -> Answer:
        zone = call.parameters["zone"]
        rows = [{"name": name, "zone": zone, **about} for name, about in goods.MACHINES.items()]
        return self._list(call, "compute#machineTypeList", lambda: rows)

    def _accelerator_types_list(self, call: Call) -> Answer:
        rows = [{"name": name, "maximumCardsPerInstance": most} for name, most in goods.ACCELERATORS.items()]
        return self._list(call, "compute#acceleratorTypeList", lambda: rows)

    def _zones_list(self, call: Call) -> Answer:
        base = f"https://www.googleapis.com/compute/v1/projects/{self.project}/regions"
        rows = [
            {"name": zone, "region": f"{base}/{region}", "status": "UP"}
            for region, zones in goods.ZONES.items()
            for zone in zones
        ]
        return self._list(call, "compute#zoneList", lambda: rows)

    def _regions_get(self, call: Call) -> Answer:
        if call.parameters["region"] not in goods.ZONES:
            raise Refused(
                404, "notFound", f"The resource 'regions/{call.parameters['region']}' was not found"
            )
        quota = {"metric": "PREEMPTIBLE_NVIDIA_L4_GPUS", "limit": 8.0, "usage": 1.0}
        return ok({"name": call.parameters["region"], "quotas": [quota, *self.quotas_shown]})

    def _projects_get(self, call: Call) -> Answer:
        if call.parameters["project"] != self.project:
            words = f"The resource 'projects/{call.parameters['project']}' was not found"
            raise Refused(404, "notFound", words)
        return ok({"name": self.project, "kind": "compute#project"})

    def _images_get(self, call: Call) -> Answer:
        return ok(_image(call.parameters["project"], call.parameters["image"]))

    def _images_get_from_family(self, call: Call) -> Answer:
        return ok(_image(call.parameters["project"], family=call.parameters["family"]))

    def _networks_get(self, call: Call) -> Answer:
        name = call.parameters["network"]
        if name not in goods.NETWORKS:
            words = f"The resource 'projects/{self.project}/global/networks/{name}' was not found"
            raise Refused(404, "notFound", words)
        return ok({"name": name})

    def _subnetworks_get(self, call: Call) -> Answer:
        key = (call.parameters["region"], call.parameters["subnetwork"])
        if key not in goods.SUBNETWORKS:
            words = (
                f"The resource 'projects/{self.project}/regions/{key[0]}/subnetworks/{key[1]}' was not found"
            )
            raise Refused(404, "notFound", words)
        return ok({"name": key[1], "ipCidrRange": "10.0.0.0/20"})

    def _services_skus_list(self, call: Call) -> Answer:
        page, token = self._page(call, lambda: self.skus)
        return ok({"skus": page, "nextPageToken": "", **token})

    def _projects_test_iam_permissions(self, call: Call) -> Answer:
        return ok({"permissions": [one for one in call.body["permissions"] if one not in self.denied]})

    # -- pages ----------------------------------------------------------------------------------------

    def _list(self, call: Call, kind: str, every: Callable[[], list[Any]]) -> Answer:
        page, token = self._page(call, every)
        return ok({"kind": kind, "items": page, **token})

    def _page(self, call: Call, every: Callable[[], list[Any]]) -> tuple[list[Any], dict[str, str]]:
        """A page of the list as it was when the first was read, and the token of the next."""
        token = call.parameters.get("pageToken", "")
        rows = self._snapshots.pop(token, None) if token else every()
        if rows is None:
            raise Refused(400, "invalid", "Invalid value for field 'pageToken'")
        asked = int(call.parameters.get("maxResults") or call.parameters.get("pageSize") or 500)
        size = min(self.page_size, asked)
        if len(rows) <= size:
            return rows, {}
        following = f"page-{next(self._numbers)}"
        self._snapshots[following] = rows[size:]
        return rows[:size], {"nextPageToken": following}

    def _zones(self) -> list[str]:
        return [zone for zones in goods.ZONES.values() for zone in zones]


def _stock_out(machine_type: str, zone: str, project: str, *, details: bool) -> dict[str, Any]:
    if details:
        words = f"A {machine_type} VM instance is currently unavailable in the {zone} zone. Try another zone."
        return {"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": words}
    words = f"The zone 'projects/{project}/zones/{zone}' does not have enough resources available."
    return {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": words}


def _image(project: str, name: str = "", family: str = "") -> dict[str, Any]:
    for (owner, known), about in goods.IMAGES.items():
        if owner == project and (known == name or (family and about.get("family") == family)):
            return {"name": known, **about}
    path = f"family/{family}" if family else name
    raise Refused(404, "notFound", f"The resource 'projects/{project}/global/images/{path}' was not found")

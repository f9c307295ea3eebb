"""Azure as far as the adapter asks it: Resource Manager, sign-in and price list, with faults that a test programs."""

from __future__ import annotations

import json
import re
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from . import catalogue, schema
from .catalogue import Size
from .machines import Machine, Machines, refused
from .request import Answer, Request, answer, error

ANY = "*"
TOKEN_SECONDS = 3600
PUBLIC = frozenset({"prices.get", "token.post", "token.discover"})


@dataclass
class Fault:
    """`answer` instead of the truth for the next `times` calls of `action`; `forward`: the call takes effect first."""

    action: str
    answer: Answer
    times: int
    forward: bool = False


@dataclass
class Cloud(Machines):
    """One subscription. Actions are named as in `request.ROUTES`."""

    page_size: int = 100
    visibility_lag_seconds: float = 0.0
    sizes: tuple[Size, ...] = catalogue.SIZES
    price_overrides: dict[str, Any] = field(default_factory=dict)
    restrictions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    subnets: set[str] = field(default_factory=set)
    plan: dict[str, str] | None = None
    permissions: list[dict[str, Any]] = field(
        default_factory=lambda: [{"actions": ["*"], "notActions": [], "dataActions": []}]
    )
    vcpus: int = 1000
    secret: str = "secret"
    calls: list[Request] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    """What the emulator itself could not stand: a test must end with none."""
    _faults: list[Fault] = field(default_factory=list)
    _no_capacity: dict[tuple[str, str, str], tuple[str, bool]] = field(default_factory=dict)

    def exhaust(
        self,
        code: str = "SkuNotAvailable",
        *,
        size: str = ANY,
        zone: str = ANY,
        priority: str = ANY,
        later: bool = False,
    ) -> None:
        """No capacity from now on for what matches; `later`: the call is accepted and its operation fails."""
        self._no_capacity[size, zone, priority] = (code, later)

    def restock(self) -> None:
        """Capacity everywhere again."""
        self._no_capacity.clear()

    def heal(self) -> None:
        """Forget the faults that have not been met."""
        self._faults.clear()

    def fail(
        self, action: str, code: str, *, status: int = 400, message: str = "", times: int = 1, **headers: str
    ) -> None:
        """Answer `action` with an error `times` times; it takes no effect."""
        self._faults.append(Fault(action, error(status, code, message, **headers), times))

    def lose_reply(self, action: str, *, times: int = 1) -> None:
        """Carry `action` out and hang up without an answer."""
        self._faults.append(Fault(action, Answer(0, drop=True), times, forward=True))

    def answer(
        self, action: str, body: bytes, *, status: int = 200, times: int = 1, forward: bool = False
    ) -> None:
        """Answer `action` with these bytes, whatever they are."""
        self._faults.append(Fault(action, Answer(status, body), times, forward))

    def arm(self, fault: Fault) -> None:
        """Have it met from now on."""
        self._faults.append(fault)

    def count(self, action: str) -> int:
        """How often `action` was called."""
        return Counter(call.action for call in self.calls)[action]

    def last(self, action: str) -> Request:
        """The newest call of `action`."""
        return [call for call in self.calls if call.action == action][-1]

    def handle(self, request: Request) -> Answer:
        """The answer to one call."""
        with self.lock:
            request.route()
            self.calls.append(request)
            fault = self._met(request.action)
            if fault is not None and not fault.forward:
                return fault.answer
            try:
                truth = self._truth(request)
            except Exception:
                self.violations.append(f"{request.method} {request.path}\n{traceback.format_exc()}")
                return error(500, "EmulatorFailed", "see violations")
            return fault.answer if fault is not None else truth

    def _met(self, action: str) -> Fault | None:
        for fault in self._faults:
            if fault.action in (action, ANY) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _truth(self, request: Request) -> Answer:
        if not request.action:
            return error(404, "InvalidResourceType", f"nothing answers at {request.path}")
        if request.action not in PUBLIC:
            if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
                return error(401, "InvalidAuthenticationToken", "The access token is invalid")
            if "api-version" not in request.query:
                return error(400, "MissingApiVersionParameter", "api-version is required")
        self.settle()
        handler: Callable[[Request], Answer] = getattr(self, f"_{request.action.replace('.', '_')}")
        return handler(request)

    # -- virtual machines -----------------------------------------------------------------------------

    def _vm_put(self, request: Request) -> Answer:
        name = request.names["name"]
        if name in self.vms:
            if request.headers.get("if-none-match") == "*":
                return error(412, "PreconditionFailed", f"The VM {name} exists already")
            return error(409, "PropertyChangeNotAllowed", "Changing property 'osProfile' is not allowed")
        problem = self._problem(request)
        return problem if problem is not None else self.create(request)

    def _problem(self, request: Request) -> Answer | None:
        body = request.json()
        wrong = schema.problems(body, schema.VIRTUAL_MACHINE)
        if wrong:
            return error(400, "InvalidRequestContent", "; ".join(wrong))
        untaken = refused(body, request.names["name"])
        if untaken:
            return error(400, "InvalidParameter", untaken)
        return self._unmet(body)

    def _unmet(self, body: dict[str, Any]) -> Answer | None:
        properties = body["properties"]
        size = next((one for one in self.sizes if one.name == properties["hardwareProfile"]["vmSize"]), None)
        if size is None:
            return error(400, "InvalidParameter", "The value provided for the VM size is not valid")
        zone = (body.get("zones") or [""])[0]
        if zone and zone not in size.zones:
            return error(400, "AvailabilityZoneNotSupported", f"zone {zone} is not supported")
        for interface in properties["networkProfile"]["networkInterfaceConfigurations"]:
            subnet = interface["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"]
            if subnet not in self.subnets:
                return error(400, "InvalidResourceReference", f"{subnet} was not found")
        image = properties["storageProfile"]["imageReference"]
        if "id" not in image and image["publisher"] != catalogue.PUBLISHER:
            return error(404, "PlatformImageNotFound", "The platform image is not available")
        if self.plan and not body.get("plan"):
            return error(
                400, "VMMarketplaceInvalidInput", "Creating from this image requires Plan information"
            )
        if sum(1 for _ in self.vms) >= self.vcpus // size.vcpus:
            return error(409, "OperationNotAllowed", "would exceed approved Total Regional Cores quota")
        limit = properties.get("billingProfile", {}).get("maxPrice", -1)
        if limit != -1 and limit < (size.spot_usd or 0):
            return error(409, "OperationNotAllowed", "max price is lower than the current spot price")
        return self._stocked(size.name, zone, properties["priority"])

    def _stocked(self, size: str, zone: str, priority: str) -> Answer | None:
        self.failure = None
        for key, (code, later) in self._no_capacity.items():
            if all(wanted in (ANY, is_) for wanted, is_ in zip(key, (size, zone, priority), strict=True)):
                message = f"The requested VM size {size} is not available now"
                if not later:
                    return error(409, code, message)
                self.failure = (code, message)
        return None

    def _vm_get(self, request: Request) -> Answer:
        machine = self.vms.get(request.names["name"])
        if machine is None:
            return error(404, "ResourceNotFound", "The resource was not found")
        return answer(200, self.view(machine, instance_view=request.query.get("$expand") == "instanceView"))

    def _vm_delete(self, request: Request) -> Answer:
        return self.delete(request)

    def _vm_list(self, request: Request) -> Answer:
        return self._page(request, [self.view(one) for one in self._visible()])

    def _vm_list_all(self, request: Request) -> Answer:
        assert request.query.get("statusOnly") == "true"
        shown = [self.view(one, instance_view=True) for one in self._visible()]
        kept = ("id", "name", "location", "type")
        rows = [
            {
                **{key: one[key] for key in kept},
                "properties": {"instanceView": one["properties"]["instanceView"]},
            }
            for one in shown
        ]
        return self._page(request, rows)

    def _visible(self) -> list[Machine]:
        return [one for one in self.vms.values() if self.clock() - one.born >= self.visibility_lag_seconds]

    def _operation_get(self, request: Request) -> Answer:
        operation = self.operations.get(request.names["name"])
        if operation is None:
            return error(404, "NotFound", "no such operation")
        body: dict[str, Any] = {"name": request.names["name"], "status": operation.status}
        if operation.status == "Failed" and operation.failure:
            body["error"] = {"code": operation.failure[0], "message": operation.failure[1]}
        return answer(200, body, Retry_After="2")

    # -- what belongs to them -------------------------------------------------------------------------

    def _disk_list(self, request: Request) -> Answer:
        return self._page(request, list(self.disks.values()))

    def _nic_list(self, request: Request) -> Answer:
        return self._page(request, list(self.nics.values()))

    def _ip_list(self, request: Request) -> Answer:
        return self._page(request, list(self.ips.values()))

    def _disk_delete(self, request: Request) -> Answer:
        return self.delete_belonging(request)

    def _nic_delete(self, request: Request) -> Answer:
        return self.delete_belonging(request)

    def _ip_delete(self, request: Request) -> Answer:
        return self.delete_belonging(request)

    # -- what there is --------------------------------------------------------------------------------

    def _subnet_get(self, request: Request) -> Answer:
        if request.path not in self.subnets:
            return error(404, "ResourceNotFound", "no such subnet")
        found = {
            "id": request.path,
            "name": request.names["name"],
            "properties": {"addressPrefix": "10.0.0.0/20", "provisioningState": "Succeeded"},
        }
        assert schema.problems(found, schema.SUBNET) == []
        return answer(200, found)

    def _image_list(self, request: Request) -> Answer:
        if request.names["publisher"] != catalogue.PUBLISHER:
            return answer(200, [])
        newest = sorted(catalogue.VERSIONS, reverse=True)[: int(request.query.get("$top", "100"))]
        return answer(200, [{"name": version, "location": catalogue.REGION} for version in newest])

    def _image_get(self, request: Request) -> Answer:
        if request.names["version"] not in catalogue.VERSIONS:
            return error(404, "ImageNotFound", "The image was not found")
        properties: dict[str, Any] = {
            "architecture": "x64",
            "hyperVGeneration": "V2",
            "osDiskImage": {"operatingSystem": "Linux", "sizeInGb": 30},
        }
        if self.plan:
            properties["plan"] = self.plan
        return answer(
            200,
            {
                "name": request.names["version"],
                "location": catalogue.REGION,
                "properties": properties,
            },
        )

    def _own_image_get(self, request: Request) -> Answer:
        found = {"name": request.names["name"], "location": catalogue.REGION}
        return answer(200, {**found, "properties": {"hyperVGeneration": "V1"}})

    def _gallery_get(self, request: Request) -> Answer:
        found = {"name": request.names["name"], "location": catalogue.REGION}
        return answer(200, {**found, "properties": {"architecture": "Arm64", "hyperVGeneration": "V2"}})

    def _sku_list(self, request: Request) -> Answer:
        assert request.query["$filter"] == f"location eq '{catalogue.REGION}'"
        rows = [catalogue.sku(size, self.restrictions.get(size.name, [])) for size in self.sizes]
        disks = {"resourceType": "disks", "name": "StandardSSD_LRS", "locations": [catalogue.REGION]}
        return self._page(request, [disks, *rows])

    def _usage_list(self, request: Request) -> Answer:
        rows = [
            {
                "unit": "Count",
                "currentValue": 4,
                "limit": 100,
                "name": {"value": name, "localizedValue": name},
            }
            for name in ("cores", "lowPriorityCores")
        ]
        return self._page(request, rows)

    def _permissions_get(self, _request: Request) -> Answer:
        return answer(200, {"value": self.permissions})

    def _prices_get(self, request: Request) -> Answer:
        wanted = set(re.findall(r"armSkuName eq '([^']+)'", request.query["$filter"]))
        rows = [
            {**row, **self.price_overrides}
            for size in self.sizes
            if size.name in wanted
            for row in catalogue.price_rows(size)
        ]
        start = int(request.query.get("$skip", "0"))
        kept = rows[start : start + self.page_size]
        link = None
        if start + self.page_size < len(rows):
            link = self._link(request, "$skip", start + self.page_size)
        return answer(
            200,
            {
                "BillingCurrency": "USD",
                "CustomerEntityType": "Retail",
                "Items": kept,
                "NextPageLink": link,
                "Count": len(kept),
            },
        )

    # -- sign-in --------------------------------------------------------------------------------------

    def _token_discover(self, request: Request) -> Answer:
        base = f"{self.url}/{request.names['tenant']}"
        return answer(
            200,
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            },
        )

    def _token_post(self, request: Request) -> Answer:
        if f"client_secret={self.secret}" not in request.body.decode():
            return answer(
                401,
                {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret"},
            )
        token = f"token-{len(self.tokens)}"
        self.tokens.add(token)
        return answer(200, {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "access_token": token})

    # -- pages ----------------------------------------------------------------------------------------

    def _page(self, request: Request, rows: list[dict[str, Any]]) -> Answer:
        start = int(request.query.get("$skiptoken", "0"))
        body: dict[str, Any] = {"value": rows[start : start + self.page_size]}
        if start + self.page_size < len(rows):
            body["nextLink"] = self._link(request, "$skiptoken", start + self.page_size)
        return answer(200, body)

    def _link(self, request: Request, key: str, start: int) -> str:
        return f"{self.url}{request.path}?{urlencode({**request.query, key: str(start)})}"


def told(call: Request) -> Any:
    """The JSON that a call sent."""
    return json.loads(call.body)

"""What moto lacks of EC2, programmable from a test: tokens, capacity, throttling, lost replies, lag, pages, prices."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from xml.etree import ElementTree as ET

from . import query
from .query import Answer, Request

Forward = Callable[[Request], Answer]
ANY = "*"
LISTS = {
    "DescribeInstances": "reservationSet",
    "DescribeInstanceTypes": "instanceTypeSet",
    "DescribeInstanceTypeOfferings": "instanceTypeOfferingSet",
    "DescribeSpotPriceHistory": "spotPriceHistorySet",
    "DescribeSubnets": "subnetSet",
    "DescribeImages": "imagesSet",
}
STATE_CODES = {"pending": "0", "running": "16", "shutting-down": "32", "terminated": "48"}


@dataclass
class Fault:
    """`answer` instead of the truth for the next `times` calls of `action`; `forward`: the call takes effect first."""

    action: str
    answer: Answer
    times: int
    forward: bool = False


@dataclass
class Cloud:
    """The fault layer's state. Times are seconds of `clock`; set attributes at any moment."""

    clock: Callable[[], float] = time.monotonic
    page_size: int | None = None
    stock: int | None = None
    """How many instances one call can still get, None = as many as it likes."""
    visibility_lag_seconds: float = 0.0
    tag_lag_seconds: float = 0.0
    pending_seconds: float = 0.0
    shutting_down_seconds: float = 0.0
    on_demand_usd: dict[str, str] = field(default_factory=dict)
    """The price list: instance type -> US dollars as AWS writes them."""
    spot_usd: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """(type, zone) -> price; None leaves the row out. Others get `default_spot_usd`."""
    default_spot_usd: str = "0.300000"
    parameters: dict[str, str] = field(default_factory=dict)
    """SSM parameters beside those that moto has."""
    calls: list[Request] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _faults: list[Fault] = field(default_factory=list)
    _no_capacity: set[tuple[str, str, str]] = field(default_factory=set)
    _tokens: dict[tuple[str, str], tuple[str, Answer]] = field(default_factory=dict)
    _born: dict[str, float] = field(default_factory=dict)
    _ended: dict[str, float] = field(default_factory=dict)
    _zones: dict[str, str] = field(default_factory=dict)
    _snapshots: dict[str, Answer] = field(default_factory=dict)
    spot_requests: dict[str, str] = field(default_factory=dict)
    """Spot request -> ``active`` or ``cancelled``; EC2 makes one for each spot instance, moto doesn't."""

    def reset(self) -> None:
        """As new, but instances and their tokens stay: they are the cloud's."""
        fresh = Cloud()
        kept = ("spot_requests", "_lock", "_tokens", "_born", "_ended", "_zones", "_snapshots")
        for name in (one.name for one in fields(Cloud) if one.name not in kept):
            setattr(self, name, getattr(fresh, name))

    def exhaust(self, instance_type: str = ANY, zone: str = ANY, market: str = ANY) -> None:
        """No capacity from now on for what matches."""
        self._no_capacity.add((instance_type, zone, market))

    def heal(self) -> None:
        """Forget the faults that have not been met."""
        self._faults.clear()

    def restock(self) -> None:
        """Capacity everywhere again."""
        self._no_capacity.clear()

    def fail(self, action: str, code: str, *, status: int = 400, message: str = "", times: int = 1) -> None:
        """Answer `action` with an error `times` times; it takes no effect."""
        self._faults.append(Fault(action, query.error(code, message, status), times))

    def lose_reply(self, action: str, *, times: int = 1) -> None:
        """Carry `action` out and hang up without an answer."""
        self._faults.append(Fault(action, Answer(0, b"", drop=True), times, forward=True))

    def answer(
        self, action: str, body: bytes, *, status: int = 200, times: int = 1, forward: bool = False
    ) -> None:
        """Answer `action` with these bytes, whatever they are."""
        self._faults.append(Fault(action, Answer(status, body), times, forward))

    def count(self, action: str) -> int:
        """How often `action` was called since `reset`."""
        return Counter(call.action for call in self.calls)[action]

    def handle(self, request: Request, forward: Forward) -> Answer:
        """The answer to one call. `forward` asks moto."""
        with self._lock:
            self.calls.append(request)
            fault = self._take_fault(request.action)
        if fault is not None and not fault.forward:
            return fault.answer
        answer = self._truth(request, forward)
        return answer if fault is None else fault.answer

    def _take_fault(self, action: str) -> Fault | None:
        for fault in self._faults:
            if fault.action in (action, ANY) and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def _truth(self, request: Request, forward: Forward) -> Answer:
        if request.service == "pricing":
            return self._price_list(request)
        if request.action == "GetParameter":
            return self._parameter(request, forward)
        if request.service != "ec2":
            return forward(request)
        if request.action == "RunInstances":
            with self._lock:
                return self._run_instances(request, forward)
        if request.action in LISTS:
            return self._list(request, forward)
        if request.action == "CancelSpotInstanceRequests":
            return self._cancel_spot_requests(request)
        return self._remembering_ends(request, forward(request))

    # -- RunInstances ---------------------------------------------------------------------------------

    def _run_instances(self, request: Request, forward: Forward) -> Answer:
        token = request.parameters.get("ClientToken", "")
        key = (request.region, token)
        sent = json.dumps({k: v for k, v in sorted(request.parameters.items()) if k != "DryRun"})
        if key in self._tokens:
            before, answer = self._tokens[key]
            return (
                answer if before == sent else query.error("IdempotentParameterMismatch", "other parameters")
            )
        refusal = self._refusal(request, forward)
        if refusal is not None:
            return refusal
        # moto makes MinCount of them, EC2 as many as it has up to MaxCount.
        most = int(request.parameters.get("MaxCount", 1))
        count = most if self.stock is None else min(most, self.stock)
        asked = {**request.parameters, "MinCount": str(count), "MaxCount": str(count)}
        answer = forward(Request(request.service, request.region, request.action, asked))
        if answer.status == 200:
            root = query.tree(answer.body)
            for found in root.iter("instanceId"):
                self._born[found.text or ""] = self.clock()
                if request.parameters.get("InstanceMarketOptions.MarketType") == "spot":
                    self.spot_requests[_spot_request(found.text or "")] = "active"
            self._rewrite_states(root)
            answer = Answer(200, query.text(root))
            self._tokens[key] = (sent, answer)
        return answer

    def _refusal(self, request: Request, forward: Forward) -> Answer | None:
        kind = request.parameters.get("InstanceType", "")
        zone = request.parameters.get("Placement.AvailabilityZone") or self._zone_of_subnet(request, forward)
        market = (
            "spot" if request.parameters.get("InstanceMarketOptions.MarketType") == "spot" else "on_demand"
        )
        none_left = self.stock is not None and self.stock < int(request.parameters.get("MinCount", 1))
        for out in {*self._no_capacity, *({(ANY, ANY, ANY)} if none_left else ())}:
            if all(mine in (ANY, its) for mine, its in zip(out, (kind, zone, market), strict=True)):
                words = f"We currently do not have sufficient {kind} capacity in {zone}."
                # EC2 says this with HTTP 500, which makes clients retry unless they are told not to.
                return query.error("InsufficientInstanceCapacity", words, 500)
        return None

    def _zone_of_subnet(self, request: Request, forward: Forward) -> str:
        subnet = request.parameters.get("SubnetId", "")
        if subnet and subnet not in self._zones:
            asked = {"Action": "DescribeSubnets", "Version": "2016-11-15", "SubnetId.1": subnet}
            root = query.tree(forward(Request("ec2", request.region, "DescribeSubnets", asked)).body)
            found = root.find(".//availabilityZone")
            self._zones[subnet] = (found.text or "") if found is not None else ""
        return self._zones.get(subnet, "")

    # -- lists ----------------------------------------------------------------------------------------

    def _list(self, request: Request, forward: Forward) -> Answer:
        start = int(request.parameters.get("NextToken", "page-0").removeprefix("page-"))
        asked = {k: v for k, v in request.parameters.items() if k not in ("NextToken", "MaxResults")}
        by_id = any(name.startswith("InstanceId.") for name in asked)
        if request.action == "DescribeInstances" and not by_id:
            # moto pages by a hundred when it isn't told otherwise; the pages are made here.
            asked["MaxResults"] = "100000"
        key = json.dumps([request.region, sorted(asked.items())])
        if start:
            # The later pages are of the list as it was when the first was read, as EC2's are.
            root = query.tree(self._snapshots[key].body)
            query.page(root, LISTS[request.action], start, self._size(request))
            return Answer(200, query.text(root))
        answer = forward(Request(request.service, request.region, request.action, asked))
        if answer.status != 200:
            return answer
        root = query.tree(answer.body)
        if request.action == "DescribeInstances":
            missing = self._hide_young(root, request)
            if missing is not None:
                return missing
            self._rewrite_states(root)
        if request.action == "DescribeSpotPriceHistory":
            self._rewrite_spot_prices(root)
        self._snapshots[key] = Answer(200, query.text(root))
        query.page(root, LISTS[request.action], start, self._size(request))
        return Answer(200, query.text(root))

    def _size(self, request: Request) -> int:
        asked = int(request.parameters.get("MaxResults", 1000))
        return asked if self.page_size is None else min(asked, self.page_size)

    def _hide_young(self, root: ET.Element, request: Request) -> Answer | None:
        reservations = root.find("reservationSet")
        assert reservations is not None
        by_tag = any(name.startswith("tag:") for name in request.filters())
        for reservation in list(reservations):
            instances = reservation.find("instancesSet")
            assert instances is not None
            for instance in list(instances):
                age = self.clock() - self._born.get(instance.findtext("instanceId") or "", float("-inf"))
                tags = instance.find("tagSet")
                if age < self.visibility_lag_seconds or (age < self.tag_lag_seconds and by_tag):
                    instances.remove(instance)
                elif age < self.tag_lag_seconds and tags is not None:
                    instance.remove(tags)
            if not len(instances):
                reservations.remove(reservation)
        for wanted in request.numbered("InstanceId"):
            if wanted not in {found.text for found in root.iter("instanceId")}:
                return query.error("InvalidInstanceID.NotFound", f"The instance ID '{wanted}' does not exist")
        return None

    def _rewrite_states(self, root: ET.Element) -> None:
        for instance in root.iter("item"):
            state, name = instance.find("instanceState"), instance.findtext("instanceId") or ""
            if state is None:
                continue
            now, shown = self.clock(), state.findtext("name")
            if _spot_request(name) in self.spot_requests:
                ET.SubElement(instance, "spotInstanceRequestId").text = _spot_request(name)
            if name in self._ended and now - self._ended[name] < self.shutting_down_seconds:
                shown = "shutting-down"
            elif shown == "running" and now - self._born.get(name, float("-inf")) < self.pending_seconds:
                shown = "pending"
            for tag, value in (("name", shown), ("code", STATE_CODES.get(shown or "", "16"))):
                element = state.find(tag)
                if element is not None:
                    element.text = value

    def _rewrite_spot_prices(self, root: ET.Element) -> None:
        rows = root.find("spotPriceHistorySet")
        assert rows is not None
        for row in list(rows):
            key = (row.findtext("instanceType") or "", row.findtext("availabilityZone") or "")
            price, element = self.spot_usd.get(key, self.default_spot_usd), row.find("spotPrice")
            if price is None or element is None:
                rows.remove(row)
            else:
                element.text = price

    def _cancel_spot_requests(self, request: Request) -> Answer:
        root = ET.Element("CancelSpotInstanceRequestsResponse")
        rows = ET.SubElement(root, "spotInstanceRequestSet")
        for name in request.numbered("SpotInstanceRequestId"):
            if name not in self.spot_requests:
                return query.error(
                    "InvalidSpotInstanceRequestID.NotFound", f"The spot request '{name}' does not exist"
                )
            self.spot_requests[name] = "cancelled"
            row = ET.SubElement(rows, "item")
            ET.SubElement(row, "spotInstanceRequestId").text = name
            ET.SubElement(row, "state").text = "cancelled"
        return Answer(200, query.text(root))

    def _remembering_ends(self, request: Request, answer: Answer) -> Answer:
        if request.action == "TerminateInstances" and answer.status == 200:
            for name in request.numbered("InstanceId"):
                self._ended.setdefault(name, self.clock())
        return answer

    # -- other services -------------------------------------------------------------------------------

    def _price_list(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        filters = {one["Field"]: one["Value"] for one in asked.get("Filters", ())}
        rows = sorted(self.on_demand_usd.items())
        start, size = int(asked.get("NextToken", 0)), self.page_size or 100
        answer: dict[str, object] = {"FormatVersion": "aws_v1"}
        answer["PriceList"] = [product(kind, usd, filters) for kind, usd in rows[start : start + size]]
        if start + size < len(rows):
            answer["NextToken"] = str(start + size)
        return Answer(200, json.dumps(answer).encode(), "application/x-amz-json-1.1")

    def _parameter(self, request: Request, forward: Forward) -> Answer:
        name = json.loads(request.body).get("Name", "")
        if name not in self.parameters:
            return forward(request)
        found = {"Parameter": {"Name": name, "Type": "String", "Value": self.parameters[name], "Version": 1}}
        return Answer(200, json.dumps(found).encode(), "application/x-amz-json-1.1")


def _spot_request(instance_id: str) -> str:
    return instance_id.replace("i-", "sir-", 1)


def product(kind: str, usd: str, filters: dict[str, str]) -> str:
    """A row of the price list, in AWS's form: JSON in a string."""
    attributes = {**filters, "instanceType": kind}
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
    terms = {"OnDemand": {f"{kind}.T": {"priceDimensions": {f"{kind}.T.D": dimension}}}}
    return json.dumps(
        {"product": {"productFamily": "Compute Instance", "attributes": attributes}, "terms": terms}
    )

"""A cluster as its API server shows it: objects, names that are unique, quotas, paging, eviction, and faults on demand.

Strict: whatever the API's schemas don't allow is refused with 422 or 400, as is what the role doesn't permit.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import schemas

Object = dict[str, Any]
Rules = frozenset[tuple[str, str]]
KINDS = {
    "pods": "Pod",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "resourcequotas": "ResourceQuota",
}
WHOLE_LISTS_UP_TO = 20
"""Longer ones are checked by their first few items: each takes milliseconds."""
NODE = "node-1"


@dataclass(frozen=True)
class Answer:
    """`drop`: the work is done and nobody is told."""

    status: int
    body: Object | bytes
    headers: tuple[tuple[str, str], ...] = ()
    drop: bool = False


@dataclass
class Fault:
    verb: str
    resource: str
    answer: Answer
    times: int
    forward: bool = False
    """Carried out all the same."""


@dataclass(frozen=True)
class Call:
    """One request: `name` is empty for a collection, `subresource` is ``eviction`` or empty."""

    verb: str
    namespace: str
    resource: str
    name: str = ""
    subresource: str = ""
    query: dict[str, str] = field(default_factory=dict)
    body: Object | None = None


def status(code: int, reason: str, message: str, **details: Any) -> Answer:
    """A Status object, as the API server tells what went wrong."""
    told: Object = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    if details:
        told["details"] = details
    wait = details.get("retryAfterSeconds")
    return Answer(code, told, (("Retry-After", str(wait)),) if wait else ())


def not_found(resource: str, name: str) -> Answer:
    return status(404, "NotFound", f'{resource} "{name}" not found', kind=resource, name=name)


class Cluster:
    """What a test programs. Thread-safe."""

    def __init__(
        self, rules: Rules, *, namespaces: Iterable[str] = ("ml",), clock: Callable[[], float] = time.time
    ) -> None:
        self.rules = rules
        self.namespaces = set(namespaces)
        self.clock = clock
        self.lock = threading.RLock()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.token = "valid-token"
        self.calls: Counter[tuple[str, str]] = Counter()
        self.wrong_answers: list[str] = []
        self.refused: list[str] = []
        self._version = 0
        self._leaving: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """As a new cluster behaves; what is in it stays."""
        with self.lock:
            self.faults: list[Fault] = []
            self.page_size = 500
            self.pages: dict[str, list[Object]] = {}
            self.pages_forgotten = 0
            self.quota: dict[str, int] = {}
            self.sizes_without_room: set[str] = set()
            self.images_missing: set[str] = set()
            self.budgeted: set[str] = set()
            self.lost_nodes: set[str] = set()
            self.runs_pods = True
            """Whether pods run and end by themselves; off where a kubelet does it."""

    # -- what tests ask for -----------------------------------------------------------------------------------

    def fail(
        self, verb: str, resource: str, answer: Answer, *, times: int = 1, forward: bool = False
    ) -> None:
        with self.lock:
            self.faults.append(Fault(verb, resource, answer, times, forward))

    def lose_reply(self, verb: str, resource: str, *, times: int = 1) -> None:
        self.fail(verb, resource, Answer(0, b"", drop=True), times=times, forward=True)

    def heal(self) -> None:
        self.reset()

    def all(self, resource: str) -> list[Object]:
        with self.lock:
            return [copy.deepcopy(one) for (kind, _, _), one in self.objects.items() if kind == resource]

    def age(self, resource: str, name: str, seconds: float) -> None:
        """Have it be made `seconds` earlier."""
        metadata = self._named(resource, name)["metadata"]
        for key in ("creationTimestamp", "deletionTimestamp"):
            if key in metadata:
                metadata[key] = stamp(epoch(metadata[key]) - seconds)

    def end(self, name: str, phase: str, reason: str = "", message: str = "", exit_code: int = 0) -> None:
        """The pod's containers have ended."""
        with self.lock:
            pod = self._named("pods", name)
            told = {"reason": reason, "message": message}
            pod["status"].update({"phase": phase, **{key: value for key, value in told.items() if value}})
            ended = {
                "exitCode": exit_code,
                "finishedAt": stamp(self.clock()),
                "reason": "Error" if exit_code else "Completed",
            }
            pod["status"]["containerStatuses"] = [_container(pod, {"terminated": ended})]

    def mark(self, name: str, **values: Any) -> None:
        """Have the pod's status say `values`."""
        with self.lock:
            self._named("pods", name)["status"].update(values)

    def remove(self, name: str) -> None:
        """The pod is gone from the API, and with it what it owns."""
        with self.lock:
            for key, pod in list(self.objects.items()):
                if key[0] == "pods" and key[2] == name:
                    del self.objects[key]
                    self._collect(pod["metadata"]["uid"])

    def drain(self, name: str) -> Answer:
        """What kubectl drain asks for."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "ml"}}
        return self._evict(Call("create", "ml", "pods", name, "eviction", {}, body))

    # -- the API ----------------------------------------------------------------------------------------------

    def handle(self, call: Call, token: str) -> Answer:
        with self.lock:
            kind = f"{call.resource}/{call.subresource}" if call.subresource else call.resource
            self.calls[call.verb, kind] += 1
            fault = next(
                (
                    one
                    for one in self.faults
                    if one.times and (one.verb, one.resource) in {(call.verb, kind), ("*", "*")}
                ),
                None,
            )
            if fault is None:
                return self._checked(self._authorised(call, kind, token))
            fault.times -= 1
            if fault.forward:
                self._authorised(call, kind, token)
            return fault.answer

    def _authorised(self, call: Call, kind: str, token: str) -> Answer:
        if token != self.token:
            return status(401, "Unauthorized", "Unauthorized")
        if call.resource == "selfsubjectaccessreviews":
            return self._review(call)
        if (kind, call.verb) not in self.rules:
            who = "system:serviceaccount:hostler:hostler"
            words = (
                f'{kind} is forbidden: User "{who}" cannot {call.verb} resource "{kind}" in API group "" '
                f'in the namespace "{call.namespace}"'
            )
            return status(403, "Forbidden", words, kind=call.resource)
        self._settle()
        if call.subresource == "eviction":
            return self._evict(call)
        verbs = {"create": self._create, "get": self._get, "list": self._list, "delete": self._delete}
        return verbs[call.verb](call)

    def _review(self, call: Call) -> Answer:
        wrong = self._wrong(call.body, "SelfSubjectAccessReview")
        if wrong is not None:
            return wrong
        assert call.body is not None
        asked = call.body["spec"]["resourceAttributes"]
        kind = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        allowed = asked.get("namespace") in self.namespaces and (kind, asked["verb"]) in self.rules
        return Answer(201, {**call.body, "metadata": {}, "status": {"allowed": allowed}})

    def _create(self, call: Call) -> Answer:
        if call.namespace not in self.namespaces:
            return not_found("namespaces", call.namespace)
        wrong = self._wrong(call.body, KINDS[call.resource])
        if wrong is not None:
            return wrong
        made = copy.deepcopy(call.body)
        assert made is not None
        metadata = made["metadata"]
        if metadata.get("namespace", call.namespace) != call.namespace:
            return status(
                400,
                "BadRequest",
                "the namespace of the provided object does not match the namespace sent on the request",
            )
        key = (call.resource, call.namespace, metadata["name"])
        if key in self.objects:
            words = f'{call.resource} "{metadata["name"]}" already exists'
            return status(409, "AlreadyExists", words, kind=call.resource, name=metadata["name"])
        refused = self._over_quota(call.resource, metadata["name"])
        if refused is not None:
            return refused
        metadata.update(
            namespace=call.namespace,
            uid=str(uuid.uuid4()),
            creationTimestamp=stamp(self.clock()),
            resourceVersion=self._next_version(),
        )
        if call.resource == "pods":
            made["status"] = {"phase": "Pending"}
        if call.query.get("dryRun") != "All":
            self.objects[key] = made
        return Answer(201, copy.deepcopy(made))

    def _get(self, call: Call) -> Answer:
        found = self.objects.get((call.resource, call.namespace, call.name))
        return not_found(call.resource, call.name) if found is None else Answer(200, copy.deepcopy(found))

    def _list(self, call: Call) -> Answer:
        token = call.query.get("continue")
        if token:
            if self.pages_forgotten:
                self.pages_forgotten -= 1
                self.pages.clear()
            if token not in self.pages:
                return status(410, "Expired", "The provided continue parameter is too old")
            found = self.pages.pop(token)
        else:
            found = [one for one in self._of(call) if _selected(one, call.query.get("labelSelector", ""))]
        size = min(self.page_size, int(call.query.get("limit") or len(found) or 1))
        page, rest = copy.deepcopy(found[:size]), found[size:]
        metadata: Object = {"resourceVersion": str(self._version)}
        if rest:
            metadata["continue"] = uuid.uuid4().hex
            self.pages[metadata["continue"]] = rest
        for one in page:
            # Items of a list say neither kind nor version.
            one.pop("kind", None)
            one.pop("apiVersion", None)
        kind = f"{KINDS[call.resource]}List"
        return Answer(200, {"apiVersion": "v1", "kind": kind, "metadata": metadata, "items": page})

    def _of(self, call: Call) -> list[Object]:
        return [
            copy.deepcopy(one)
            for (kind, namespace, _), one in sorted(self.objects.items())
            if (kind, namespace) == (call.resource, call.namespace)
        ]

    def _delete(self, call: Call) -> Answer:
        wrong = self._wrong(call.body, "DeleteOptions") if call.body else None
        if wrong is not None:
            return wrong
        found = self.objects.get((call.resource, call.namespace, call.name))
        if found is None:
            return not_found(call.resource, call.name)
        options = call.body or {}
        uid = found["metadata"]["uid"]
        if options.get("preconditions", {}).get("uid", uid) != uid:
            return status(
                409, "Conflict", f"the UID in the precondition does not match the UID in record: {uid}"
            )
        if call.resource != "pods":
            del self.objects[call.resource, call.namespace, call.name]
            return Answer(200, _success())
        self._doom(found, options.get("gracePeriodSeconds"))
        return Answer(200, copy.deepcopy(found))

    def _evict(self, call: Call) -> Answer:
        with self.lock:
            wrong = self._wrong(call.body, "Eviction")
            found = self.objects.get(("pods", call.namespace, call.name))
            if wrong is not None or found is None:
                return wrong or not_found("pods", call.name)
            if call.name in self.budgeted:
                words = "Cannot evict pod as it would violate the pod's disruption budget."
                return status(429, "TooManyRequests", words, retryAfterSeconds=10)
            assert call.body is not None
            self.disrupt(found, "EvictionByEvictionAPI", "Eviction API: evicting")
            self._doom(found, (call.body.get("deleteOptions") or {}).get("gracePeriodSeconds"))
            return Answer(201, _success())

    def disrupt(self, pod: Object, reason: str, message: str) -> None:
        told = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
        pod["status"].setdefault("conditions", []).append(told)

    def _doom(self, pod: Object, grace: int | None) -> None:
        """Deletion begins: the kubelet has that long; without one, or with no time at all, the pod goes at once."""
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        metadata = pod["metadata"]
        if seconds == 0:
            self.remove(metadata["name"])
            return
        metadata.setdefault("deletionTimestamp", stamp(self.clock() + seconds))
        metadata.setdefault("deletionGracePeriodSeconds", seconds)

    def _settle(self) -> None:
        """What scheduler, kubelet and garbage collector have done meanwhile."""
        if not self.runs_pods:
            return
        for (kind, _, name), pod in list(self.objects.items()):
            if kind != "pods" or name in self.lost_nodes:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                # Seen once on its way out before it goes.
                if name in self._leaving:
                    self._leaving.remove(name)
                    self.remove(name)
                else:
                    self._leaving.add(name)
            elif pod["status"]["phase"] == "Pending":
                self._start(pod)

    def _start(self, pod: Object) -> None:
        size = pod["metadata"]["labels"].get("hostler.dev/size")
        if size in self.sizes_without_room:
            words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
            pod["status"]["conditions"] = [told]
            return
        pod["spec"]["nodeName"] = NODE
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
        image = pod["spec"]["containers"][0]["image"]
        if image in self.images_missing:
            waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            pod["status"]["containerStatuses"] = [_container(pod, {"waiting": waiting})]
        elif self.can_mount(pod):
            pod["status"].update(phase="Running", podIP="10.0.0.7", startTime=stamp(self.clock()))
            running = {"startedAt": stamp(self.clock())}
            pod["status"]["containerStatuses"] = [_container(pod, {"running": running})]

    def can_mount(self, pod: Object) -> bool:
        """Whether the secrets it wants are there; a kubelet waits for them."""
        namespace = pod["metadata"]["namespace"]
        wanted = [one["secret"] for one in pod["spec"].get("volumes") or () if "secret" in one]
        found = [self.objects.get(("secrets", namespace, one["secretName"])) for one in wanted]
        return all(
            secret is not None and all(item["key"] in secret["data"] for item in one.get("items") or ())
            for one, secret in zip(wanted, found, strict=True)
        )

    def _collect(self, owner_uid: str) -> None:
        for key, one in list(self.objects.items()):
            owners = [owner["uid"] for owner in one["metadata"].get("ownerReferences") or ()]
            if owners and all(uid == owner_uid for uid in owners):
                del self.objects[key]

    def _over_quota(self, resource: str, name: str) -> Answer | None:
        limit = self.quota.get(resource)
        used = sum(
            1
            for (kind, _, _), one in self.objects.items()
            if kind == resource and one.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        )
        if limit is None or used < limit:
            return None
        words = (
            f'{resource} "{name}" is forbidden: exceeded quota: team, requested: {resource}=1, '
            f"used: {resource}={used}, limited: {resource}={limit}"
        )
        return status(403, "Forbidden", words, kind=resource, name=name)

    def _wrong(self, body: Object | None, kind: str) -> Answer | None:
        found = schemas.faults(body)
        if body is not None and not found and body["kind"] != kind:
            found = [f"{body['kind']} can't be handled as a {kind}"]
        if not found:
            return None
        self.refused += found
        name = str(((body or {}).get("metadata") or {}).get("name", ""))
        if any("Additional properties" in one for one in found):
            return status(
                400,
                "BadRequest",
                f'{kind} in version "v1" cannot be handled: strict decoding error: {found[0]}',
            )
        causes = [
            {"reason": "FieldValueInvalid", "message": one, "field": one.partition(":")[0]} for one in found
        ]
        return status(
            422,
            "Invalid",
            f'{kind} "{name}" is invalid: {"; ".join(found)}',
            name=name,
            kind=kind,
            causes=causes,
        )

    def _checked(self, answer: Answer) -> Answer:
        """An emulator whose answers no API server would give proves nothing."""
        if isinstance(answer.body, dict):
            body = answer.body
            items = body.get("items")
            if isinstance(items, list) and len(items) > WHOLE_LISTS_UP_TO:
                body = {**body, "items": items[:3]}
            if body.get("kind") != "ResourceQuotaList":
                self.wrong_answers += schemas.faults(body)
        return answer

    def _named(self, resource: str, name: str) -> Object:
        return next(
            one for (kind, _, known), one in self.objects.items() if (kind, known) == (resource, name)
        )

    def _next_version(self) -> str:
        self._version += 1
        return str(self._version)


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _container(pod: Object, state: Object) -> Object:
    container = pod["spec"]["containers"][0]
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _success() -> Object:
    return {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}


def _selected(one: Object, selector: str) -> bool:
    labels = one["metadata"].get("labels") or {}
    wanted = [part.partition("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value for key, _, value in wanted)

"""The API's own schemas, strictly: an unknown field is as wrong as a wrong type, both in what is asked and answered.

What the schemas don't say (names, label values, quantities, references between parts of a pod) is checked here too,
because a real API server does.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
from referencing import Registry, Resource

VERSION = "v1.33.0"
FILES = {
    ("v1", "Pod"): "pod-v1",
    ("v1", "PodList"): "podlist-v1",
    ("v1", "Secret"): "secret-v1",
    ("v1", "ConfigMap"): "configmap-v1",
    ("v1", "ConfigMapList"): "configmaplist-v1",
    ("v1", "ResourceQuotaList"): "resourcequotalist-v1",
    ("v1", "Status"): "status-meta-v1",
    ("v1", "DeleteOptions"): "deleteoptions-meta-v1",
    ("policy/v1", "Eviction"): "eviction-policy-v1",
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): "selfsubjectaccessreview-authorization-v1",
    ("v1", "ServiceAccount"): "serviceaccount-v1",
    ("rbac.authorization.k8s.io/v1", "Role"): "role-rbac-v1",
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): "rolebinding-rbac-v1",
}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"[+-]?\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")
_WHOLE = re.compile(r"\d+")
MAX_ANNOTATIONS_BYTES = 262_144
MAX_SECRET_BYTES = 1_048_576


def faults(thing: object) -> list[str]:
    """What a strict API server would find wrong with `thing`, empty if nothing."""
    if not isinstance(thing, dict):
        return ["it is not an object"]
    key = (str(thing.get("apiVersion")), str(thing.get("kind")))
    if key not in FILES:
        return [f"no kind {key[1]} in version {key[0]}"]
    found = [
        f"{'.'.join(map(str, error.absolute_path)) or key[1]}: {error.message}"
        for error in _validator(FILES[key]).iter_errors(thing)
    ]
    return found or list(_beyond_the_schema(thing))


@cache
def _validator(file: str) -> Any:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    strict = folder / f"{VERSION}-local-strict"
    schema = json.loads((strict / f"{file}.json").read_text())
    registry: Any = Registry()
    for part in (schema, json.loads((strict / "_definitions.json").read_text())):
        registry = Resource.from_contents(part) @ registry
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _beyond_the_schema(thing: dict[str, Any]) -> Iterator[str]:
    if thing["kind"] in ("Pod", "Secret", "ConfigMap"):
        yield from _metadata(thing.get("metadata") or {})
    if thing["kind"] == "Pod":
        yield from _pod(thing.get("spec") or {})
    if thing["kind"] == "Secret" and len(json.dumps(thing.get("data") or {})) > MAX_SECRET_BYTES:
        yield "data: too long"


def _metadata(metadata: dict[str, Any]) -> Iterator[str]:
    name = str(metadata.get("name", ""))
    if not _NAME.fullmatch(name) or len(name) > 253:
        yield f"metadata.name: Invalid value: {name!r}"
    for key, value in (metadata.get("labels") or {}).items():
        if not _is_key(key):
            yield f"metadata.labels: Invalid key: {key!r}"
        if value and (len(value) > 63 or not _PART.fullmatch(value)):
            yield f"metadata.labels: Invalid value: {value!r}"
    annotations = metadata.get("annotations") or {}
    yield from (f"metadata.annotations: Invalid key: {key!r}" for key in annotations if not _is_key(key))
    if sum(len(key) + len(value) for key, value in annotations.items()) > MAX_ANNOTATIONS_BYTES:
        yield "metadata.annotations: Too long"


def _is_key(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    fits = len(name) <= 63 and bool(_PART.fullmatch(name))
    return fits and (not slash or (len(prefix) <= 253 and bool(_PREFIX.fullmatch(prefix))))


def _pod(spec: dict[str, Any]) -> Iterator[str]:
    volumes = [volume.get("name") for volume in spec.get("volumes") or ()]
    yield from (f"spec.volumes: Duplicate value: {name!r}" for name in volumes if volumes.count(name) > 1)
    for key, value in (spec.get("nodeSelector") or {}).items():
        if not _is_key(key) or (value and not _PART.fullmatch(value)):
            yield f"spec.nodeSelector: Invalid value: {key}={value}"
    if not spec.get("containers"):
        yield "spec.containers: Required value"
    for index, container in enumerate(spec.get("containers") or ()):
        where = f"spec.containers[{index}]"
        if not container.get("image"):
            yield f"{where}.image: Required value"
        yield from _mounts(where, container, volumes)
        yield from _resources(where, container.get("resources") or {})


def _mounts(where: str, container: dict[str, Any], volumes: list[Any]) -> Iterator[str]:
    paths = [mount.get("mountPath") for mount in container.get("volumeMounts") or ()]
    yield from (f"{where}.volumeMounts: must be unique: {path}" for path in paths if paths.count(path) > 1)
    for mount in container.get("volumeMounts") or ():
        if mount.get("name") not in volumes:
            yield f"{where}.volumeMounts: Not found: {mount.get('name')!r}"


def _resources(where: str, resources: dict[str, Any]) -> Iterator[str]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, amount in (*limits.items(), *requests.items()):
        text = str(amount)
        if not _QUANTITY.fullmatch(text):
            yield f"{where}.resources.{name}: must be a quantity: {text!r}"
        elif "/" in name and not _WHOLE.fullmatch(text):
            yield f"{where}.resources.{name}: must be an integer"
        elif "/" in name and requests.get(name, amount) != limits.get(name):
            yield f"{where}.resources.requests: must be equal to {name} limit"

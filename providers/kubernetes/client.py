"""The connection to one API server and the one way to ask it.

Answers are plain dicts. The generated models of the kubernetes package would refuse fields newer than themselves in a
person's pod template, and drop them from answers; its connection, credentials and their renewal are what we want of it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import kubernetes.client
import kubernetes.config

from ...config.kubernetes import KubernetesProvider as Section
from ..base import InstanceNotFound, ProviderError, Unavailable
from ..calls import Calls, Patience
from .errors import Refused, errors_told, reason_of

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
MAX_CONNECTIONS = 32
PAGE_SIZE = 500
MAX_PAGES = 10_000
"""No list of ours is this long: a server that hands out tokens for ever is broken, and the loop must go on."""
LIST_ATTEMPTS = 3
"""How often a list is begun whose next page the server has forgotten (410 Gone)."""
GONE = frozenset({"Expired", "Gone"})
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_CORE = "/api/v1/namespaces/{namespace}/{resource}"
JSON = "application/json"


class Client:
    """Asks one API server. Thread-safe; every method raises only ProviderError."""

    def __init__(self, name: str, section: Section, calls: Calls) -> None:
        self.name = name
        self.namespace = section.namespace
        self._section = section
        self._calls = calls
        self._lock = threading.Lock()
        self._api: Any = None
        with errors_told("read the kubeconfig", section.namespace):
            self._connected()

    def create(
        self,
        resource: str,
        body: Mapping[str, Any],
        patience: Patience,
        *,
        instance: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """POST an object; `instance` if a lost answer may have made one. Its error's reason is AlreadyExists when
        the name is taken."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        path = self._path(resource)
        return self._call("POST", path, f"create {resource}", patience, query, body, creates=instance)

    def get(self, resource: str, name: str, patience: Patience) -> dict[str, Any] | None:
        """The object, or None when there is none of that name."""
        try:
            return self._call("GET", self._path(resource, name), f"get {resource}", patience)
        except InstanceNotFound:
            return None

    def delete(
        self, resource: str, name: str, patience: Patience, *, uid: str = "", grace_seconds: int | None = None
    ) -> None:
        """Ask for the object's end, if it is the one with `uid`; one that is gone already is well."""
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        with suppress(InstanceNotFound):
            self._call("DELETE", self._path(resource, name), f"delete {resource}", patience, body=body)

    def evict(self, name: str, grace_seconds: int, patience: Patience) -> None:
        """What a node drain does to a pod; a disruption budget may forbid it for now (Throttled)."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
            "deleteOptions": {"gracePeriodSeconds": grace_seconds},
        }
        path = f"{self._path('pods', name)}/eviction"
        self._call("POST", path, "create pods/eviction", patience, body=body)

    def all_of(self, resource: str, label_selector: str, patience: Patience) -> list[dict[str, Any]]:
        """Every object that the selector takes: all pages or an error, never a part."""
        for _ in range(LIST_ATTEMPTS):
            found = self._whole(resource, label_selector, patience)
            if found is not None:
                return found
        raise Unavailable(f"list {resource} in {self.namespace}: the server forgot its pages again and again")

    def review(self, verb: str, resource: str, patience: Patience) -> bool:
        """Whether we may `verb` `resource` (``pods`` or ``pods/eviction``) in our namespace."""
        kind, _, subresource = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "resource": kind}
        if subresource:
            asked["subresource"] = subresource
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._call("POST", path, "create selfsubjectaccessreviews", patience, body=body)
        with errors_told("create selfsubjectaccessreviews", self.namespace):
            return bool(answer["status"]["allowed"])

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def _whole(self, resource: str, label_selector: str, patience: Patience) -> list[dict[str, Any]] | None:
        """All pages, or None when the server has dropped the snapshot that they are read from."""
        found: list[dict[str, Any]] = []
        seen: set[str] = set()
        query = {"labelSelector": label_selector, "limit": str(PAGE_SIZE)}
        action = f"list {resource}"
        for _ in range(MAX_PAGES):
            try:
                page = self._call("GET", self._path(resource), action, patience, query)
            except ProviderError as error:
                if reason_of(error) in GONE:
                    return None
                raise
            with errors_told(action, self.namespace):
                found += [_an_object(one) for one in page["items"] or ()]
                token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return found
            if token in seen:
                break
            seen.add(token)
            query["continue"] = token
        raise Unavailable(f"{action} in {self.namespace}: the pages don't end")

    def _path(self, resource: str, name: str = "") -> str:
        path = _CORE.format(namespace=quote(self.namespace, safe=""), resource=resource)
        return f"{path}/{quote(name, safe='')}" if name else path

    def _call(
        self,
        method: str,
        path: str,
        action: str,
        patience: Patience,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        creates: bool = False,
    ) -> dict[str, Any]:
        def once() -> dict[str, Any]:
            with errors_told(action, self.namespace, creates=creates):
                return self._ask(method, path, query, body)

        return self._calls.run(once, patience)

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        headers = {"Accept": JSON, "User-Agent": "hostler"} | ({} if body is None else {"Content-Type": JSON})
        api = self._connected()
        told = api.configuration.auth_settings().get("BearerToken")
        if told and told.get("value"):
            headers["Authorization"] = str(told["value"])
        try:
            answer = api.rest_client.request(
                method,
                f"{api.configuration.host.rstrip('/')}{path}{'?' + urlencode(query) if query else ''}",
                headers=headers,
                body=body,
                _request_timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
            )
            # Newer versions of the package read on demand, older ones have read already.
            content = answer.data if answer.data is not None else answer.read()
        except kubernetes.client.ApiException as error:
            # Older versions of the package raise what newer ones return.
            if not error.status:
                raise
            raise self._refused(int(error.status), _bytes(error.body), _header(error)) from error
        if not 200 <= answer.status <= 299:
            raise self._refused(answer.status, content, answer.getheader("Retry-After"))
        return _an_object(json.loads(content))

    def _refused(self, code: int, body: bytes, retry_after: str | None) -> Refused:
        if code == HTTPStatus.UNAUTHORIZED:
            # The kubeconfig may have been renewed, or its plugin had no word just then: the next call reads it anew.
            with self._lock:
                self._disconnect()
        return Refused(code, body, retry_after)

    def _connected(self) -> Any:
        with self._lock:
            if self._api is None:
                self._api = kubernetes.client.ApiClient(_configuration(self._section))
            return self._api

    def _disconnect(self) -> None:
        if self._api is not None:
            self._api.rest_client.pool_manager.clear()
            self._api = None


def _configuration(section: Section) -> Any:
    configuration: Any = kubernetes.client.Configuration()
    loader: Any = kubernetes.config
    chosen = section.context or section.kubeconfig
    if chosen is None and os.environ.get(_IN_CLUSTER):
        loader.load_incluster_config(client_configuration=configuration)
    else:
        file = section.kubeconfig.expanduser() if section.kubeconfig is not None else None
        if file is not None and not file.is_file():
            raise kubernetes.config.ConfigException(f"{file} is not there")
        loader.load_kube_config(
            config_file=str(file) if file is not None else None,
            context=section.context,
            client_configuration=configuration,
            persist_config=False,
        )
    # What is tried again, and how often, is for `Calls` to say.
    configuration.retries = False
    configuration.connection_pool_maxsize = MAX_CONNECTIONS
    return configuration


def _an_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"the answer is {type(value).__name__}, not an object")
    return value


def _bytes(body: object) -> bytes:
    return body if isinstance(body, bytes) else str(body or "").encode()


def _header(error: kubernetes.client.ApiException) -> str | None:
    headers: Any = error.headers
    return headers.get("Retry-After") if headers is not None else None

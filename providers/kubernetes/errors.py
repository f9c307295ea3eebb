"""From what the API server and the connection to it say to the port's errors, with how far each reaches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3.exceptions as broken
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from ..base import (
    AuthFailed,
    InstanceNotFound,
    InvalidConfig,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)

MAX_DETAIL_CHARACTERS = 600
ALREADY_EXISTS = "AlreadyExists"
_QUOTA = (
    "free some of the namespace's quota (kubectl describe quota), raise it, or lower the pool's instances"
)
_SIGN_IN = "renew the credentials of this context (kubectl auth whoami shows them)"
_CONTEXT = "correct context and kubeconfig of this provider"
_NAMESPACE = "create the namespace, or correct namespace of this provider"
_TEMPLATE = "correct template, container or sizes of this provider; hostler doctor tries each"
_REACH = "see that this machine reaches the API server and resolves its name"
_TRUST = "the API server's certificate isn't trusted: correct certificate-authority of the kubeconfig"
_NOT_PERMITTED = re.compile(r"cannot (\w+) resource \"([\w/]+)\"")
_OVER_QUOTA = re.compile(r"exceeded quota")
_MISSING_IN_QUOTA = re.compile(r"failed quota")
_NEVER_SENT = (
    broken.NewConnectionError,
    broken.ConnectTimeoutError,
    broken.NameResolutionError,
    broken.LocationParseError,
    broken.LocationValueError,
)


class Refused(Exception):
    """An answer of the API server that is not success: its status and, if it was one, its Status object."""

    def __init__(self, status: int, body: bytes, retry_after: str | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.told = _status_object(body)
        self.body = body
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        return str(self.told.get("reason") or "")

    @property
    def message(self) -> str:
        words = self.told.get("message")
        return str(words) if words else self.body[:MAX_DETAIL_CHARACTERS].decode(errors="replace")

    @property
    def kind(self) -> str:
        """What kind of thing the answer is about (``namespaces``)."""
        return str(_part(self.told, "details").get("kind") or "")

    @property
    def retry_after_seconds(self) -> float | None:
        """What the server asks for, by header or in its words."""
        for told in (self.retry_after, _part(self.told, "details").get("retryAfterSeconds")):
            try:
                return max(0.0, float(told)) if told else None
            except (TypeError, ValueError):
                continue
        return None


@contextmanager
def errors_told(action: str, namespace: str, *, creates: bool = False) -> Iterator[None]:
    """Let nothing but `ProviderError` out. `creates`: a lost answer may have made something all the same."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise translate(error, action, namespace, creates=creates) from error


def translate(error: Exception, action: str, namespace: str, *, creates: bool = False) -> ProviderError:
    """The port's error for what `action` (such as ``create pods``) raised in `namespace`."""
    where = f"{action} in {namespace}"
    if isinstance(error, Refused):
        return _of_answer(error, where, creates=creates)
    detail = _short(f"{where}: {type(error).__name__}: {error}")
    if isinstance(error, ConfigException):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_CONTEXT)
    if isinstance(error, broken.SSLError) or (isinstance(error, ApiException) and "SSL" in str(error.reason)):
        return Unavailable(detail, scope=Scope.PROVIDER, hint=_TRUST)
    if isinstance(error, _NEVER_SENT):
        return Unavailable(detail, scope=Scope.PROVIDER, hint=_REACH)
    return Unavailable(detail, scope=Scope.PROVIDER, maybe_created=creates)


def reason_of(error: BaseException | None) -> str:
    """The API server's own reason (``AlreadyExists``) in `error` or what caused it, '' if there is none."""
    while error is not None:
        if isinstance(error, Refused):
            return error.reason
        error = error.__cause__
    return ""


def _of_answer(error: Refused, where: str, *, creates: bool) -> ProviderError:
    detail = _short(f"{where}: {error.status} {error.reason}: {error.message}")
    if error.status == 401:
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    if error.status == 403:
        return _forbidden(error.message, detail)
    if error.status == 429:
        # An eviction that a disruption budget holds up answers so too.
        return Throttled(detail, scope=Scope.PROVIDER, retry_after_seconds=error.retry_after_seconds)
    if error.status == 404:
        return _not_found(error, detail)
    if error.status == 409 and error.reason != ALREADY_EXISTS:
        # Two creations met at the quota's own object: neither was carried out for that, and asking again helps.
        return Unavailable(detail, scope=Scope.OFFER)
    if 400 <= error.status < 500 and error.status not in (408, 425):
        return InvalidConfig(detail, scope=_reach(error), hint=_TEMPLATE)
    return Unavailable(
        detail,
        scope=Scope.PROVIDER,
        maybe_created=creates,
        retry_after_seconds=error.retry_after_seconds,
    )


def _forbidden(message: str, detail: str) -> ProviderError:
    """403 is a missing permission, a full quota, and every refusal of an admission controller."""
    permission = _NOT_PERMITTED.search(message)
    if permission:
        hint = f"allow {permission[1]} on {permission[2]} to the daemon: docs/providers/kubernetes.rbac.yaml"
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=hint)
    if _OVER_QUOTA.search(message):
        return QuotaExceeded(detail, scope=Scope.REGION, hint=_QUOTA)
    if "being terminated" in message:
        return InvalidConfig(detail, scope=Scope.REGION, hint=_NAMESPACE)
    if "usage per" in message:
        hint = "this size is against a LimitRange of the namespace: change the one or the other"
        return InvalidConfig(detail, scope=Scope.INSTANCE_TYPE, hint=hint)
    if _MISSING_IN_QUOTA.search(message) or re.search(r"\" is forbidden: |denied the request", message):
        return InvalidConfig(detail, scope=Scope.PROVIDER, hint=_TEMPLATE)
    return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)


def _not_found(error: Refused, detail: str) -> ProviderError:
    if error.kind == "namespaces" or error.message.startswith("namespaces "):
        return InvalidConfig(detail, scope=Scope.REGION, hint=_NAMESPACE)
    if error.reason != "NotFound":
        return InvalidConfig(detail, scope=Scope.PROVIDER, hint=f"this is no Kubernetes API: {_CONTEXT}")
    return InstanceNotFound(detail)


def _reach(error: Refused) -> Scope:
    """What asks for the wrong amount concerns its size alone; anything else in a pod is the same in all."""
    causes = _part(error.told, "details").get("causes")
    fields = [str(_mapping(cause).get("field", "")) for cause in causes] if isinstance(causes, list) else []
    if fields and all(".resources" in field for field in fields):
        return Scope.INSTANCE_TYPE
    return Scope.OFFER if error.reason == ALREADY_EXISTS else Scope.PROVIDER


def _status_object(body: bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _part(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    return _mapping(told.get(key))


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}..."

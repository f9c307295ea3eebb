"""From what Compute Engine and google-auth say to the port's errors, with how far each reaches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from google.api_core import exceptions as answered
from google.auth import exceptions as signing

from ..base import (
    AuthFailed,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)

MAX_DETAIL_CHARACTERS = 600
ALREADY_EXISTS = frozenset({"alreadyExists", "RESOURCE_ALREADY_EXISTS"})
NOT_FOUND = frozenset({"notFound", "RESOURCE_NOT_FOUND"})


@dataclass(frozen=True)
class Meaning:
    """What one reason or code of Google's is to us."""

    kind: type[ProviderError]
    scope: Scope
    hint: str = ""


_SIGN_IN = (
    "renew the credentials the daemon uses (gcloud auth application-default login, or credentials_file)"
)
_PERMIT = "give the daemon's service account the role in docs/providers/gcp-role.yaml"
_ENABLE = "enable the API: gcloud services enable compute.googleapis.com cloudbilling.googleapis.com"
_QUOTA = "ask for a higher quota (IAM & Admin > Quotas), or lower the pool's instances"
_STOCK_OUT = Meaning(InsufficientCapacity, Scope.ZONE)
_QUOTA_REACHED = Meaning(QuotaExceeded, Scope.REGION, _QUOTA)
_THROTTLED = Meaning(Throttled, Scope.REGION)
_FORBIDDEN = Meaning(AuthFailed, Scope.PROVIDER, _PERMIT)
_CREDENTIALS = Meaning(AuthFailed, Scope.PROVIDER, _SIGN_IN)
_API_OFF = Meaning(AuthFailed, Scope.PROVIDER, _ENABLE)
_FAULT = Meaning(Unavailable, Scope.REGION)
_POLICY = Meaning(InvalidConfig, Scope.PROVIDER, "an organisation policy forbids this: see the detail")
_UNSOLD = Meaning(InvalidConfig, Scope.OFFER, "this type is not sold that way in this zone")

BY_REASON: dict[str, Meaning] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": _STOCK_OUT,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": _STOCK_OUT,
    "REGION_RESOURCE_POOL_EXHAUSTED": _STOCK_OUT,
    "RESOURCE_POOL_EXHAUSTED": _STOCK_OUT,
    "STOCKOUT": _STOCK_OUT,
    "IP_SPACE_EXHAUSTED": Meaning(
        InsufficientCapacity, Scope.REGION, "the subnetwork has no free addresses: make it larger"
    ),
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": Meaning(
        InsufficientCapacity, Scope.REGION, "the subnetwork has no free addresses: make it larger"
    ),
    "QUOTA_EXCEEDED": _QUOTA_REACHED,
    "quotaExceeded": _QUOTA_REACHED,
    "LIMIT_EXCEEDED": _QUOTA_REACHED,
    "rateLimitExceeded": _THROTTLED,
    "userRateLimitExceeded": _THROTTLED,
    "RATE_LIMIT_EXCEEDED": _THROTTLED,
    "RESOURCE_OPERATION_RATE_EXCEEDED": _THROTTLED,
    "concurrentOperationQuotaExceeded": _THROTTLED,
    "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED": _THROTTLED,
    "authError": _CREDENTIALS,
    "forbidden": _FORBIDDEN,
    "PERMISSIONS_ERROR": _FORBIDDEN,
    "PERMISSION_DENIED": _FORBIDDEN,
    "IAM_PERMISSION_DENIED": _FORBIDDEN,
    "accessNotConfigured": _API_OFF,
    "SERVICE_DISABLED": _API_OFF,
    "conditionNotMet": _POLICY,
    "CONDITION_NOT_MET": _POLICY,
    "INTERNAL_ERROR": _FAULT,
    "internalError": _FAULT,
    "backendError": _FAULT,
    "BACKEND_ERROR": _FAULT,
    "SERVICE_UNAVAILABLE": _FAULT,
    "UNSUPPORTED_OPERATION": _UNSOLD,
}
BY_RESOURCE: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (
        re.compile(r"sourceImage|/global/images/|guestOsFeatures"),
        Meaning(InvalidConfig, Scope.PROVIDER, "correct image of this provider in fleet.yaml"),
    ),
    (
        re.compile(r"machineTypes?\b|acceleratorTypes?\b|guestAccelerators"),
        Meaning(InvalidConfig, Scope.OFFER, "this type is not sold in this zone"),
    ),
    (
        re.compile(r"/subnetworks/|subnetwork\b"),
        Meaning(InvalidConfig, Scope.REGION, "correct subnetwork of this provider in fleet.yaml"),
    ),
    (
        re.compile(r"/global/networks/|networkInterfaces"),
        Meaning(InvalidConfig, Scope.PROVIDER, "correct network of this provider in fleet.yaml"),
    ),
    (
        re.compile(r"diskTypes?\b"),
        Meaning(InvalidConfig, Scope.OFFER, "correct disk_type: this machine type does not take it"),
    ),
    (
        re.compile(r"serviceAccounts?\b"),
        Meaning(InvalidConfig, Scope.PROVIDER, "correct service_account of this provider in fleet.yaml"),
    ),
)
_INSTANCE = re.compile(r"/instances/[^/']+'")
_NAMES_A_TYPE = re.compile(r"\bA \S+ VM instance\b")
_EVERYWHERE = re.compile(r"ALL[_-]REGIONS")


@contextmanager
def errors_told(action: str, place: str, *, creates: bool = False) -> Iterator[None]:
    """Let nothing but `ProviderError` out. `creates`: a lost answer may have made something all the same."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise translate(error, action, place, creates=creates) from error


def translate(error: Exception, action: str, place: str, *, creates: bool = False) -> ProviderError:
    """The port's error for what `action` (such as ``instances.insert``) raised for `place`, a zone or region."""
    where = f"{action} in {place}"
    if isinstance(error, answered.GoogleAPICallError):
        return _of_answer(error, where, creates=creates)
    detail = short(f"{where}: {error}")
    if isinstance(error, signing.TransportError):
        return Unavailable(
            detail, scope=Scope.PROVIDER, hint="see that this machine reaches Google's token service"
        )
    if isinstance(error, signing.GoogleAuthError):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    if isinstance(error, requests.exceptions.RequestException | OSError):
        sent = creates and not _was_never_sent(error)
        hint = "" if sent else "see that this machine reaches compute.googleapis.com"
        return Unavailable(detail, scope=Scope.REGION, hint=hint, maybe_created=sent)
    unexpected = short(f"{where}: unexpected answer ({type(error).__name__}: {error})")
    return Unavailable(unexpected, scope=Scope.REGION, maybe_created=creates)


def of_operation(operation: Any, action: str, place: str) -> ProviderError | None:
    """The port's error for a finished operation, None if it went well. What failed made nothing."""
    if not operation.error.errors:
        if operation.http_error_status_code < 400:
            return None
        reason, words = str(operation.http_error_status_code), operation.http_error_message
    else:
        first = operation.error.errors[0]
        reason, words = first.code, f"{first.message} {_of_quota(first)}".strip()
    status = operation.http_error_status_code or 0
    return _made(reason, words, status, f"{action} in {place}", creates=False)


def reason_of(error: BaseException | None) -> str:
    """Google's own reason in `error` or what caused it, '' if there is none."""
    while error is not None:
        if isinstance(error, answered.GoogleAPICallError):
            return _reason(error)
        error = error.__cause__
    return ""


def short(text: str) -> str:
    """`text`, cut to what an event or a line of the doctor can hold."""
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}..."


def _of_answer(error: answered.GoogleAPICallError, where: str, *, creates: bool) -> ProviderError:
    status = int(error.code or getattr(error.response, "status_code", 0) or 0)
    made = _made(_reason(error), str(error.message), status, where, creates=creates)
    retry_after = (getattr(error.response, "headers", None) or {}).get("Retry-After", "")
    if made.retryable and retry_after.isdigit():
        made.retry_after_seconds = float(retry_after)
    return made


def _reason(error: answered.GoogleAPICallError) -> str:
    for one in error.errors or ():
        if isinstance(one, dict) and one.get("reason"):
            return str(one["reason"])
    return str(error.reason or "")


def _made(reason: str, words: str, status: int, where: str, *, creates: bool) -> ProviderError:
    detail = short(f"{where}: {reason or status}: {words}")
    meaning = _meaning(reason, words, status)
    maybe = creates and meaning.kind is Unavailable
    return meaning.kind(detail, scope=meaning.scope, hint=meaning.hint, maybe_created=maybe)


def _meaning(reason: str, words: str, status: int) -> Meaning:
    meaning = BY_REASON.get(reason)
    if meaning is not None:
        return _narrowed(meaning, words)
    if (reason in NOT_FOUND or status == 404) and _INSTANCE.search(words):
        return Meaning(InstanceNotFound, Scope.OFFER)
    if status == 429:
        return _THROTTLED
    if status >= 500 or (0 < status < 400):
        return _FAULT
    if status == 401:
        return _CREDENTIALS
    if status == 403:
        return _FORBIDDEN
    return next((one for pattern, one in BY_RESOURCE if pattern.search(words)), _of_the_rest(words))


def _of_the_rest(words: str) -> Meaning:
    if re.search(r"projects?/[^/']+'? (was not found|not found)", words):
        return Meaning(InvalidConfig, Scope.PROVIDER, "correct project of this provider in fleet.yaml")
    return Meaning(InvalidConfig, Scope.REGION)


def _narrowed(meaning: Meaning, words: str) -> Meaning:
    """What the words say more exactly than the reason."""
    if meaning is _STOCK_OUT and _NAMES_A_TYPE.search(words):
        # Only this type is out: the zone may well have others.
        return Meaning(meaning.kind, Scope.OFFER)
    if meaning is _QUOTA_REACHED and _EVERYWHERE.search(words):
        return Meaning(meaning.kind, Scope.PROVIDER, meaning.hint)
    return meaning


def _of_quota(error: Any) -> str:
    for detail in error.error_details:
        if detail.quota_info.limit_name:
            info = detail.quota_info
            return f"(quota {info.limit_name}, metric {info.metric_name}, limit {info.limit:g})"
    return ""


def _was_never_sent(error: Exception) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.SSLError):
        return True
    text = repr(error)
    return isinstance(error, requests.exceptions.ConnectionError) and (
        "NewConnectionError" in text or "NameResolutionError" in text
    )

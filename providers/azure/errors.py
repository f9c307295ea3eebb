"""From what Azure and its SDK say to the port's errors, with how far each reaches."""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core import exceptions as raised
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

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
MAX_RETRY_AFTER_SECONDS = 3600.0
MAX_NESTING = 5
"""Azure wraps the real reason in `details` of `details`; deeper than this nobody has seen it."""


@dataclass(frozen=True)
class Meaning:
    """What one error code of Azure is to us."""

    kind: type[ProviderError]
    scope: Scope
    hint: str = ""


_QUOTA_HINT = "ask for more vCPUs under Quotas in the Azure portal, or lower the pool's instances"
_SIGN_IN = "renew the credentials the daemon uses (az account show tells who is signed in)"
_PERMIT = "allow the action to the daemon's identity (docs/providers/azure.md has the role to apply)"
_NAMED = "something that this provider's section names is not there: hostler doctor tells what"
_CAPACITY = Meaning(InsufficientCapacity, Scope.OFFER)
_QUOTA = Meaning(QuotaExceeded, Scope.REGION, _QUOTA_HINT)
_THROTTLED = Meaning(Throttled, Scope.REGION)
_CREDENTIALS = Meaning(AuthFailed, Scope.PROVIDER, _SIGN_IN)
_FORBIDDEN = Meaning(AuthFailed, Scope.PROVIDER, _PERMIT)
_IMAGE = Meaning(InvalidConfig, Scope.REGION, "correct image of this provider")
_SUBNET = Meaning(InvalidConfig, Scope.REGION, "correct subnets of this provider")
_REGIONAL = Meaning(InvalidConfig, Scope.REGION)
_PLAN = Meaning(
    InvalidConfig,
    Scope.REGION,
    "accept the image's terms: az vm image terms accept --urn URN, or choose another image",
)
_SUBSCRIPTION = Meaning(InvalidConfig, Scope.PROVIDER, "correct subscription of this provider")
_SIZE = Meaning(InvalidConfig, Scope.INSTANCE_TYPE, "Azure knows no such VM size in this region")
_BUSY = Meaning(Unavailable, Scope.OFFER, "something else is being done to it; it goes on by itself")

BY_CODE: dict[str, Meaning] = {
    "SkuNotAvailable": _CAPACITY,
    "AllocationFailed": _CAPACITY,
    "ZonalAllocationFailed": _CAPACITY,
    "OverconstrainedAllocationRequest": _CAPACITY,
    "OverconstrainedZonalAllocationRequest": _CAPACITY,
    "SpotEvicted": _CAPACITY,
    "VMEvicted": _CAPACITY,
    "EvictionPolicyTriggered": _CAPACITY,
    "SubnetIsFull": Meaning(
        InsufficientCapacity, Scope.REGION, "the subnet has no free addresses: add a larger one"
    ),
    "QuotaExceeded": _QUOTA,
    "ResourceQuotaExceeded": _QUOTA,
    "PublicIPCountLimitReached": _QUOTA,
    "NetworkInterfaceCountLimitReached": _QUOTA,
    "TooManyRequests": _THROTTLED,
    "SubscriptionRequestsThrottled": _THROTTLED,
    "ResourceCollectionRequestsThrottled": _THROTTLED,
    "AuthenticationFailed": _CREDENTIALS,
    "InvalidAuthenticationToken": _CREDENTIALS,
    "InvalidAuthenticationTokenTenant": _CREDENTIALS,
    "ExpiredAuthenticationToken": _CREDENTIALS,
    "AuthenticationFailedInvalidHeader": _CREDENTIALS,
    "AuthorizationFailed": _FORBIDDEN,
    "LinkedAuthorizationFailed": _FORBIDDEN,
    "Forbidden": _FORBIDDEN,
    "ReadOnlyDisabledSubscription": Meaning(
        AuthFailed, Scope.PROVIDER, "the subscription is disabled: see its billing in the Azure portal"
    ),
    "ImageNotFound": _IMAGE,
    "PlatformImageNotFound": _IMAGE,
    "GalleryImageNotFound": _IMAGE,
    "ArtifactNotFound": _IMAGE,
    "NotFoundImage": _IMAGE,
    "VMMarketplaceInvalidInput": _PLAN,
    "ResourcePurchaseValidationFailed": _PLAN,
    "MarketplacePurchaseEligibilityFailed": _PLAN,
    "SubnetNotFound": _SUBNET,
    "InvalidResourceReference": _SUBNET,
    "ResourceGroupNotFound": Meaning(
        InvalidConfig, Scope.PROVIDER, "create the resource group, or correct resource_group of this provider"
    ),
    "SubscriptionNotFound": _SUBSCRIPTION,
    "InvalidSubscriptionId": _SUBSCRIPTION,
    "MissingSubscriptionRegistration": Meaning(
        InvalidConfig,
        Scope.PROVIDER,
        "run: az provider register -n Microsoft.Compute; az provider register -n Microsoft.Network",
    ),
    "RequestDisallowedByPolicy": Meaning(
        InvalidConfig, Scope.PROVIDER, "a policy of the subscription forbids this: see it in the Azure portal"
    ),
    "ScopeLocked": Meaning(
        InvalidConfig, Scope.PROVIDER, "remove the lock from the resource group: it forbids deleting"
    ),
    "LocationNotAvailableForResourceType": _REGIONAL,
    "NoRegisteredProviderFound": Meaning(InvalidConfig, Scope.REGION, "correct regions of this provider"),
    "AvailabilityZoneNotSupported": Meaning(InvalidConfig, Scope.ZONE),
    "ZoneNotAllowed": Meaning(InvalidConfig, Scope.ZONE),
    "InvalidParameter": _REGIONAL,
    "PropertyChangeNotAllowed": Meaning(InvalidConfig, Scope.OFFER, "the VM's name is taken"),
    "ResourceNotFound": Meaning(InstanceNotFound, Scope.OFFER),
    "NotFound": Meaning(InstanceNotFound, Scope.OFFER),
    "AnotherOperationInProgress": _BUSY,
    "Conflict": _BUSY,
    "RetryableError": _BUSY,
    "NicReservedForAnotherVm": _BUSY,
}
NOT_ALLOWED = "OperationNotAllowed"
"""Azure's word for quota, for a spot price above the limit, and for much else; only its message tells."""
EXISTS_CODES = frozenset({"PreconditionFailed", "ConditionNotMet", "ResourceExists"})
UNAVAILABLE_CODES = frozenset(
    {"InternalServerError", "InternalOperationError", "ServiceUnavailable", "ServerTimeout", "GatewayTimeout"}
)
_NEVER_CONNECTED = (NewConnectionError, ConnectTimeoutError, ssl.SSLCertVerificationError)
MAX_CAUSES = 12


@dataclass(frozen=True)
class Told:
    """An error as Azure words it: its code and message, the inner ones in brackets."""

    code: str
    words: str


@contextmanager
def errors_told(action: str, region: str, *, creates: bool = False) -> Iterator[None]:
    """Let nothing but `ProviderError` out. `creates`: a lost answer may have made something all the same."""
    try:
        yield
    except ProviderError:
        raise
    except Exception as error:
        raise translate(error, action, region, creates=creates) from error


def translate(error: Exception, action: str, region: str, *, creates: bool = False) -> ProviderError:
    """The port's error for what `action` (such as ``Microsoft.Compute/virtualMachines/write``) raised in `region`."""
    where = f"{action} in {region}"
    if isinstance(error, raised.HttpResponseError) and _is_arm(error):
        return _of_answer(error, action, where, creates=creates)
    detail = _short(f"{where}: {error}")
    if isinstance(error, raised.ClientAuthenticationError):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    if _was_never_sent(error):
        return Unavailable(
            detail, scope=Scope.REGION, hint="see that this machine reaches Azure and resolves its names"
        )
    if isinstance(error, (raised.AzureError, OSError)):
        return Unavailable(detail, scope=Scope.REGION, maybe_created=creates)
    return Unavailable(
        _short(f"{where}: unexpected answer ({type(error).__name__}: {error})"),
        scope=Scope.REGION,
        maybe_created=creates,
    )


def _was_never_sent(error: Exception) -> bool:
    """Whether no connection was made. The SDK counts among those a connection that broke while it was used."""
    if not isinstance(error, raised.ServiceRequestError):
        return False
    if error.inner_exception is None:
        return True
    waiting: list[object] = [error.inner_exception]
    for _ in range(MAX_CAUSES):
        if not waiting:
            return False
        one = waiting.pop()
        if isinstance(one, _NEVER_CONNECTED):
            return True
        if isinstance(one, BaseException):
            waiting += [one.__cause__, getattr(one, "reason", None), *one.args[:1]]
    return False


def of_operation(told: Told, action: str, region: str) -> ProviderError:
    """The port's error for an operation that Azure accepted and that failed later."""
    meaning = _meaning(told)
    detail = _short(f"{action} in {region}: {told.code}: {told.words}")
    if meaning is None or meaning.kind is InstanceNotFound:
        return Unavailable(detail, scope=Scope.OFFER)
    return meaning.kind(detail, scope=meaning.scope, hint=meaning.hint)


def told_by(body: object) -> Told:
    """What an error body says, by the innermost code that we know; empty for a body that is none."""
    chain = list(_nested(body))
    if not chain:
        return Told("", "")
    known = [one for one in chain if one.code in BY_CODE or one.code == NOT_ALLOWED]
    code = known[-1].code if known else chain[0].code
    return Told(code, " / ".join(dict.fromkeys(one.words for one in chain if one.words)))


def exists_already(error: ProviderError) -> bool:
    """Whether a create was refused because the name is taken."""
    cause = error.__cause__
    if not isinstance(cause, raised.HttpResponseError):
        return False
    return cause.status_code == 412 or code_of(error) in EXISTS_CODES


def code_of(error: ProviderError) -> str:
    """Azure's own code in what caused `error`, '' if there is none."""
    cause = error.__cause__
    return _told(cause).code if isinstance(cause, raised.HttpResponseError) else ""


def _nested(body: object, depth: int = 0) -> Iterator[Told]:
    if not isinstance(body, Mapping) or depth > MAX_NESTING:
        return
    inner = body.get("error")
    if isinstance(inner, Mapping):
        yield from _nested(inner, depth + 1)
        return
    if isinstance(body.get("code"), str):
        yield Told(body["code"], str(body.get("message") or ""))
    details = body.get("details")
    for one in details if isinstance(details, list) else ():
        yield from _nested(one, depth + 1)


def _told(error: raised.HttpResponseError) -> Told:
    try:
        return told_by(json.loads(error.response.text())) if error.response is not None else Told("", "")
    except (ValueError, AttributeError):
        return Told("", "")


def _is_arm(error: raised.HttpResponseError) -> bool:
    """Not an answer of the sign-in service, which fails in its own ways inside a call."""
    if not isinstance(error, raised.ClientAuthenticationError):
        return error.status_code is not None
    return bool(_told(error).code)


def _of_answer(error: raised.HttpResponseError, action: str, where: str, *, creates: bool) -> ProviderError:
    status, told = int(error.status_code or 0), _told(error)
    detail = _short(f"{where}: {told.code or f'HTTP {status}'}: {told.words or error.reason or ''}")
    if status == 429:
        return Throttled(detail, scope=Scope.REGION, retry_after_seconds=retry_after_seconds(error.response))
    meaning = _meaning(told)
    if creates and (status == 404 if meaning is None else meaning.kind is InstanceNotFound):
        return InvalidConfig(detail, scope=Scope.REGION, hint=_NAMED)
    if meaning is not None:
        hint = meaning.hint if meaning is not _FORBIDDEN else f"allow {action} to the daemon's identity"
        # Something else that is being done to it may be the making of it, by a call whose reply was lost.
        busy = meaning.kind is Unavailable
        return meaning.kind(detail, scope=meaning.scope, hint=hint, maybe_created=creates and busy)
    return _by_status(status, told, detail, creates=creates)


def _by_status(status: int, told: Told, detail: str, *, creates: bool) -> ProviderError:
    """For a code that we don't know."""
    if status in (401, 403):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    if status == 404:
        return InstanceNotFound(detail)
    if status == 412 or told.code in EXISTS_CODES:
        # Not to be tried again: another look, not another attempt, tells whose it is.
        return InvalidConfig(detail, scope=Scope.OFFER, hint="the VM's name is taken")
    if status == 409:
        return Unavailable(detail, scope=Scope.OFFER, maybe_created=creates)
    if told.code in UNAVAILABLE_CODES or status >= 500 or status < 400 or status == 408:
        return Unavailable(detail, scope=Scope.REGION, maybe_created=creates)
    return InvalidConfig(detail, scope=Scope.REGION)


def _meaning(told: Told) -> Meaning | None:
    words = told.words.lower()
    if told.code == NOT_ALLOWED:
        return _not_allowed(words)
    if told.code in ("InvalidParameter", "BadRequest") and ("vm size" in words or "vmsize" in words):
        return _SIZE
    if told.code in ("InvalidParameter", "BadRequest") and "zone" in words:
        return Meaning(InvalidConfig, Scope.ZONE)
    return BY_CODE.get(told.code)


def _not_allowed(words: str) -> Meaning:
    if "price" in words:
        return Meaning(InsufficientCapacity, Scope.OFFER, "the spot price is above the launch's limit")
    if re.search(r"quota|core|limit", words):
        return _QUOTA
    return Meaning(InvalidConfig, Scope.OFFER)


def retry_after_seconds(response: Any) -> float | None:
    """How long Azure asks to wait, None if it doesn't say."""
    headers = getattr(response, "headers", None) or {}
    for name, per_second in (
        ("Retry-After", 1.0),
        ("retry-after-ms", 1000.0),
        ("x-ms-retry-after-ms", 1000.0),
    ):
        try:
            seconds = float(headers[name]) / per_second
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, MAX_RETRY_AFTER_SECONDS)
    return None


def _short(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}..."

"""From what AWS and botocore say to the port's errors, with how far each reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as raised

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

TOKEN_REUSED = "IdempotentParameterMismatch"  # noqa: S105  # an error's code
MAX_DETAIL_CHARACTERS = 600


@dataclass(frozen=True)
class Meaning:
    """What one error code of AWS is to us."""

    kind: type[ProviderError]
    scope: Scope
    hint: str = ""


_QUOTA = "ask for a higher limit in the Service Quotas console, or lower the pool's instances"
_SIGN_IN = "renew the credentials the daemon uses (aws sts get-caller-identity shows them)"
_CLOCK = "set this machine's clock (NTP): AWS refuses signatures from another time"
_PERMIT = "allow the action to the daemon's user or role"
_CAPACITY = Meaning(InsufficientCapacity, Scope.OFFER)
_REGION_QUOTA = Meaning(QuotaExceeded, Scope.REGION, _QUOTA)
_THROTTLED = Meaning(Throttled, Scope.REGION)
_CREDENTIALS = Meaning(AuthFailed, Scope.PROVIDER, _SIGN_IN)
_SKEWED = Meaning(AuthFailed, Scope.PROVIDER, _CLOCK)
_FORBIDDEN = Meaning(AuthFailed, Scope.PROVIDER, _PERMIT)
_UNSOLD = Meaning(InvalidConfig, Scope.OFFER, "this type is not sold that way in this zone")
_REGIONAL = Meaning(InvalidConfig, Scope.REGION)

BY_CODE: dict[str, Meaning] = {
    "InsufficientInstanceCapacity": _CAPACITY,
    "InsufficientCapacity": _CAPACITY,
    "InsufficientHostCapacity": _CAPACITY,
    "InsufficientReservedInstanceCapacity": _CAPACITY,
    "UnfulfillableCapacity": _CAPACITY,
    "SpotMaxPriceTooLow": Meaning(
        InsufficientCapacity, Scope.OFFER, "the spot price is above the launch's limit"
    ),
    "InsufficientFreeAddressesInSubnet": Meaning(
        InsufficientCapacity, Scope.ZONE, "the subnet has no free addresses: add a larger one in this zone"
    ),
    "MaxSpotInstanceCountExceeded": _REGION_QUOTA,
    "MaxSpotFleetRequestCountExceeded": _REGION_QUOTA,
    "SpotInstanceCountExceeded": _REGION_QUOTA,
    "VcpuLimitExceeded": _REGION_QUOTA,
    "InstanceLimitExceeded": _REGION_QUOTA,
    "VolumeLimitExceeded": _REGION_QUOTA,
    "NetworkInterfaceLimitExceeded": _REGION_QUOTA,
    "RequestLimitExceeded": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "SlowDown": _THROTTLED,
    "EC2ThrottledException": _THROTTLED,
    "AuthFailure": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "IncompleteSignature": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "RequestExpired": _SKEWED,
    "RequestTimeTooSkewed": _SKEWED,
    "RequestInTheFuture": _SKEWED,
    "UnauthorizedOperation": _FORBIDDEN,
    "AccessDenied": _FORBIDDEN,
    "AccessDeniedException": _FORBIDDEN,
    "Blocked": Meaning(AuthFailed, Scope.PROVIDER, "the account is blocked: write to AWS support"),
    "OptInRequired": Meaning(AuthFailed, Scope.REGION, "enable this region for the account"),
    "PendingVerification": Meaning(
        AuthFailed, Scope.REGION, "AWS is still verifying the account for this region"
    ),
    "Unsupported": _UNSOLD,
    "UnsupportedOperation": _UNSOLD,
    "InvalidInstanceType": Meaning(InvalidConfig, Scope.INSTANCE_TYPE, "AWS knows no such instance type"),
    "InvalidInstanceID.NotFound": Meaning(InstanceNotFound, Scope.OFFER),
    "InvalidInstanceID.Malformed": Meaning(InstanceNotFound, Scope.OFFER),
    "InvalidGroup.NotFound": Meaning(InvalidConfig, Scope.REGION, "correct security_groups of this provider"),
    "InvalidSecurityGroupID.NotFound": Meaning(
        InvalidConfig, Scope.REGION, "correct security_groups of this provider"
    ),
    "InvalidKeyPair.NotFound": Meaning(InvalidConfig, Scope.REGION, "correct key_name of this provider"),
    "ParameterNotFound": Meaning(
        InvalidConfig, Scope.REGION, "correct image.ssm: no such parameter in this region"
    ),
    "VPCIdNotSpecified": Meaning(
        InvalidConfig, Scope.REGION, "this region has no default network: write subnets"
    ),
    "MissingInput": Meaning(InvalidConfig, Scope.ZONE, "this zone has no default subnet: write subnets"),
    "DefaultVpcDoesNotExist": Meaning(
        InvalidConfig, Scope.REGION, "this region has no default network: write subnets"
    ),
    TOKEN_REUSED: Meaning(InvalidConfig, Scope.OFFER, "the launch token was used with other parameters"),
}
BY_PREFIX: tuple[tuple[str, Meaning], ...] = (
    (
        "InvalidAMIID",
        Meaning(InvalidConfig, Scope.REGION, "correct image of this provider: no such AMI in this region"),
    ),
    ("InvalidSubnet", Meaning(InvalidConfig, Scope.ZONE, "correct subnets of this provider")),
    ("InvalidParameter", _REGIONAL),
    ("Invalid", _REGIONAL),
    ("Missing", _REGIONAL),
    ("UnknownParameter", _REGIONAL),
)
UNAVAILABLE_CODES = frozenset(
    {"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout"}
)
_SIGNING = (
    raised.NoCredentialsError,
    raised.PartialCredentialsError,
    raised.CredentialRetrievalError,
    raised.TokenRetrievalError,
    raised.NoAuthTokenError,
    raised.SSOError,
    raised.ProfileNotFound,
    raised.ConfigNotFound,
    raised.ConfigParseError,
)
_NEVER_SENT = (
    raised.EndpointConnectionError,
    raised.ConnectTimeoutError,
    raised.ProxyConnectionError,
    raised.SSLError,
)
_WRONG_CALL = (
    raised.ParamValidationError,
    raised.InvalidRegionError,
    raised.NoRegionError,
    raised.UnknownEndpointError,
)


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
    """The port's error for what `action` (such as ``ec2:RunInstances``) raised in `region`."""
    where = f"{action} in {region}"
    if isinstance(error, raised.ClientError):
        return _of_answer(error, action, where, creates=creates)
    detail = _short(f"{where}: {error}")
    if isinstance(error, _SIGNING):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    if isinstance(error, _WRONG_CALL):
        return InvalidConfig(detail, scope=Scope.REGION)
    if isinstance(error, _NEVER_SENT):
        return Unavailable(
            detail, scope=Scope.REGION, hint="see that this machine reaches AWS and resolves its names"
        )
    if isinstance(error, (raised.BotoCoreError, OSError)):
        return Unavailable(detail, scope=Scope.REGION, maybe_created=creates)
    return Unavailable(
        _short(f"{where}: unexpected answer ({type(error).__name__}: {error})"),
        scope=Scope.REGION,
        maybe_created=creates,
    )


def code_of(error: BaseException | None) -> str:
    """AWS's own code in `error` or what caused it, '' if there is none."""
    while error is not None:
        if isinstance(error, raised.ClientError):
            return str(error.response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""


def _of_answer(error: raised.ClientError, action: str, where: str, *, creates: bool) -> ProviderError:
    answer = error.response.get("Error", {})
    code, words = str(answer.get("Code", "")), str(answer.get("Message", ""))
    detail = _short(f"{where}: {code}: {words}")
    meaning = _meaning(code.removeprefix("Server.").removeprefix("Client."), words)
    if meaning is not None:
        hint = meaning.hint if meaning is not _FORBIDDEN else f"allow {action} to the daemon's user or role"
        return meaning.kind(
            detail, scope=meaning.scope, hint=hint, maybe_created=creates and code == TOKEN_REUSED
        )
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) or 0)
    if status == 429:
        return Throttled(detail, scope=Scope.REGION)
    if code in UNAVAILABLE_CODES or status >= 500 or status < 400:
        return Unavailable(detail, scope=Scope.REGION, maybe_created=creates)
    if status in (401, 403):
        return AuthFailed(detail, scope=Scope.PROVIDER, hint=_SIGN_IN)
    return InvalidConfig(detail, scope=Scope.REGION)


def _meaning(code: str, words: str) -> Meaning | None:
    if code in BY_CODE:
        return BY_CODE[code]
    if code.startswith("InvalidParameter") and "instancetype" in words.replace(" ", "").lower():
        return Meaning(InvalidConfig, Scope.INSTANCE_TYPE)
    return next((meaning for prefix, meaning in BY_PREFIX if code.startswith(prefix)), None)


def _short(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}..."

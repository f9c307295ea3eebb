"""Azure's attested document: signed by a certificate of metadata.azure.com, with our nonce and the machine's vmId."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import certifi
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from . import pkcs7
from .refusal import Code, Expected, IdentityRefused, wrong

SIGNERS: Final = ("metadata.azure.com", "metadata.azure.us", "metadata.azure.cn")
"""Who signs in the public cloud, the US government's and China's."""
CLOCK_SKEW_SECONDS: Final = 300.0


def verify(
    expected: Expected,
    identity: Mapping[str, str],
    *,
    subscription: str,
    nonce: str,
    trust: Sequence[x509.Certificate],
    now: float,
) -> None:
    """Raise IdentityRefused unless Azure signed that this is the expected VM. `expected.identity` is its vmId."""
    message = pkcs7.read(_signature(identity.get("document", "")))
    _check_signer(message, trust, now)
    document = _object(message.content, "attested document")
    if str(document.get("nonce", "")) != nonce:
        raise IdentityRefused(Code.REPLAYED, "the attested document was made for another join")
    _check_times(document.get("timeStamp"), now)
    if str(document.get("vmId", "")).lower() != str(expected.identity).lower():
        raise wrong("vmId", document.get("vmId"), expected.identity)
    if str(document.get("subscriptionId", "")).lower() != subscription.lower():
        raise wrong("subscription", document.get("subscriptionId"), subscription)


def _signature(answer: str) -> str:
    """The metadata service's own answer: {"encoding": "pkcs7", "signature": "..."}."""
    if len(answer) > pkcs7.MESSAGE_CHARACTERS_MAX:
        raise IdentityRefused(Code.MALFORMED, f"it is over {pkcs7.MESSAGE_CHARACTERS_MAX} characters")
    told = _object(answer.encode(), "metadata service's answer")
    if told.get("encoding") != "pkcs7" or not isinstance(told.get("signature"), str):
        raise IdentityRefused(Code.MALFORMED, "the metadata service's answer holds no pkcs7 signature")
    return str(told["signature"])


def _check_signer(message: pkcs7.SignedMessage, trust: Sequence[x509.Certificate], now: float) -> None:
    signer = message.signer
    if signer is None:
        raise IdentityRefused(Code.MALFORMED, "the certificate of the signature did not come with it")
    if not message.is_signed_by(signer):
        raise IdentityRefused(Code.FORGED, "the signature was not made by its certificate")
    builder = PolicyBuilder().store(_store(tuple(trust))).time(datetime.fromtimestamp(now, UTC))
    failure = ""
    for name in SIGNERS:
        try:
            builder.build_server_verifier(x509.DNSName(name)).verify(signer, list(message.others))
            return
        except VerificationError as error:
            failure = failure or str(error)
    if trust:
        raise IdentityRefused(
            Code.FORGED, f"no authority under identity_trust vouches for its signer: {failure}"
        )
    raise IdentityRefused(
        Code.UNVERIFIABLE,
        f"no certificate authority that we know vouches for its signer: {failure}",
        hint="Azure leaves out the certificate between its signer and the root: save the current 'Azure Certificate "
        "Authority details' (PEM) and name the file under identity_trust of the provider",
    )


@lru_cache(maxsize=8)
def _store(trust: tuple[x509.Certificate, ...]) -> Store:
    """Exactly these authorities; without any, those that browsers trust."""
    return Store(list(trust) or x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes()))


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise IdentityRefused(Code.MALFORMED, f"the {what} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise IdentityRefused(Code.MALFORMED, f"the {what} is not a JSON object")
    return found


def _check_times(told: object, now: float) -> None:
    try:
        created, expires = (_epoch(told, name) for name in ("createdOn", "expiresOn"))
    except (TypeError, ValueError, KeyError) as error:
        raise IdentityRefused(Code.MALFORMED, f"the attested document's times are none: {error}") from error
    if not now < expires + CLOCK_SKEW_SECONDS:
        raise IdentityRefused(Code.EXPIRED, f"the attested document expired {now - expires:.0f} s ago")
    if not created <= now + CLOCK_SKEW_SECONDS:
        raise IdentityRefused(Code.EXPIRED, f"the attested document is from {created - now:.0f} s ahead")


def _epoch(told: Any, name: str) -> float:
    return datetime.strptime(told[name], "%m/%d/%y %H:%M:%S %z").timestamp()

"""EC2's instance identity document with its RSA-2048 signature, against AWS's public certificate of the region."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from . import pkcs7
from .refusal import Code, Expected, IdentityRefused, wrong

PINNED: Final = Path(__file__).with_name("aws_certificates.json")
"""AWS's certificates by region, and where they were read."""
CLOCK_SKEW_SECONDS: Final = 300.0


def verify(
    expected: Expected, identity: Mapping[str, str], trust: Sequence[x509.Certificate], now: float
) -> None:
    """Raise IdentityRefused unless AWS signed that this is the expected instance. `expected.ref` is known.

    The document bears no nonce: it is good for its one instance, and that instance's join token only once.
    """
    message = pkcs7.read(identity.get("signature", ""))
    document = _document(message.content)
    region = str(document.get("region", ""))
    certificates = trust or pinned(region)
    if not any(message.is_signed_by(one) for one in certificates):
        raise IdentityRefused(
            Code.FORGED, f"AWS's certificate of {region} did not sign this identity document"
        )
    asked_region, _, instance_id = str(expected.ref).partition("/")
    if region != asked_region:
        raise wrong("region", region, asked_region)
    if document.get("instanceId") != instance_id:
        raise wrong("instance", document.get("instanceId"), instance_id)
    if expected.identity and document.get("accountId") != expected.identity:
        raise wrong("account", document.get("accountId"), expected.identity)
    _check_age(document, expected, now)


def pinned(region: str) -> Sequence[x509.Certificate]:
    """AWS's certificate of a region. Raises IdentityRefused (UNVERIFIABLE) for a region newer than this release."""
    found = _pinned().get(region)
    if found is None:
        raise IdentityRefused(
            Code.UNVERIFIABLE,
            f"no certificate of AWS is known for region {region[:64]!r}",
            hint="save the region's RSA-2048 certificate from AWS's documentation ('AWS public certificates') and "
            "name the file under identity_trust of the provider, or set identity: if_present",
        )
    return [found]


@lru_cache(maxsize=1)
def _pinned() -> Mapping[str, x509.Certificate]:
    listed = json.loads(PINNED.read_text("utf-8"))["certificates"]
    return {region: x509.load_pem_x509_certificate(pem.encode()) for region, pem in listed.items()}


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise IdentityRefused(Code.MALFORMED, f"the identity document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise IdentityRefused(Code.MALFORMED, "the identity document is not a JSON object")
    return document


def _check_age(document: Mapping[str, Any], expected: Expected, now: float) -> None:
    try:
        started = datetime.strptime(str(document.get("pendingTime")), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError as error:
        raise IdentityRefused(Code.MALFORMED, f"its pendingTime is no time: {error}") from error
    if started > now + CLOCK_SKEW_SECONDS:
        raise IdentityRefused(
            Code.EXPIRED, f"its instance starts {started - now:.0f} s from now; check the clock"
        )
    if expected.since is not None and started < expected.since - CLOCK_SKEW_SECONDS:
        early = expected.since - started
        raise IdentityRefused(Code.EXPIRED, f"its instance was started {early:.0f} s before we asked for one")

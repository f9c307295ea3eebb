"""Whether a machine has proved who it is, by the rules of its provider's section."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import jwt
from cryptography import x509

from ....agent_bootstrap import challenge
from ....config.aws import AwsProvider
from ....config.azure import AzureProvider
from ....config.gcp import GcpProvider
from ....config.identity import WithIdentity
from . import aws, azure, gcp
from .keys import GOOGLE_KEYS_URL, Fetch, Keys, fetch_over_http, read_keys
from .refusal import Code, Expected, IdentityRefused

_CAN_BE_MISSING: Final = frozenset({Code.MISSING, Code.UNVERIFIABLE})
"""What `if_present` lets pass: whoever forges could as well send nothing."""


class IdentityGate:
    """`url` is what machines were told to dial; `fetch` brings Google's keys. Thread-safe; may block on `fetch`."""

    def __init__(
        self,
        url: str,
        *,
        fetch: Fetch = fetch_over_http,
        monotonic: Callable[[], float] = time.monotonic,
        google_keys_url: str = GOOGLE_KEYS_URL,
    ) -> None:
        self._url = url
        self._google = Keys(google_keys_url, fetch, monotonic)

    def check(
        self, expected: Expected, section: object, identity: Mapping[str, str], join_token: str, now: float
    ) -> bool:
        """True: proved. False: this provider asks for no proof, or can't have one. Raises IdentityRefused."""
        if not isinstance(section, WithIdentity) or section.identity_rule == "off":
            return False
        try:
            self._verify(expected, section, identity, join_token, now)
        except IdentityRefused as refused:
            if section.identity_rule == "required" or refused.code not in _CAN_BE_MISSING:
                raise
            return False
        return True

    def _verify(
        self,
        expected: Expected,
        section: WithIdentity,
        identity: Mapping[str, str],
        join_token: str,
        now: float,
    ) -> None:
        kind = str(getattr(section, "type", ""))
        if identity.get("kind") != kind:
            raise IdentityRefused(
                Code.MISSING,
                f"no signed identity of {kind} came with the join",
                hint="the machine's metadata service gave none; on Google Cloud the instance needs a service account",
            )
        if expected.ref is None or (isinstance(section, AzureProvider) and not expected.identity):
            raise IdentityRefused(
                Code.NOT_KNOWN_YET, f"the launch of {expected.instance_id} is not confirmed yet", retry=True
            )
        match section:
            case AwsProvider():
                aws.verify(expected, identity, _certificates(section.identity_trust), now)
            case GcpProvider():
                gcp.verify(
                    expected,
                    identity,
                    project=section.project,
                    audience=challenge.audience(self._url, join_token),
                    key_of=self._key_of(section.identity_trust),
                    now=now,
                )
            case AzureProvider():
                azure.verify(
                    expected,
                    identity,
                    subscription=section.subscription,
                    nonce=challenge.digits(join_token),
                    trust=_certificates(section.identity_trust),
                    now=now,
                )

    def _key_of(self, file: Path | None) -> gcp.KeyOf:
        if file is None:
            return self._google.get
        try:
            keys = read_keys(file.read_bytes())
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise _unreadable(file, error) from error
        return keys.get


def _certificates(file: Path | None) -> tuple[x509.Certificate, ...]:
    if file is None:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> IdentityRefused:
    return IdentityRefused(
        Code.UNVERIFIABLE,
        "the server can't read what it checks identities with",
        hint=f"identity_trust: {file}: {error}",
        retry=True,
    )

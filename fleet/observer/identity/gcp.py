"""Compute Engine's identity token: a JWT signed by Google, made out to this server and this join."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt

from .refusal import Code, Expected, IdentityRefused, wrong

ISSUERS: Final = ("https://accounts.google.com", "accounts.google.com")
ALGORITHMS: Final = ("RS256",)
CLOCK_SKEW_SECONDS: Final = 300.0
TOKEN_CHARACTERS_MAX: Final = 16 * 1024
_NEEDED: Final = ("aud", "iss", "exp", "iat")

KeyOf = Callable[[str], jwt.PyJWK | None]


def verify(
    expected: Expected, identity: Mapping[str, str], *, project: str, audience: str, key_of: KeyOf, now: float
) -> None:
    """Raise IdentityRefused unless Google signed that this is the expected instance. `expected.ref` is known."""
    claims = _claims(identity.get("document", "").strip(), audience, key_of)
    _check_times(claims, now)
    machine = (
        (claims.get("google") or {}).get("compute_engine") if isinstance(claims.get("google"), dict) else None
    )
    if not isinstance(machine, dict):
        raise IdentityRefused(Code.MALFORMED, "the token does not say which machine it is of (format=full)")
    zone, _, name = str(expected.ref).partition("/")
    asked = {"project_id": project, "zone": zone, "instance_name": name}
    if expected.identity:
        asked["instance_id"] = expected.identity
    for claim, value in asked.items():
        if str(machine.get(claim, "")) != value:
            raise wrong(claim, machine.get(claim), value)


def _claims(token: str, audience: str, key_of: KeyOf) -> dict[str, Any]:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise IdentityRefused(Code.MALFORMED, f"the token is over {TOKEN_CHARACTERS_MAX} characters")
    try:
        key_id = str(jwt.get_unverified_header(token).get("kid", ""))
        key = key_of(key_id)
        if key is None:
            raise IdentityRefused(Code.FORGED, f"Google has no key {key_id[:64]!r}")
        # The times are judged by our clock, which is handed in.
        options: Any = {
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "require": list(_NEEDED),
        }
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=list(ALGORITHMS), audience=audience, issuer=list(ISSUERS), options=options
        )
    except jwt.InvalidAudienceError as error:
        raise IdentityRefused(
            Code.REPLAYED, "the token was made for another server or another join"
        ) from error
    except (jwt.InvalidSignatureError, jwt.InvalidIssuerError, jwt.InvalidAlgorithmError) as error:
        raise IdentityRefused(Code.FORGED, f"Google did not sign this token: {error}") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise IdentityRefused(Code.MALFORMED, f"the token can't be read: {error}") from error
    return claims


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    try:
        issued, expires = float(claims["iat"]), float(claims["exp"])
    except (TypeError, ValueError) as error:
        raise IdentityRefused(Code.MALFORMED, f"the token's times are none: {error}") from error
    if not now < expires + CLOCK_SKEW_SECONDS:
        raise IdentityRefused(Code.EXPIRED, f"the token expired {now - expires:.0f} s ago")
    if not issued <= now + CLOCK_SKEW_SECONDS:
        raise IdentityRefused(Code.EXPIRED, f"the token is from {issued - now:.0f} s ahead; check the clock")

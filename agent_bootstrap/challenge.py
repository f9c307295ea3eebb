"""What makes a machine's signed identity good for one join only: made from the join token, by both sides alike.

Nobody without the token can tell it beforehand, and it costs no round trip. It gives nothing of the token away.
"""

from __future__ import annotations

import hashlib
import hmac

NONCE_CHARACTERS = 32
DIGITS = 10
"""Azure takes a nonce of at most ten digits."""
_PURPOSE = b"hostler signed identity"


def nonce(join_token: str) -> str:
    """128 bits in hex."""
    digest = hmac.new(join_token.strip().encode(), _PURPOSE, hashlib.sha256).hexdigest()
    return digest[:NONCE_CHARACTERS]


def audience(url: str, join_token: str) -> str:
    """Whom a Google identity token is made out to: this server, and this join."""
    return f"{url.rstrip('/')}/join/{nonce(join_token)}"


def digits(join_token: str) -> str:
    """The nonce as Azure's attested document can carry it."""
    return str(int(nonce(join_token), 16) % 10**DIGITS).zfill(DIGITS)

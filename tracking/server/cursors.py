"""Opaque cursors: where a page ended, as text that a client hands back as it is."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from .problems import Problem

CURSOR_CHARS_MAX = 1024


def encode(position: dict[str, Any]) -> str:
    """A position (small JSON values) as URL-safe text."""
    data = json.dumps(position, separators=(",", ":"), sort_keys=True).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(cursor: str | None) -> dict[str, Any]:
    """The position in a cursor; {} for none. Raises Problem 400 `BAD_CURSOR`."""
    if not cursor:
        return {}
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise ValueError("too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _bad() from error
    if not isinstance(position, dict):
        raise _bad()
    return position


def integer(cursor: str | None, key: str) -> int | None:
    """An integer out of a cursor; None where there is no cursor. Raises Problem 400 `BAD_CURSOR`."""
    position = decode(cursor)
    if not position:
        return None
    value = position.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise _bad()
    return value


def _bad() -> Problem:
    return Problem(
        400,
        "BAD_CURSOR",
        "the cursor was not made by this server",
        hint="start again without a cursor, and hand `next_cursor` back unchanged",
    )

"""What a launch asks of the local provider: its tokens and what a retry must repeat."""

from __future__ import annotations

import hashlib
import json
import re

from ..base import InvalidConfig, LaunchRequest

TOKEN = re.compile(r"[a-z][a-z0-9-]{0,63}")


def tokens_of(request: LaunchRequest) -> tuple[str, ...]:
    """A token for each instance; InvalidConfig if the request's can't be a folder's name or nothing is asked for."""
    if not TOKEN.fullmatch(request.token):
        raise InvalidConfig(
            f"token {request.token!r} is not 1 to 64 characters of [a-z0-9-] that begin with a letter"
        )
    if request.count < 1:
        raise InvalidConfig(f"count {request.count}: a launch asks for at least one instance")
    if request.count == 1:
        return (request.token,)
    return tuple(f"{request.token}.{index}" for index in range(request.count))


def digest(request: LaunchRequest) -> str:
    """SHA-256 over all that must be the same when a token is used again."""
    asked = {
        "type": request.offer.instance_type,
        "market": request.offer.market.value,
        "user_data": request.user_data,
        "tags": dict(request.tags),
        "disk_bytes": request.disk_bytes,
        "count": request.count,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

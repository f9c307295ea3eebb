"""The server's own key and the join tokens made from it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from .failures import StartError
from .private_file import write_private

KEY_BYTES = 32
_PREFIX = "hj_"


def server_key(path: Path) -> bytes:
    """The key of this state folder, made at the first start. Raises StartError when the file is damaged."""
    if not path.exists():
        write_private(path, secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StartError(
            f"{path} holds {len(key)} bytes and not a {KEY_BYTES}-byte key; put the right file back, or delete it: "
            "instances that have not joined yet can't join then and will be replaced"
        )
    return key


def join_token(key: bytes, instance_id: str) -> str:
    """The join token of one launch intent: 256 bits, the same at every call.

    Made and not drawn, so that a launch tried again sends byte-identical user-data and nothing secret is stored.
    """
    digest = hmac.new(key, b"join:" + instance_id.encode(), hashlib.sha256).digest()
    return _PREFIX + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

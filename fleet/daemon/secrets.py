"""The server's own key and the join tokens made from it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from .failures import StartError
from .private_file import write_private

KEY_BYTES = 32
KEY_VARIABLE = "HOSTLER_SERVER_KEY"
KEY_FILE_VARIABLE = "HOSTLER_SERVER_KEY_FILE"
_PREFIX = "hj_"


def server_key(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[bytes, bool]:
    """The server's key, and whether it was made just now: from the environment, else the file, else drawn.

    HOSTLER_SERVER_KEY is its 64 hexadecimal digits; HOSTLER_SERVER_KEY_FILE names a file of its 32 bytes, for daemons
    that share one database. Raises StartError when it is damaged.
    """
    if given := environ.get(KEY_VARIABLE, "").strip():
        return _of_digits(given), False
    if named := environ.get(KEY_FILE_VARIABLE):
        path = Path(named).expanduser()
        if not path.exists():
            raise StartError(f"there is no file {path}, which {KEY_FILE_VARIABLE} names")
    is_new = not path.exists()
    if is_new:
        write_private(path, secrets.token_bytes(KEY_BYTES))
    return _of_file(path), is_new


def _of_digits(given: str) -> bytes:
    try:
        key = bytes.fromhex(given)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise StartError(
            f"{KEY_VARIABLE} is not {KEY_BYTES * 2} hexadecimal digits; make one with: openssl rand -hex {KEY_BYTES}"
        )
    return key


def _of_file(path: Path) -> bytes:
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

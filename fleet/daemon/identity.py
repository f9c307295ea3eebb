"""Who this server is to its clouds: the value of the tag on everything it launches."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from sqlalchemy import Connection, select

from ...tracking.server.access import DEFAULT_WORKSPACE
from ...tracking.server.database.schema import server
from ..store import frozen
from .failures import StartError

ID_KEY: Final = "id"
LOST_DATABASE: Final = (
    "this database is new but the server's key is not: "
    "launches wait until every provider's instances were taken in"
)
OTHER_KEY: Final = (
    "this daemon's server key is not that of the other daemons on this database: copy server.key from their state "
    "folder into this one's, or give all of them the same HOSTLER_SERVER_KEY"
)


def id_of_key(key: bytes) -> str:
    """Made from the key and not drawn, so that a server that lost its database still knows its instances."""
    digest = hashlib.sha256(b"server:" + key).digest()
    return "s-" + base64.b32encode(digest).decode().lower()[:12]


def server_id(conn: Connection, key: bytes, *, key_is_new: bool, now: float, shared: bool = False) -> str:
    """The id in the database, written there at the first start.

    A new database beside an old key has lost its past: it launches nothing until it has seen what runs. Daemons that
    share one database (`shared`) must share the key: raises StartError, as one would refuse who joins by the other.
    """
    known = conn.execute(select(server.c.value).where(server.c.key == ID_KEY)).scalar()
    made = id_of_key(key)
    if known is not None:
        if shared and known != made:
            raise StartError(OTHER_KEY)
        return str(known)
    frozen.put(conn, ID_KEY, made)
    if not key_is_new:
        frozen.freeze(conn, DEFAULT_WORKSPACE, LOST_DATABASE, now)
    return made

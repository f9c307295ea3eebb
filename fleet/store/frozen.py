"""The launch freeze, and which clouds this database has been compared with.

A database that starts empty, or comes out of an old backup, knows less than the clouds do. Until a provider's
own listing has been taken in, its instances that we don't know are imported and not taken for strays.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ...tracking.server import events
from ...tracking.server.database import Prepared
from ...tracking.server.database.schema import server
from .instances import ACTOR

FROZEN_KEY: Final = "frozen"
COMPARED_PREFIX: Final = "compared:"
_VALUE: Final = Prepared(select(server.c.value).where(server.c.key == bindparam("b_key")))
_COMPARED: Final = Prepared(
    select(server.c.key).where(server.c.key.startswith(COMPARED_PREFIX, autoescape=True))
)


def reason(conn: Connection) -> str:
    """Why nothing may be launched now; empty = free to launch."""
    row = _VALUE.first(conn, {"b_key": FROZEN_KEY})
    return "" if row is None else str(row.value)


def freeze(conn: Connection, workspace: str, why: str, now: float, *, actor: str = ACTOR) -> None:
    """Launch nothing until every configured provider's instances have been compared with this database again."""
    put(conn, FROZEN_KEY, why)
    conn.execute(delete(server).where(server.c.key.startswith(COMPARED_PREFIX, autoescape=True)))
    events.emit(conn, workspace=workspace, kind="fleet.frozen", now=now, actor=actor, message=why)


def thaw(conn: Connection, workspace: str, now: float, *, actor: str = ACTOR) -> bool:
    """Launch again. False if nothing was frozen."""
    if conn.execute(delete(server).where(server.c.key == FROZEN_KEY)).rowcount == 0:
        return False
    message = "every provider's instances are in the database: launches go on"
    events.emit(conn, workspace=workspace, kind="fleet.thawed", now=now, actor=actor, message=message)
    return True


def compared(conn: Connection) -> frozenset[str]:
    """Providers whose listing this database has taken in at least once."""
    return frozenset(row.key.removeprefix(COMPARED_PREFIX) for row in _COMPARED.all(conn, {}))


def mark_compared(conn: Connection, provider: str, now: float) -> None:
    """From now on an instance of ours there that no row knows is a stray."""
    put(conn, COMPARED_PREFIX + provider, repr(now))


def put(conn: Connection, key: str, value: str) -> None:
    """Set one fact of the server."""
    if conn.execute(update(server).where(server.c.key == key).values(value=value)).rowcount == 0:
        conn.execute(insert(server).values(key=key, value=value))

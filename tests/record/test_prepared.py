"""Prepared statements give what `Connection.execute` gives."""

from __future__ import annotations

from typing import Any

import pytest
from hostler.tracking.server.database import Prepared
from hostler.tracking.server.database.schema import events, workspaces
from record.world import World
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

ADD = Prepared(
    insert(events)
    .values({column.name: bindparam(f"b_{column.name}") for column in events.c if column.name != "id"})
    .returning(events.c.id)
)
BY_KIND = (
    select(events).where(events.c.kind == bindparam("kind"), events.c.workspace == "w").order_by(events.c.id)
)
LIMITED = Prepared(BY_KIND.limit(2))
RENAME = Prepared(update(events).where(events.c.kind == bindparam("old")).values(kind=bindparam("new")))


def add(conn: Connection, kind: str, data: Any) -> int:
    row = {"workspace": "w", "at": 1.5, "kind": kind, "actor": "a", "task_id": None, "instance_id": None}
    values = {**row, "message": "", "data": data}
    return int(ADD.first(conn, {f"b_{name}": value for name, value in values.items()}).id)


def test_rows_are_those_of_the_ordinary_way_with_their_types(world: World) -> None:
    def work(conn: Connection) -> None:
        for number in range(3):
            add(conn, "a.b", {"n": [number, None, "ö"]})
        assert RENAME.run(conn, {"old": "a.b", "new": "c.d", "ignored": 1}) == 3
        ordinary = conn.execute(BY_KIND, {"kind": "c.d"}).all()
        assert LIMITED.all(conn, {"kind": "c.d"}) == [tuple(row) for row in ordinary[:2]]
        assert LIMITED.first(conn, {"kind": "c.d"}).data == {"n": [0, None, "ö"]}
        assert LIMITED.first(conn, {"kind": "none"}) is None
        assert LIMITED.all(conn, {"kind": "none"}) == []

    world.database.write(work)


def test_a_value_that_is_missing_is_named(world: World) -> None:
    with pytest.raises(KeyError, match="kind"):
        world.database.write(lambda conn: LIMITED.all(conn, {}))


def test_lists_are_refused_instead_of_run_wrongly(world: World) -> None:
    listed = Prepared(select(events).where(events.c.kind.in_(["a", "b"])))
    with pytest.raises(ValueError, match="no lists"):
        world.database.write(lambda conn: listed.all(conn, {}))


def test_a_broken_constraint_is_the_error_of_the_ordinary_way(world: World) -> None:
    again = Prepared(insert(workspaces).values(name="default", created_at=1.0))
    with pytest.raises(IntegrityError):
        world.database.write(lambda conn: again.run(conn, {}))

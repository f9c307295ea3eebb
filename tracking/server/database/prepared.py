"""Statements of the hot path: written in Core, compiled once a dialect, run on the driver itself.

`Connection.execute` costs 40-60 us a statement in Python alone, several times what SQLite needs for a claim. Use this
where thousands of calls a second matter and `Connection.execute` everywhere else.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

Processor = Callable[[Any], Any]

ROWS_ARE_SHARED = "hostler_rows_are_shared"
"""Key in `Connection.info` of connections that write while others do."""


class Prepared:
    """One statement with `bindparam`s; values beyond those it names are ignored, a missing one is a KeyError.

    Column defaults in Python don't run: name every column an INSERT fills. Lists that expand are not taken: their
    text changes with each call. Errors and rows are those of `Connection.execute`.
    """

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self._statement = statement
        self._by_dialect: dict[str, _Compiled] = {}

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """Execute and return how many rows it changed."""
        cursor = self._on(conn).execute(conn, values)
        changed = int(cursor.rowcount)
        cursor.close()
        return changed

    def first(self, conn: Connection, values: Mapping[str, Any]) -> Any:
        """The first row, a named tuple with the columns' Python types; None where there is none."""
        # All are fetched: on SQLite a RETURNING is only done when it was read to its end.
        rows = self.all(conn, values)
        return rows[0] if rows else None

    def all(self, conn: Connection, values: Mapping[str, Any]) -> list[Any]:
        """All rows, named tuples with the columns' Python types."""
        compiled = self._on(conn)
        cursor = compiled.execute(conn, values)
        rows = [compiled.row(row) for row in cursor.fetchall()]
        cursor.close()
        return rows

    def lock(self, conn: Connection, values: Mapping[str, Any]) -> None:
        """Wait for the rows of a SELECT ... FOR UPDATE.

        Nothing where there is nobody to wait for: on SQLite the writer is alone, and who only reads has a snapshot.
        """
        if conn.info.get(ROWS_ARE_SHARED):
            self.all(conn, values)

    def _on(self, conn: Connection) -> _Compiled:
        name = conn.dialect.name
        compiled = self._by_dialect.get(name)
        if compiled is None:
            compiled = self._by_dialect[name] = _Compiled(self._statement, conn.dialect)
        return compiled


class _Compiled:
    """A statement in one dialect: its text, the order of its values, and how both directions are converted."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._sql: str = compiled.string
        # A limit is a list for the compiler too, but of one; real lists change the text with each call.
        if any(bind.expanding for bind in compiled.bind_names):
            raise ValueError("a prepared statement takes no lists: use Connection.execute")
        if "__[POSTCOMPILE_" in self._sql:
            literal = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
            compiled, self._sql = literal, literal.string
        self._positional = bool(compiled.positional)
        self._names: list[str] = (
            list(compiled.positiontup or ()) if self._positional else list(compiled.bind_names.values())
        )
        required = {name for bind, name in compiled.bind_names.items() if bind.required}
        self._fixed = {name: value for name, value in compiled.params.items() if name not in required}
        self._inward = _processors(
            {name: bind.type for bind, name in compiled.bind_names.items()}, dialect, "bind_processor"
        )
        columns = list(getattr(compiled, "_result_columns", ()))
        names = [column.keyname for column in columns]
        self._row: Any = _row_type(names)
        self._dialect = dialect
        self._types = [column.type for column in columns]
        self._outward: list[tuple[int, Processor]] | None = None

    def execute(self, conn: Connection, values: Mapping[str, Any]) -> Any:
        if not conn.in_transaction():
            conn.begin()
        raw: Any = conn.connection.driver_connection
        arguments = self._arguments(values)
        cursor = raw.cursor()
        try:
            cursor.execute(self._sql, arguments)
        except conn.dialect.loaded_dbapi.Error as error:
            cursor.close()
            raise _as_sqlalchemy(error, self._sql, arguments, conn.dialect) from error
        if self._outward is None:
            self._outward = self._read_by(cursor.description or ())
        return cursor

    def row(self, values: Any) -> Any:
        if self._outward:
            values = list(values)
            for at, process in self._outward:
                values[at] = process(values[at])
        return self._row._make(values)

    def _read_by(self, described: Any) -> list[tuple[int, Processor]]:
        """How columns are read depends on what the database says they are: known with the first answer."""
        found = [
            (at, _processor(type_, self._dialect, "result_processor", column[1]))
            for at, (type_, column) in enumerate(zip(self._types, described, strict=False))
        ]
        return [(at, process) for at, process in found if process is not None]

    def _arguments(self, values: Mapping[str, Any]) -> Any:
        fixed = self._fixed
        given = [values[name] if name in values else fixed[name] for name in self._names]
        if self._inward:
            inward = self._inward
            given = [
                inward[name](value) if name in inward else value
                for name, value in zip(self._names, given, strict=True)
            ]
        return given if self._positional else dict(zip(self._names, given, strict=True))


def _as_sqlalchemy(error: Any, sql: str, arguments: Any, dialect: Dialect) -> BaseException:
    made: BaseException = DBAPIError.instance(
        sql, arguments, error, dialect.loaded_dbapi.Error, dialect=dialect
    )
    return made


def _row_type(names: list[str]) -> Any:
    make: Any = namedtuple  # noqa: PYI024  the names are known at run time only
    return make("Row", names, rename=True)


def _processors(types: dict[str, Any], dialect: Dialect, which: str) -> dict[str, Processor]:
    made = {name: _processor(type_, dialect, which) for name, type_ in types.items()}
    return {name: process for name, process in made.items() if process is not None}


def _processor(type_: Any, dialect: Dialect, which: str, *further: Any) -> Processor | None:
    process: Processor | None = getattr(type_.dialect_impl(dialect), which)(dialect, *further)
    return process

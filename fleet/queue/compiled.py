"""Statements of claim and result, compiled once a dialect and then handed to the driver as they are.

A claim and its result are a dozen small statements; what SQLAlchemy does around each costs several times what SQLite
does in it. The statements stay Core, so each database gets its own SQL; rows have names and decoded JSON, and errors
are SQLAlchemy's.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement

Convert = Callable[[Any], Any]


class Statement:
    """A Core statement whose parameters are all named `bindparam`s; values it was not given are NULL.

    It holds no `in_`: a list that expands would have to be compiled anew at each call (see `states.among`).
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """How many rows it changed."""
        cursor, _ = self._execute(conn, values)
        try:
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def first(self, conn: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first row, or None; all of them are fetched, as a RETURNING is only done when it is read."""
        rows = self.all(conn, values)
        return rows[0] if rows else None

    def all(self, conn: Connection, values: Mapping[str, Any]) -> list[Any]:
        cursor, compiled = self._execute(conn, values)
        try:
            return [compiled.read(raw) for raw in cursor.fetchall()]
        finally:
            cursor.close()

    def _execute(self, conn: Connection, values: Mapping[str, Any]) -> tuple[Any, _Compiled]:
        if not conn.in_transaction():
            conn.begin()
        dialect = conn.dialect
        compiled = self._compiled.get(dialect.driver)
        if compiled is None:
            compiled = self._compiled[dialect.driver] = _Compiled(self._statement, dialect)
        parameters = compiled.parameters(values)
        cursor = conn.connection.cursor()
        errors = dialect.loaded_dbapi.Error
        try:
            cursor.execute(compiled.sql, parameters)
        except errors as error:
            cursor.close()
            raise DBAPIError.instance(compiled.sql, parameters, error, errors, dialect=dialect) from error
        return cursor, compiled


class _Compiled:
    """One statement for one dialect."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._names: list[str] | None = compiled.positiontup if compiled.positional else None
        self._fixed: dict[str, Any] = dict(compiled.construct_params(_check=False))
        self._converts: list[tuple[str, Convert]] = []
        for name, bind in compiled.binds.items():
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if convert is not None and name in self._fixed:
                self._converts.append((name, convert))
        columns = list(getattr(statement, "exported_columns", ()))
        row: Any = namedtuple("row", [column.key for column in columns])  # type: ignore[misc]  # noqa: PYI024
        self._make: Convert = row._make
        self._reads: list[tuple[int, Convert]] = []
        for index, column in enumerate(columns):
            convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
            if convert is not None:
                self._reads.append((index, convert))

    def parameters(self, values: Mapping[str, Any]) -> Any:
        found = {**self._fixed, **values}
        for name, convert in self._converts:
            found[name] = convert(found[name])
        if self._names is None:
            return {name: found[name] for name in self._fixed}
        return [found[name] for name in self._names]

    def read(self, raw: Any) -> Any:
        """The driver's row, with names and with JSON decoded."""
        if not self._reads:
            return self._make(raw)
        values = list(raw)
        for index, convert in self._reads:
            values[index] = convert(values[index])
        return self._make(values)

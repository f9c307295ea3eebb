"""The type of a row with whatever columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select

if TYPE_CHECKING:
    AnyRow = Row[*tuple[Any, ...]]
    AnySelect = Select[*tuple[Any, ...]]
else:  # SQLAlchemy before 2.1 counts the types of a row as one
    AnyRow = Row
    AnySelect = Select

"""The one database: engines, the single writer with group commit, migrations, and the tables of the record."""

from __future__ import annotations

from .core import Database
from .errors import DatabaseClosed, StorageDown, StorageFull, WriterBusy
from .prepared import Prepared

__all__ = ["Database", "DatabaseClosed", "Prepared", "StorageDown", "StorageFull", "WriterBusy"]

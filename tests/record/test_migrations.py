"""The schema's history: what the files say is what the code means, and a crash leaves old or new, never half."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import hostler.fleet.store.schema  # noqa: F401  its tables stand on the same metadata
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hostler.tracking.server.database import Database, migrate
from hostler.tracking.server.database.migrate import SchemaTooNew
from hostler.tracking.server.database.schema import metadata
from record.world import Clock, crash_environment
from sqlalchemy import create_engine, inspect, text

CRASH = """if True:
    import os, signal, sys
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from hostler.tracking.server.database import Database

    seen = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(conn, cursor, statement, parameters, context, executemany):
        global seen
        seen += statement.lstrip().startswith(("CREATE", "INSERT"))
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    Database.open(f"sqlite:///{sys.argv[1]}", lambda: 0.0)
    print("whole")
"""


def tables_in(path: Path) -> set[str]:
    engine = create_engine(f"sqlite:///{path}")
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_a_migrated_database_is_what_the_tables_in_the_code_say(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/state.db", Clock())
    with database.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_the_indexes_of_a_migrated_database_cover_the_same_columns(tmp_path: Path) -> None:
    """Alembic does not compare what an index sorts by or leaves out."""
    database = Database.open(f"sqlite:///{tmp_path}/migrated.db", Clock())
    fresh = create_engine(f"sqlite:///{tmp_path}/fresh.db")
    metadata.create_all(fresh)
    listing = text(
        "SELECT name, replace(sql, '\"', '') FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    )
    with database.read() as conn, fresh.connect() as other:
        assert {tuple(row) for row in conn.execute(listing)} == {tuple(row) for row in other.execute(listing)}
    database.close()


def test_the_head_found_without_alembic_is_the_one_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.head()


def test_opening_a_migrated_database_does_not_load_alembic(tmp_path: Path) -> None:
    Database.open(f"sqlite:///{tmp_path}/state.db", Clock()).close()
    code = (
        "import sys; from hostler.tracking.server.database import Database;"
        f"Database.open('sqlite:///{tmp_path}/state.db', lambda: 0.0).close();"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_database_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    database = Database.open(url, Clock())
    database.write(
        lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")).rowcount
    )
    database.close()
    with pytest.raises(SchemaTooNew, match="upgrade hostler"):
        Database.open(url, Clock())


@pytest.mark.slow
@pytest.mark.parametrize("statement", [1, 2, 9, 25, 40])
def test_a_kill_in_the_middle_of_a_migration_leaves_the_old_schema(tmp_path: Path, statement: int) -> None:
    path = tmp_path / "state.db"
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(path), str(statement)],
        capture_output=True,
        text=True,
        env=crash_environment(),
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert tables_in(path) == set()
    database = Database.open(f"sqlite:///{path}", Clock())
    database.close()
    assert set(metadata.tables) <= tables_in(path)

"""Copies of a whole database in one file, taken while it is in use: SQLite's backup API, PostgreSQL's pg_dump."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, make_url

from . import postgres, sqlite

DEBIAN_PROGRAMS: Final = Path("/usr/lib/postgresql")
TOLD_CHARACTERS_MAX: Final = 2_000


class CopyFailed(Exception):
    """A copy could not be taken or put back; nothing was changed. The message says why and what to do."""


def engine_of(url: str) -> str:
    """`sqlite` or `postgresql`. Raises ValueError for what is neither."""
    parsed = make_url(url)
    if postgres.is_postgres(parsed):
        return "postgresql"
    if parsed.get_backend_name() == "sqlite":
        return "sqlite"
    raise ValueError(f"{postgres.shown(parsed)} is neither SQLite nor PostgreSQL")


def plain(url: str) -> URL:
    """The URL for an engine without any of our settings, to look at a database that may be of another version."""
    parsed = make_url(url)
    return postgres.normal(parsed) if postgres.is_postgres(parsed) else parsed


def take(url: str, target: Path) -> None:
    """Write one consistent state of the database to `target`; whoever writes meanwhile is not held up.

    Raises CopyFailed.
    """
    parsed = make_url(url)
    if postgres.is_postgres(parsed):
        _run("pg_dump", parsed, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
    else:
        _copy_sqlite(sqlite.file_of(parsed), target)


def check_sqlite(file: Path) -> None:
    """Raises CopyFailed where the file is damaged or no SQLite database."""
    driver = sqlite.driver()
    try:
        with closing(driver.connect(str(file))) as conn:
            found = [row[0] for row in conn.execute("PRAGMA integrity_check")]
    except driver.DatabaseError as error:
        raise CopyFailed(f"the copy of the database is damaged: {error}") from error
    if found != ["ok"]:
        raise CopyFailed(f"the copy of the database is damaged: {'; '.join(found[:3])}")


def put_back_postgres(url: str, dump: Path, afterwards: Sequence[str]) -> None:
    """Replace the database's contents by the dump and run the statements of `afterwards`, all or nothing.

    Raises CopyFailed.
    """
    parsed = make_url(url)
    with tempfile.TemporaryDirectory(prefix="hostler-restore-") as folder:
        script = Path(folder) / "restore.sql"
        arguments = ["--clean", "--if-exists", "--no-owner", "--no-privileges", f"--file={script}", str(dump)]
        _run("pg_restore", None, arguments)
        with script.open("a") as file:
            file.writelines(f"{statement};\n" for statement in afterwards)
        _run(
            "psql",
            parsed,
            ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={script}"],
        )


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CopyFailed(f"there is no database {source}; is daemon.state right?")
    driver = sqlite.driver()
    try:
        # Both in one step: a copy in several would begin anew whenever the daemon writes, for ever on a busy one.
        with (
            closing(driver.connect(f"file:{source}?mode=rw", uri=True)) as old,
            closing(driver.connect(str(target))) as new,
        ):
            old.backup(new, pages=-1)
            new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except driver.Error as error:
        raise CopyFailed(f"{source} could not be copied: {error}") from error


def _run(program: str, url: URL | None, arguments: Sequence[str]) -> None:
    command = [str(_find(program))]
    environment = dict(os.environ)
    if url is not None:
        # The password goes by the environment: a command line can be read by everybody on the machine.
        command.append(f"--dbname={_without_password(url)}")
        if url.password is not None:
            environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=_plain(environment), check=False
    )
    if done.returncode != 0:
        raise CopyFailed(f"{program} failed: {done.stderr.strip()[-TOLD_CHARACTERS_MAX:]}")


def _plain(environment: Mapping[str, str]) -> dict[str, Any]:
    """Without what would change the form of the output."""
    return {name: value for name, value in environment.items() if name not in ("PGOPTIONS", "PGSERVICE")}


def _without_password(url: URL) -> str:
    bare = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )  # None: `set` would keep the password
    return bare.render_as_string(hide_password=False)


def _find(program: str) -> Path:
    """On the PATH, else the newest of Debian's."""
    if found := shutil.which(program):
        return Path(found)
    versions = sorted(DEBIAN_PROGRAMS.glob(f"*/bin/{program}"), key=lambda one: one.parts[-3].zfill(4))
    if not versions:
        raise CopyFailed(f"{program} is not installed; on Debian: apt-get install postgresql-client")
    return versions[-1]

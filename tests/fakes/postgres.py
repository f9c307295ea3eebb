"""A PostgreSQL server of the test run's own: made once, reached through a Unix socket, a new database for each test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import hostler.fleet.store.schema  # noqa: F401  the control plane's tables stand on the same metadata
import psutil
import psycopg
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.schema import metadata
from sqlalchemy import make_url

SUPERUSER = "postgres"
TEMPLATE = "hostler_template"
PREFIX = "hostler-pg-"
OWNER = "owner.pid"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def find_programs() -> Path | None:
    """The folder that holds initdb and pg_ctl; Debian keeps it off the PATH."""
    for name in ("initdb", "pg_ctl"):
        if found := shutil.which(name):
            return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]))
    return folders[-1].parent if folders else None


class Cluster:
    """One server in its own folder. `start`, `stop` and `crash` as often as a test likes."""

    def __init__(self, folder: Path, programs: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._programs = programs
        # PostgreSQL refuses to run as root; Debian's package brings a user for it.
        self.user = SUPERUSER if os.geteuid() == 0 else None
        if self.user is not None:
            shutil.chown(folder, self.user)
        self._run(
            "initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        values = {
            "listen_addresses": "''",
            "unix_socket_directories": f"'{folder}'",
            "max_connections": "300",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "log_min_messages": "warning",
            **settings,
        }
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in values.items())
        self._numbers = count(1)
        self._clean: list[str] = []

    def start(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-l", self.folder / "log", "start")

    def stop(self, mode: str = "fast") -> None:
        """fast: ends transactions and closes in order. immediate: what a power cut does to the processes."""
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", mode, "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self.folder}"

    def new_database(self, template: str = "template0") -> str:
        """The URL of a database that is a copy of `template`."""
        name = f"t{next(self._numbers)}"
        self.say(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def lend(self) -> str:
        """The URL of a database at the newest schema with nothing in it."""
        return self._clean.pop() if self._clean else self.new_database(TEMPLATE)

    def take_back(self, url: str) -> None:
        """Empty it for the next test: that is several times quicker than a new one."""
        tables = ", ".join(f'"{name}"' for name in metadata.tables)
        # Whoever still holds a row of it is a test that didn't close what it opened.
        self.say(f"SET lock_timeout = '5s'; TRUNCATE {tables} RESTART IDENTITY", _name(url))
        self._clean.append(url)

    def say(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(host=str(self.folder), user=SUPERUSER, dbname=database, autocommit=True) as conn:
            conn.execute(statement)

    def make_template(self) -> None:
        """A database at the newest schema: a copy of it is quicker than a migration."""
        assert "leader" in metadata.tables
        self.say(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        Database.open(self.url(TEMPLATE), lambda: 0.0).close()

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
        assert done.returncode == 0, f"{program}: {done.stdout}"


def end_what_a_killed_run_left() -> None:
    """A test run that was killed could not stop its server: nobody else would."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNER}"):
        try:
            if psutil.pid_exists(int(owner.read_text())):
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, IndexError):
                first_line = (owner.parent / "data" / "postmaster.pid").read_text().splitlines()[0]
                os.kill(int(first_line), signal.SIGQUIT)
            shutil.rmtree(owner.parent, ignore_errors=True)
        except (OSError, ValueError):
            continue  # another run's, or another user's


def _name(url: str) -> str:
    return make_url(url).database or ""


@contextmanager
def running_cluster(programs: Path, settings: dict[str, str]) -> Iterator[Cluster]:
    """A server while the block runs."""
    # Not below pytest's folder: the path of a Unix socket may have 107 characters, and another user must reach it.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)
    (folder / OWNER).write_text(str(os.getpid()))
    end_what_a_killed_run_left()
    try:
        cluster = Cluster(folder, programs, settings)
        cluster.start()
        try:
            yield cluster
        finally:
            subprocess.run(
                [str(programs / "pg_ctl"), "-D", str(cluster.data), "-m", "immediate", "-w", "stop"],
                user=cluster.user,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""What the daemon looks at in itself for `hostler doctor`."""

from __future__ import annotations

import shutil
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httpx
from sqlalchemy import func, select, text

from ...config import ConfigError
from ...config.agreement import is_elsewhere
from ...config.daemon import is_loopback
from ...providers.base import Check
from ...tracking.server.database import Database
from ...tracking.server.database.schema import events
from ..store import leader
from .live import LiveSettings
from .paths import StatePaths
from .private_file import others_can_read

SQLITE_SAFE: Final = (3, 51, 3)
"""Older ones can lose the write-ahead log in a rare race of two checkpoints."""
POSTGRESQL_MIN: Final = 13
"""Older ones have no pg_current_xact_id."""
DISK_FREE_BYTES_MIN: Final = 1 << 30
CLOCK_TOLERANCE_SECONDS: Final = 5.0
CLOCK_PLAUSIBLE_FROM: Final = 1_700_000_000.0
"""November 2023: a machine that believes to live before has lost its clock."""
REACH_SECONDS_MAX: Final = 5.0


@dataclass(frozen=True, slots=True)
class OwnChecks:
    """Callable without arguments; blocks for a few seconds at most."""

    database: Database
    settings: LiveSettings
    paths: StatePaths
    url: str
    clock: Callable[[], float] = time.time

    def __call__(self) -> Sequence[Check]:
        return [
            self._database(),
            *((self._sqlite(),) if self.database.signals is None else (self._postgresql(), self._leader())),
            self._disk(),
            self._clock(),
            self._token(),
            self._reachable(),
            self._file(),
        ]

    def _database(self) -> Check:
        if self.database.ok():
            return Check("database", True, "reads and writes work")
        return Check("database", False, "it can't be read or written", "free space on the disk of its file")

    def _sqlite(self) -> Check:
        with self.database.read() as conn:
            version = str(conn.execute(text("SELECT sqlite_version()")).scalar())
        ok = tuple(int(part) for part in version.split(".")[:3]) >= SQLITE_SAFE
        wanted = ".".join(map(str, SQLITE_SAFE))
        return Check(
            "sqlite",
            ok,
            f"version {version}",
            "" if ok else f"install one from {wanted} on: pip install pysqlite3",
        )

    def _postgresql(self) -> Check:
        with self.database.read() as conn:
            version = str(conn.execute(text("SHOW server_version")).scalar())
        ok = int(version.split(".", maxsplit=1)[0]) >= POSTGRESQL_MIN
        hint = "" if ok else f"use PostgreSQL {POSTGRESQL_MIN} or newer"
        return Check("postgresql", ok, f"version {version}", hint)

    def _leader(self) -> Check:
        with self.database.read() as conn:
            found = leader.read(conn)
        if found is None or found.seconds_left <= 0:
            return Check(
                "leader", False, "no daemon leads: nothing is launched or ended", "start one: hostler up"
            )
        return Check("leader", True, f"{found.holder} leads, epoch {found.epoch}")

    def _disk(self) -> Check:
        free = shutil.disk_usage(self.paths.root).free
        hint = f"free some of the disk under {self.paths.root}; writes are refused when it is full"
        ok = free >= DISK_FREE_BYTES_MIN
        return Check(
            "disk", ok, f"{free / (1 << 30):.1f} GiB free under {self.paths.root}", "" if ok else hint
        )

    def _clock(self) -> Check:
        now = self.clock()
        with self.database.read() as conn:
            newest = float(conn.execute(select(func.max(events.c.at))).scalar() or 0.0)
        ahead = newest - now
        ok = now >= CLOCK_PLAUSIBLE_FROM and ahead <= CLOCK_TOLERANCE_SECONDS
        detail = "steady" if ok else f"it stands {ahead:.0f} s behind what was written before"
        return Check(
            "clock",
            ok,
            detail,
            "" if ok else "set it, and keep it right with NTP: cron windows and costs go by it",
        )

    def _token(self) -> Check:
        token = self.paths.admin_token
        if not token.exists():
            return Check("token file", False, f"{token} is gone", "restart the daemon: it writes a new one")
        ok = not others_can_read(token)
        return Check("token file", ok, f"{token}", "" if ok else f"others can read it: chmod 600 {token}")

    def _reachable(self) -> Check:
        """Through the address that instances are given, as they will come."""
        try:
            status = httpx.get(
                f"{self.url}/livez", timeout=REACH_SECONDS_MAX, verify=self._trust(), trust_env=False
            ).status_code
        except (httpx.HTTPError, OSError) as error:
            hint = "set daemon.url to an address that instances can reach"
            return Check("url", False, f"{self.url}: {error}", hint)
        if status != HTTPStatus.OK:
            hint = "daemon.url leads to another server; correct it"
            return Check("url", False, f"{self.url} answered {status}", hint)
        elsewhere = [name for name, one in self.settings.fleet.providers.items() if is_elsewhere(one)]
        if elsewhere and is_loopback(self.url):
            detail = f"{self.url} is this machine only, but {', '.join(elsewhere)} are elsewhere"
            hint = "set daemon.url (and daemon.listen) to an address that instances can reach"
            return Check("url", False, detail, hint)
        return Check("url", True, self.url)

    def _trust(self) -> ssl.SSLContext | bool:
        tls = self.settings.fleet.daemon.tls
        return ssl.create_default_context(cafile=str(tls.ca)) if tls and tls.ca else True

    def _file(self) -> Check:
        try:
            pending = self.settings.pending()
        except ConfigError as error:
            return Check(
                "fleet.yaml", False, str(error.problems[0]), "mend the file: the next start would fail on it"
            )
        if pending:
            hint = "send SIGHUP to put the file in force, or save what was applied into it"
            return Check(
                "fleet.yaml", False, f"the file differs from what is in force in {len(pending)} places", hint
            )
        return Check("fleet.yaml", True, "the file is what is in force")

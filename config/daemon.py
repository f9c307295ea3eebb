"""`daemon:` - where the daemon listens and keeps its state, and the times its protocols run on."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from .fields import Duration, Settings, Size, Text

DEFAULT_LISTEN = "127.0.0.1:8480"
DEFAULT_STATE = "sqlite:///.hostler/state.db"
MIN_TICK_SECONDS = 0.05
MAX_TICK_SECONDS = 60.0
"""The watchdog of the systemd unit is pinged once a tick and waits two minutes."""
MIN_LEASE_TTL_SECONDS = 0.5
MIN_MAX_BODY_BYTES = 64 * 1024
HEARTBEATS_PER_LEASE = 4
_POSTGRES = ("postgresql+psycopg", "postgresql", "postgres")
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]+@")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


def _check_listen(text: str) -> str:
    match = _LISTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not an address; write host:port, such as {DEFAULT_LISTEN}")
    if int(match[2]) > 65_535:
        raise ValueError(f"port {match[2]} is above 65535")
    return text


def _check_state(text: str) -> str:
    if text.startswith("sqlite:///") and text.removeprefix("sqlite:///").strip("/"):
        return text
    scheme, _, rest = text.partition("://")
    if scheme in _POSTGRES and rest.partition("?")[0].partition("/")[2]:
        return text
    # What was written is not repeated: it may hold a password.
    raise ValueError(
        f"'{scheme.partition(':')[0]}:...' is not a database URL; write sqlite:///relative/state.db, "
        "sqlite:////absolute/state.db or postgresql+psycopg://user:password@host/name"
    )


def check_web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{text}' is not a URL; write http://host:port or https://host")
    if parts.query or parts.fragment or parts.username:
        raise ValueError(f"'{parts.scheme}://{parts.hostname}...' must have no user, query or fragment")
    return text.rstrip("/")


def _url_of_listen(data: dict[str, Any]) -> str:
    """What agents on this machine dial: a wildcard address can be listened on but not dialled."""
    host, _, port = str(data.get("listen", DEFAULT_LISTEN)).rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"{'https' if data.get('tls') else 'http'}://{host}:{port}"


def _data_dir_of_state(data: dict[str, Any]) -> Path:
    state = state_file(str(data.get("state", DEFAULT_STATE)))
    return state.parent if state else Path(".hostler")


def _heartbeat_of_ttl(data: dict[str, Any]) -> float:
    return float(data.get("lease_ttl", 60.0)) / HEARTBEATS_PER_LEASE


def without_password(text: str) -> str:
    """`text` with the password of a URL in it blotted out: it is printed, logged or sent."""
    return _PASSWORD.sub(r"\1:***@", text)


def state_file(state: str) -> Path | None:
    """The SQLite file of a `daemon.state` URL; relative paths count from the daemon's working directory.

    None when the state is not a SQLite file.
    """
    if not state.startswith("sqlite:///"):
        return None
    return Path(state.removeprefix("sqlite:///").partition("?")[0])


class Tls(Settings):
    """Certificate and key the API is served with (PEM files); `ca` is what agents verify it against."""

    cert: Path
    key: Path
    ca: Path | None = None


class Daemon(Settings):
    """`daemon:`. Times are seconds, sizes bytes. Relative paths count from the working directory."""

    tick: Duration = 10.0
    state: Annotated[Text, AfterValidator(_check_state)] = DEFAULT_STATE
    listen: Annotated[Text, AfterValidator(_check_listen)] = DEFAULT_LISTEN
    tls: Tls | None = None
    url: Annotated[Text, AfterValidator(check_web_url)] = Field(default_factory=_url_of_listen)
    data_dir: Path = Field(default_factory=_data_dir_of_state)
    lease_ttl: Duration = 60.0
    heartbeat: Duration = Field(default_factory=_heartbeat_of_ttl)
    bootstrap_timeout: Duration = 600.0
    orphan_grace: Duration = 300.0
    dead_man: Duration = 900.0
    shutdown_grace: Duration = 20.0
    max_body: Size = 16 * 1024 * 1024

    @model_validator(mode="after")
    def _times_fit_together(self) -> Daemon:
        if not MIN_TICK_SECONDS <= self.tick <= MAX_TICK_SECONDS:
            raise ValueError(f"tick must be between 50ms and 1m, not {self.tick:g}s")
        if self.lease_ttl < MIN_LEASE_TTL_SECONDS:
            raise ValueError(f"lease_ttl must be at least 500ms, not {self.lease_ttl:g}s")
        if not 0 < self.heartbeat <= self.lease_ttl / 2:
            raise ValueError(
                f"heartbeat ({self.heartbeat:g}s) must be above 0 and at most half of lease_ttl "
                f"({self.lease_ttl:g}s): one lost beat must not cost the lease"
            )
        if self.bootstrap_timeout <= 0:
            raise ValueError("bootstrap_timeout must be above 0, or every instance is given up at once")
        if self.dead_man <= self.lease_ttl:
            raise ValueError(
                f"dead_man ({self.dead_man:g}s) must be longer than lease_ttl ({self.lease_ttl:g}s): "
                "an instance must outlive the lease it holds"
            )
        if self.max_body < MIN_MAX_BODY_BYTES:
            raise ValueError("max_body must be at least 64KiB, or agents can't report")
        return self

    @model_validator(mode="after")
    def _url_speaks_tls(self) -> Daemon:
        if self.tls is not None and not self.url.startswith("https:"):
            raise ValueError("url must start with https:// when tls is set")
        return self

    def state_path(self) -> Path | None:
        """The SQLite file, or None when the state is elsewhere."""
        return state_file(self.state)

    def listen_host(self) -> str:
        """The host part of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    def listen_port(self) -> int:
        """The port part of `listen`; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])


def is_loopback(url_or_host: str) -> bool:
    """Whether only this machine can reach it."""
    host = urlsplit(url_or_host).hostname if "://" in url_or_host else url_or_host.strip("[]")
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"

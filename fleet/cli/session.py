"""Which daemon this call of the program speaks to, and with which token."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...tracking import place
from .failures import NO_DAEMON_HINT, WHICH_ONE, ExitCode, Failure, usage

if TYPE_CHECKING:
    from .client import Client


@dataclass(frozen=True, slots=True)
class Address:
    """What was said on the command line; empty = by the environment, else by the file `hostler up` leaves."""

    url: str = ""
    token_file: str = ""


address: ContextVar[Address] = ContextVar("address", default=Address())  # noqa: B039  it is frozen


def find_server() -> place.Server:
    """URL and token. Raises Failure (unreachable) when no daemon is known, (auth) when its token is."""
    said = address.get()
    token = _read(said.token_file) if said.token_file else ""
    known = place.find_server()
    url = said.url or os.environ.get("HOSTLER_URL") or (known.url if known else client_file().get("url", ""))
    token = token or (known.token if known else "") or os.environ.get("HOSTLER_TOKEN", "")
    if not url:
        raise Failure(
            ExitCode.UNREACHABLE,
            "no daemon is known",
            "neither HOSTLER_URL nor the file that `hostler up` leaves for its user is there",
            NO_DAEMON_HINT,
        )
    if not url.startswith(("http://", "https://")):
        raise usage(f"{url!r} is not a URL", hint="write http://host:port")
    if not token:
        raise Failure(ExitCode.AUTH, f"no token for the daemon at {url}", hint=WHICH_ONE)
    ca_file = os.environ.get("HOSTLER_CA_FILE") or (known.ca_file if known else None)
    return place.Server(url.rstrip("/"), token, ca_file)


@contextmanager
def connect() -> Iterator[Client]:
    """A client of the daemon, closed at the end."""
    from .client import Client

    client = Client(find_server())
    try:
        yield client
    finally:
        client.close()


def client_file() -> dict[str, str]:
    """What `hostler up` left for its user: `url`, `token_file`; {} when there is none."""
    try:
        known = json.loads(client_file_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def client_file_path() -> Path:
    named = os.environ.get("HOSTLER_CLIENT_FILE")
    base = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(named) if named else Path(base) / "hostler" / "client.json"


def token_path() -> str:
    """The file the token is read from; empty when it comes from HOSTLER_TOKEN."""
    if said := address.get().token_file:
        return said
    if os.environ.get("HOSTLER_TOKEN"):
        return ""
    return os.environ.get("HOSTLER_TOKEN_FILE") or client_file().get("token_file", "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(ExitCode.AUTH, "the token file can't be read", f"{path}: {error}", WHICH_ONE) from None

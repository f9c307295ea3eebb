"""User-data: the one script that turns a fresh machine, or a process of the local provider, into an instance."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

TEMPLATES = Path(__file__).with_name("templates")
USER_DATA_BYTES_MAX = 16 * 1024
"""EC2 takes no more; the other clouds take more."""
HOME = "/var/lib/hostler-agent"
CLOUDS = ("", "aws", "gcp", "azure", "local")
_HOME = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class UserData:
    """What one instance's script needs to know. `join_token` is the only secret in it.

    `dead_man_seconds`: without contact for so long the machine switches itself off. `bootstrap_seconds`: how long
    the agent is tried to be fetched.
    """

    url: str
    join_token: str
    agent_sha256: str
    ca_pem: str = ""
    home: str = HOME
    dead_man_seconds: float = 900.0
    bootstrap_seconds: float = 300.0
    cloud: str = ""


def render(user_data: UserData) -> str:
    """The script; the same values give the same bytes. Raises ValueError for values no instance could start with."""
    _check(user_data)
    settings = {
        "url": user_data.url.rstrip("/"),
        "dead_man_seconds": user_data.dead_man_seconds,
        "cloud": user_data.cloud,
    }
    text = _template().render(
        url=settings["url"],
        join_token=user_data.join_token,
        agent_sha256=user_data.agent_sha256,
        ca_pem=user_data.ca_pem.strip(),
        home=user_data.home,
        bootstrap_seconds=int(user_data.bootstrap_seconds),
        settings=json.dumps(settings, sort_keys=True),
    )
    size = len(text.encode())
    if size > USER_DATA_BYTES_MAX:
        raise ValueError(f"user-data of {size} bytes; EC2 takes {USER_DATA_BYTES_MAX}: shorten the CA bundle")
    return text


def _check(user_data: UserData) -> None:
    parts = urlsplit(user_data.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url '{user_data.url}' must be http://host:port or https://host")
    if not user_data.join_token.strip() or not user_data.join_token.isprintable():
        raise ValueError("the join token must be one line of printable characters")
    if not _SHA256.fullmatch(user_data.agent_sha256):
        raise ValueError("agent_sha256 must be 64 lower-case hex digits")
    if not _HOME.fullmatch(user_data.home) or ".." in user_data.home.split("/"):
        raise ValueError(f"home '{user_data.home}' must be an absolute path of letters, digits and ._-/")
    if user_data.cloud not in CLOUDS:
        raise ValueError(
            f"cloud '{user_data.cloud}' must be one of {', '.join(filter(None, CLOUDS))} or empty"
        )
    if "\0" in user_data.ca_pem or (user_data.ca_pem and "BEGIN CERTIFICATE" not in user_data.ca_pem):
        raise ValueError("ca_pem must be PEM certificates")
    if user_data.dead_man_seconds <= 0 or user_data.bootstrap_seconds < 1:
        raise ValueError("dead_man_seconds must be above 0 and bootstrap_seconds at least 1")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - a shell script, not HTML: every value goes through `sh`
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    return environment.get_template("bootstrap.sh.j2")

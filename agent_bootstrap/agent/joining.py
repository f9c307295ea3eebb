"""Joining once, and the credential that comes of it, which a restarted agent goes on with."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from ...tracking.client import CallFailed, Client, Conflict, Refused, Unauthorized
from ...tracking.files import read_json, write_json
from .. import wire
from .home import Home
from .metadata import MetadataFailed, identity
from .settings import Settings

_logger = logging.getLogger(__name__)


class JoinFailed(Exception):
    """The server does not take this machine: the join token is unknown, used or too old."""


class Credential:
    """What the agent authenticates with; renewed while it runs. Safe between threads."""

    def __init__(self, home: Home, joined: wire.Joined) -> None:
        self._home = home
        self._joined = joined
        self._lock = threading.Lock()

    @property
    def joined(self) -> wire.Joined:
        return self._joined

    def current(self) -> str:
        return self._joined["credential"]

    def replace(self, credential: str) -> None:
        with self._lock:
            renewed: Any = {**self._joined, "credential": credential}
            write_json(self._home.credential, renewed)
            self._joined = renewed


def resume(home: Home) -> wire.Joined | None:
    """What an earlier life of this agent joined with, or None."""
    kept = read_json(home.credential)
    return kept if isinstance(kept, dict) and wire.Joined.__annotations__.keys() <= kept.keys() else None  # type: ignore[return-value]


def join(
    home: Home,
    settings: Settings,
    client: Client,
    inventory: wire.Inventory,
    give_up: Callable[[float], bool],
) -> wire.Joined:
    """Trade the join token for a credential and burn it. Raises JoinFailed, CallFailed (gave up)."""
    try:
        token = home.join_token.read_text().strip()
    except OSError as error:
        raise JoinFailed(f"no join token: {error}") from error
    request = wire.JoinRequest(inventory=inventory, identity=_identity(settings, token))
    try:
        joined: wire.Joined = client.persistently(
            lambda: client.post(wire.JOIN, request, token=token), give_up
        )
    except (Unauthorized, Conflict, Refused) as error:
        raise JoinFailed(str(error)) from error
    write_json(home.credential, joined)
    home.join_token.unlink(missing_ok=True)
    return joined


def report_failure(home: Home, client: Client, stage: str, message: str) -> None:
    """Tell the server why this machine will not serve, if it can be told."""
    try:
        token = home.join_token.read_text().strip()
        client.post(wire.FAILED, wire.BootstrapFailed(stage=stage, message=message), token=token)
    except (OSError, CallFailed) as error:
        _logger.warning("the failure was not reported: %s", error)


def _identity(settings: Settings, token: str) -> dict[str, str]:
    try:
        return identity(settings.cloud, settings.url, token, os.environ)
    except MetadataFailed as error:  # the server decides whether it insists
        _logger.warning("no signed identity: %s", error)
        return {}

"""The user-data of every instance of this server, from the configuration in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from ...agent_bootstrap.userdata import UserData, render
from ...config import FleetConfig
from .failures import StartError

WITH_METADATA: Final = frozenset({"aws", "gcp", "azure"})
"""Types of providers whose machines find a metadata service; the agent knows them by the same names."""


@dataclass(frozen=True, slots=True)
class BootScript:
    """Callable as `render(instance_id, join_token, provider)`: the same text until the configuration changes."""

    fleet: Callable[[], FleetConfig]
    url: str
    agent_sha256: str
    ca_pem: str

    def __call__(self, _instance_id: str, join_token: str, provider: str) -> str:
        daemon = self.fleet().daemon
        return render(
            UserData(
                url=self.url,
                join_token=join_token,
                agent_sha256=self.agent_sha256,
                ca_pem=self.ca_pem,
                dead_man_seconds=daemon.dead_man,
                bootstrap_seconds=max(1.0, daemon.bootstrap_timeout),
                cloud=self._cloud(provider),
            )
        )

    def _cloud(self, provider: str) -> str:
        """Where the machine finds its notices and its identity; others than the clouds' machines look nowhere."""
        section = self.fleet().providers.get(provider)
        return section.type if section is not None and section.type in WITH_METADATA else ""


def ca_pem(fleet: FleetConfig) -> str:
    """What agents verify us against; empty = what their system trusts. Raises StartError."""
    tls = fleet.daemon.tls
    if tls is None or tls.ca is None:
        return ""
    try:
        return tls.ca.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"daemon.tls.ca: {tls.ca} can't be read: {error}") from error


def url_of(configured: str, port: int) -> str:
    """`daemon.url` with the port that was really bound where it leaves that to the system (port 0)."""
    parts = urlsplit(configured)
    if parts.port != 0:
        return configured
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{port}", parts.path, "", ""))

"""Where a host is and how it is reached; kept beside an instance, so that it is reached as long as that lives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...config.static import DEFAULT_PORT, StaticHost, StaticProvider


@dataclass(frozen=True)
class Where:
    """`home` empty: the default one of the user. `host_key` is the key itself, `known_hosts` a file that has it."""

    name: str
    user: str
    address: str
    port: int
    home: str = ""
    key_file: str = ""
    known_hosts: str = ""
    host_key: str = ""

    @classmethod
    def of(cls, section: StaticProvider, host: StaticHost) -> Where:
        # What a host says of its own key stands before a file of all.
        known_hosts = host.known_hosts or (None if host.host_key else section.known_hosts)
        return cls(
            name=host.name,
            user=host.user,
            address=host.address,
            port=host.port,
            home=host.home or section.home or "",
            key_file=_path(host.key_file or section.key_file),
            known_hosts=_path(known_hosts),
            host_key=host.host_key or "",
        )

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Where:
        """Raises TypeError for what is none."""
        return cls(**told)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def place(self) -> str:
        """The same for one place on one machine, whatever else is said of it: a file's name."""
        told = f"{self.user}@{self.address}:{self.port} {self.home}"
        return f"{self.name}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"

    @property
    def key_name(self) -> str:
        """What its key is filed under in a known_hosts file."""
        return self.address if self.port == DEFAULT_PORT else f"[{self.address}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.name} ({self.user}@{self.key_name})"


def _path(path: Path | None) -> str:
    return str(path.expanduser()) if path is not None else ""

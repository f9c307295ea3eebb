"""`providers.*: {type: static}` - machines that are there anyway, reached by SSH."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from .daemon import is_loopback
from .fields import GpusOrAny, Money, Name, Positive, Settings, Size, Text, Whole

DEFAULT_USD_PER_HOUR = 0.001
"""Nothing is paid for a machine of one's own, but a price of zero is no price: low enough to be chosen first."""
DEFAULT_PORT = 22
MAX_HOSTS = 1_000
_SSH = r"^[^@\s:/]+@([^@\s:/\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$"
_HOST_KEY = r"^(ssh-|ecdsa-sha2-)[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,}( .*)?$"
_HOME = r"^(~|~/[A-Za-z0-9._/-]{1,200}|/[A-Za-z0-9._/-]{1,200})$"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.-]+")

HostKey = Annotated[Text, Field(pattern=_HOST_KEY, examples=["ssh-ed25519 AAAAC3Nza..."])]
Home = Annotated[Text, Field(pattern=_HOME, examples=["/var/lib/hostler"])]


class StaticHost(Settings):
    """One machine: ``user@host`` or ``user@host:port``. What is not told of it is looked up on it."""

    ssh: Annotated[Text, Field(pattern=_SSH, examples=["gpu@lab-1", "gpu@10.0.0.7:2222"])]
    name: Name = Field(default_factory=lambda data: _name_of(str(data.get("ssh", ""))))
    gpus: GpusOrAny = None
    cpus: Positive | None = None
    memory: Size | None = None
    key_file: Path | None = None
    known_hosts: Path | None = None
    host_key: HostKey | None = None
    home: Home | None = None
    usd_per_hour: Money | None = None

    @property
    def user(self) -> str:
        return self.ssh.partition("@")[0]

    @property
    def address(self) -> str:
        """Name or IP address, without brackets."""
        return str(urlsplit(f"ssh://{self.ssh}").hostname)

    @property
    def port(self) -> int:
        port = urlsplit(f"ssh://{self.ssh}").port
        return DEFAULT_PORT if port is None else port

    @model_validator(mode="after")
    def _is_one_machine(self) -> StaticHost:
        try:
            port = self.port
        except ValueError:
            port = 0
        if port < 1:
            raise ValueError(f"ssh: '{self.ssh}' has no port between 1 and 65535")
        if self.gpus and (len(self.gpus) > 1 or self.gpus[0].count < 1):
            raise ValueError("gpus: write the one kind it has and how many, such as RTX4090:2")
        if self.memory is not None and self.memory <= 0:
            raise ValueError("memory must be above 0")
        if self.usd_per_hour is not None and self.usd_per_hour <= 0:
            raise ValueError("usd_per_hour must be above 0: a zero price is no price")
        if self.host_key is not None and self.known_hosts is not None:
            raise ValueError("write one of host_key and known_hosts")
        return self


def _name_of(ssh: str) -> str:
    """`lab-1` of ``gpu@lab-1``, `10.0.0.7-2222` of ``gpu@10.0.0.7:2222``."""
    return _NOT_IN_A_NAME.sub("-", ssh.rpartition("@")[2]).strip("-.")


class StaticProvider(Settings):
    """Each host holds one instance at a time. Keys beside `hosts` hold for every host that doesn't say otherwise.

    `usd_per_hour` is nominal: it is what budgets and rankings count for a machine that is paid for already.
    """

    type: Literal["static"]
    hosts: Annotated[tuple[StaticHost, ...], Field(min_length=1, max_length=MAX_HOSTS)]
    key_file: Path | None = None
    known_hosts: Path | None = None
    home: Home | None = None
    usd_per_hour: Money = DEFAULT_USD_PER_HOUR
    max_instances: Whole | None = None

    @model_validator(mode="after")
    def _hosts_are_told_apart(self) -> StaticProvider:
        names = [host.name.lower() for host in self.hosts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"hosts: '{twice}' is there twice; give each host a name of its own")
        places = [(host.ssh, host.home) for host in self.hosts]
        again = next((place for place in places if places.count(place) > 1), None)
        if again is not None:
            raise ValueError(f"hosts: '{again[0]}' is there twice; a host holds one instance")
        if self.usd_per_hour <= 0:
            raise ValueError("usd_per_hour must be above 0: a zero price is no price")
        return self

    def is_here(self) -> bool:
        """Whether every host is this very machine, which reaches a daemon on loopback."""
        return all(is_loopback(f"ssh://{host.ssh.partition('@')[2]}") for host in self.hosts)

"""fleet.yaml as one value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.json_schema import SkipJsonSchema

from . import third_party, unsupported
from .agreement import disagreements
from .aws import AwsProvider
from .azure import AzureProvider
from .daemon import Daemon
from .fields import Name
from .gcp import GcpProvider
from .kubernetes import KubernetesProvider
from .limits import Budget, Limits
from .local import LocalProvider
from .pools import Pool
from .queues import Queue
from .root import Document
from .static import StaticProvider

MAX_SECTION_ENTRIES = 200

BuiltInProvider = Annotated[
    LocalProvider | AwsProvider | GcpProvider | AzureProvider | StaticProvider | KubernetesProvider,
    Field(discriminator="type"),
]
Provider = Annotated[
    Annotated[BuiltInProvider, Tag(third_party.OURS)]
    | Annotated[SkipJsonSchema[third_party.ThirdPartyProvider], Tag(third_party.THIRD_PARTY)],
    Discriminator(third_party.kind_of),
]
"""The published schema tells of our types only, where installed packages are not known: a typo is found there."""


def _one_queue_for_all(data: dict[str, Any]) -> dict[str, Queue]:
    pools = tuple(data.get("pools", {}))
    return {"default": Queue(pools=pools)} if pools else {}


def _listed(value: object) -> object:
    """An empty section (``budgets:`` with nothing under it) is an empty list."""
    return () if value is None else value


class FleetConfig(Document):
    """Attributes are named as the keys; times are seconds, sizes bytes, money US dollars.

    Without `queues` there is one, ``default``, over all pools in their order.
    """

    refused = unsupported.FLEET

    version: Literal[1] = 1
    daemon: Daemon = Daemon()
    limits: Limits = Limits()
    budgets: Annotated[tuple[Budget, ...], BeforeValidator(_listed)] = ()
    providers: Annotated[dict[Name, Provider], Field(min_length=1, max_length=MAX_SECTION_ENTRIES)]
    pools: Annotated[dict[Name, Pool], Field(min_length=1, max_length=MAX_SECTION_ENTRIES)]
    queues: Annotated[dict[Name, Queue], Field(min_length=1, max_length=MAX_SECTION_ENTRIES)] = Field(
        default_factory=_one_queue_for_all
    )

    def disagreements(self) -> Iterator[tuple[unsupported.Path, str]]:
        """Where sections contradict each other."""
        return disagreements(self)

"""From a section of fleet.yaml to a provider: built-in types are imported on demand, others by entry point.

A package adds a type with a line in its entry-point group ``hostler.providers``: ``mycloud = "package:factory"``,
where `factory(name, section, context)` gives a `Provider`. A pydantic model as its attribute `section_model` checks the
package's own keys when fleet.yaml is read, and `section` is then one of it (docs/providers/third-party.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Protocol

from pydantic import ValidationError

from ..config.third_party import GROUP, ThirdPartyProvider, announced, model_of, owner
from .base import InvalidConfig, Provider, ProviderContext, Scope

__all__ = ["BUILT_IN", "GROUP", "BuiltIn", "Section", "create", "factory", "known_types"]


class Section(Protocol):
    """One entry under `providers:` of fleet.yaml; all that is known of it here is its type."""

    @property
    def type(self) -> str: ...


Factory = Callable[[str, Section, ProviderContext], Provider]


@dataclass(frozen=True)
class BuiltIn:
    """Where an adapter of ours lies, and which extra brings the libraries that it imports."""

    module: str
    attribute: str
    extra: str
    libraries: frozenset[str]


BUILT_IN: Mapping[str, BuiltIn] = {
    "local": BuiltIn(".local.adapter", "LocalProvider", "daemon", frozenset({"structlog"})),
    "aws": BuiltIn(".aws.adapter", "AwsProvider", "aws", frozenset({"boto3", "botocore"})),
    "static": BuiltIn(".static.adapter", "StaticProvider", "daemon", frozenset({"paramiko"})),
    "azure": BuiltIn(".azure.adapter", "AzureProvider", "azure", frozenset({"azure"})),
    "gcp": BuiltIn(".gcp.adapter", "GcpProvider", "gcp", frozenset({"google"})),
    "kubernetes": BuiltIn(
        ".kubernetes.adapter", "KubernetesProvider", "kubernetes", frozenset({"kubernetes", "urllib3"})
    ),
}


def create(name: str, section: Section, context: ProviderContext) -> Provider:
    """The provider that `section` describes. Calls no cloud.

    Raises InvalidConfig when the type is unknown, its library is missing, or the section can't work.
    """
    made = factory(section.type)
    return made(name, _read(made, section), context)


def known_types() -> tuple[str, ...]:
    """Every type that `create` takes, ours and those of installed packages."""
    return tuple(sorted({*BUILT_IN, *announced()}))


def factory(kind: str) -> Factory:
    """What makes providers of type `kind`; a name of ours can't be taken over by another package."""
    if kind in BUILT_IN:
        return _load_built_in(kind, BUILT_IN[kind])
    if kind in announced():
        return _load_entry_point(kind, announced()[kind])
    raise InvalidConfig(
        f"provider type {kind!r} is not known; known types: {', '.join(known_types())}",
        scope=Scope.PROVIDER,
        hint=f"correct the type, or install the package that adds {kind!r} to the group {GROUP}",
    )


def _load_built_in(kind: str, built_in: BuiltIn) -> Factory:
    try:
        loaded: Factory = getattr(import_module(built_in.module, __package__), built_in.attribute)
    except ModuleNotFoundError as error:
        # Only a library of the extra is the user's to install; anything else missing is a fault of ours.
        if (error.name or "").split(".")[0] not in built_in.libraries:
            raise
        command = f"pip install 'hostler[{built_in.extra}]'"
        raise InvalidConfig(
            f"provider {kind!r} needs: {command}", scope=Scope.PROVIDER, hint=f"run: {command}"
        ) from error
    return loaded


def _load_entry_point(kind: str, point: metadata.EntryPoint) -> Factory:
    try:
        loaded: Factory = point.load()
    except Exception as error:  # somebody else's code: whatever it raises is told as its fault
        raise InvalidConfig(
            f"provider {kind!r} of {owner(point)} can't be loaded from {point.value}: {error!r}",
            scope=Scope.PROVIDER,
            hint=f"mend or remove {owner(point)}",
        ) from error
    return loaded


def _read(made: Factory, section: Section) -> Section:
    """The section in the shape that the package's own model gives it."""
    model = model_of(made)
    if model is None or not isinstance(section, ThirdPartyProvider):
        return section
    try:
        read: Section = model.model_validate(section.to_dict())  # type: ignore[assignment]
    except ValidationError as error:
        raise InvalidConfig(f"provider type {section.type!r}: {error}", scope=Scope.PROVIDER) from error
    return read

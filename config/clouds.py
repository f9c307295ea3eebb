"""Shapes of the provider sections whose adapters are not in this release.

They are read in full, so that a typo in them is found too, and then refused by name (`unsupported`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from .fields import Gpus, Settings, Size, Text, Texts, Whole, as_list

AtLeastOne = Annotated[tuple[Text, ...], Field(min_length=1, max_length=100), BeforeValidator(as_list)]


class GcpAuth(Settings):
    """A service account's key file; empty means the machine's own identity."""

    credentials_file: Path | None = None


class GcpProvider(Settings):
    """Compute Engine."""

    type: Literal["gcp"]
    project: Text
    regions: AtLeastOne
    zones: Texts = ()
    auth: GcpAuth = GcpAuth()
    network: Text | None = None
    image: Text | None = None
    machine_types: Texts = ()
    service_account: Text | None = None
    max_instances: Whole | None = None


class AzureProvider(Settings):
    """Azure virtual machines."""

    type: Literal["azure"]
    subscription: Text
    resource_group: Text
    regions: AtLeastOne
    network: Text | None = None
    image: Text | None = None
    vm_sizes: Texts = ()
    max_instances: Whole | None = None


class StaticHost(Settings):
    """One machine reached by SSH: ``user@host`` or ``user@host:port``."""

    ssh: Annotated[Text, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    gpus: Gpus = ()
    cpus: Whole | None = None
    memory: Size | None = None
    key_file: Path | None = None
    known_hosts: Path | None = None


class StaticProvider(Settings):
    """Machines that are there anyway: never bought, never given back."""

    type: Literal["static"]
    hosts: Annotated[tuple[StaticHost, ...], Field(min_length=1, max_length=10_000)]
    max_instances: Whole | None = None


class KubernetesProvider(Settings):
    """Agents as pods."""

    type: Literal["kubernetes"]
    namespace: Text
    context: Text | None = None
    kubeconfig: Path | None = None
    image: Text | None = None
    max_instances: Whole | None = None

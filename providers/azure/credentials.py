"""Who the daemon is to Azure: an application, a managed identity, or whatever azure-identity finds."""

from __future__ import annotations

import os
from typing import Any

from azure.core.credentials import TokenCredential
from azure.identity import (
    CertificateCredential,
    ClientSecretCredential,
    DefaultAzureCredential,
    ManagedIdentityCredential,
)

from ...config.azure import AzureProvider as Section
from ..base import AuthFailed, InvalidConfig, Scope


def credential_of(section: Section) -> TokenCredential:
    """The credential that `auth` describes; asks nobody yet. Raises AuthFailed when a secret is missing."""
    auth, options = section.auth, _options(section)
    if auth.managed_identity is not None:
        identity = None if auth.managed_identity == "system" else auth.managed_identity
        return ManagedIdentityCredential(client_id=identity)
    if auth.tenant is None or auth.client_id is None:
        return DefaultAzureCredential(exclude_interactive_browser_credential=True, **options)
    if auth.client_secret_env is not None:
        return ClientSecretCredential(
            auth.tenant, auth.client_id, _variable(auth.client_secret_env), **options
        )
    return CertificateCredential(auth.tenant, auth.client_id, str(auth.certificate_file), **options)


def verify_of(section: Section) -> bool | str:
    """What the connection is verified with: the system's authorities, or `ca_file`."""
    if section.ca_file is None:
        return True
    if not section.ca_file.is_file():
        raise InvalidConfig(
            f"ca_file {section.ca_file} is not a file", scope=Scope.PROVIDER, hint="correct ca_file"
        )
    return str(section.ca_file)


def _options(section: Section) -> dict[str, Any]:
    options: dict[str, Any] = {"retry_total": 0, "connection_verify": verify_of(section)}
    if section.auth.authority is not None:
        # The list of known authorities is Microsoft's own; another cloud's is not in it.
        options |= {"authority": section.auth.authority, "disable_instance_discovery": True}
    return options


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise AuthFailed(
            f"the environment variable {name} is empty",
            scope=Scope.PROVIDER,
            hint=f"set {name} for the daemon",
        )
    return value

"""`providers.*: {type: azure}` - Azure virtual machines. What belongs to one region is given per region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .daemon import check_web_url
from .fields import Settings, Text, Texts, VariableName, Whole, as_list, either, no_duplicates
from .identity import WithIdentity

DEFAULT_IMAGE = "Canonical:ubuntu-24_04-lts:server:latest"
DEFAULT_ADMIN = "hostler"
DiskType = Literal["StandardSSD_LRS", "Standard_LRS", "Premium_LRS", "StandardSSD_ZRS", "Premium_ZRS"]
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_URN = re.compile(r"[\w.-]+(:[\w.-]+){3}")
_PLACE = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers"
_OWNER = r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers"
_SUBNET = re.compile(rf"{_OWNER}/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+", re.IGNORECASE)
_GROUP = re.compile(rf"{_OWNER}/Microsoft\.Network/networkSecurityGroups/[^/]+", re.IGNORECASE)
_IDENTITY = re.compile(rf"{_OWNER}/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+", re.IGNORECASE)
_IMAGE_ID = re.compile(
    rf"{_OWNER}/Microsoft\.Compute/(images/[^/]+|galleries/[^/]+/images/[^/]+(/versions/[^/]+)?)",
    re.IGNORECASE,
)


def _check_uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise ValueError(f"'{text}' is not an id such as 0b1f6471-1bf0-4dda-aec3-cb9272f09590")
    return text


def _check_region(text: str) -> str:
    zone = re.fullmatch(r"([a-z]+[a-z0-9]*)-\d", text)
    if zone:
        raise ValueError(f"'{text}' is a zone; the region is '{zone[1]}'")
    if not re.fullmatch(r"[a-z][a-z0-9]{2,40}", text):
        raise ValueError(f"'{text}' is not an Azure region; write one such as eastus or westeurope")
    return text


def _check_subnet(text: str) -> str:
    if not _SUBNET.fullmatch(text):
        example = f"{_PLACE}/Microsoft.Network/virtualNetworks/NETWORK/subnets/SUBNET"
        raise ValueError(f"'{text}' is not a subnet's resource id; it must look like {example}")
    return text


def _check_group(text: str) -> str:
    if not _GROUP.fullmatch(text):
        example = f"{_PLACE}/Microsoft.Network/networkSecurityGroups/NAME"
        raise ValueError(f"'{text}' is not a security group's resource id; it must look like {example}")
    return text


def _check_identity(text: str) -> str:
    if not _IDENTITY.fullmatch(text):
        example = f"{_PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/NAME"
        raise ValueError(f"'{text}' is not a managed identity's resource id; it must look like {example}")
    return text


def _check_image(text: str) -> str:
    if not (_URN.fullmatch(text) or _IMAGE_ID.fullmatch(text)):
        raise ValueError(
            f"'{text}' is not an image; write a URN such as {DEFAULT_IMAGE}, "
            f"or the resource id of an image or of a gallery's image"
        )
    return text


def _check_key(text: str) -> str:
    if not re.match(r"(ssh-rsa|ssh-ed25519) [A-Za-z0-9+/]+={0,2}( |$)", text):
        raise ValueError("must be a public key: 'ssh-ed25519 AAAA...' or 'ssh-rsa AAAA...'")
    return text


def _every_region(value: object) -> object:
    """A plain list (or text) belongs to the only region: it is filed under ``*`` until that is known."""
    return value if isinstance(value, Mapping) or value is None else {"*": value}


_ONE = {"type": "string"}
_SEVERAL = {"anyOf": [_ONE, {"type": "array", "items": _ONE}]}
Uuid = Annotated[Text, AfterValidator(_check_uuid)]
Region = Annotated[Text, AfterValidator(_check_region)]
Subnets = Annotated[
    tuple[Annotated[Text, AfterValidator(_check_subnet)], ...],
    Field(min_length=1, max_length=100),
    BeforeValidator(as_list),
]
SubnetsByRegion = Annotated[
    dict[str, Subnets],
    BeforeValidator(_every_region),
    either(_SEVERAL, {"type": "object", "additionalProperties": _SEVERAL}),
]
GroupByRegion = Annotated[
    dict[str, Annotated[Text, AfterValidator(_check_group)]],
    BeforeValidator(_every_region),
    either(_ONE, {"type": "object", "additionalProperties": _ONE}),
]
Url = Annotated[Text, AfterValidator(check_web_url), Field(pattern="^https://")]


class AzureAuth(Settings):
    """How to sign in: an application with a secret or certificate, or a managed identity.

    Empty means azure-identity's own search (environment, workload identity, managed identity, Azure CLI).
    `managed_identity` is ``system`` or the client id of a user-assigned one. `authority` is for other Azure clouds.
    """

    tenant: Uuid | None = None
    client_id: Uuid | None = None
    client_secret_env: VariableName | None = None
    certificate_file: Path | None = None
    managed_identity: Text | None = None
    authority: Url | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> AzureAuth:
        secrets = [self.client_secret_env, self.certificate_file]
        is_application = any(one is not None for one in (self.tenant, self.client_id, *secrets))
        if self.managed_identity is not None and is_application:
            raise ValueError("write managed_identity, or tenant and client_id, not both")
        if is_application and (self.tenant is None or self.client_id is None):
            raise ValueError("tenant and client_id go together; write both")
        if is_application and sum(one is not None for one in secrets) != 1:
            raise ValueError("an application needs exactly one of client_secret_env, certificate_file")
        if self.managed_identity not in (None, "system") and not _UUID.fullmatch(self.managed_identity):
            raise ValueError("managed_identity is 'system' or the client id of a user-assigned identity")
        return self


class AzureProvider(WithIdentity):
    """Virtual machines in one resource group. `vm_sizes` are globs (``Standard_NC*_T4_v3``); empty allows all.

    `zones` limits the availability zones (``1``, ``2``, ``3``). `endpoint_url`, `prices_url` and `ca_file` are for
    other Azure clouds and emulators.
    """

    type: Literal["azure"]
    auth: AzureAuth = AzureAuth()
    subscription: Uuid
    resource_group: Annotated[Text, Field(pattern=r"^[\w.()-]{1,89}[\w()-]$")]
    regions: Annotated[
        tuple[Region, ...],
        Field(min_length=1, max_length=50),
        BeforeValidator(as_list),
        AfterValidator(no_duplicates),
    ]
    zones: Annotated[
        tuple[Annotated[Text, Field(pattern=r"^[1-9]$")], ...],
        Field(max_length=9),
        BeforeValidator(as_list),
        AfterValidator(no_duplicates),
    ] = ()
    subnets: SubnetsByRegion
    security_group: GroupByRegion = Field(default_factory=dict)
    public_ip: bool = False
    image: Annotated[Text, AfterValidator(_check_image)] = DEFAULT_IMAGE
    vm_sizes: Texts = ()
    disk_type: DiskType = "StandardSSD_LRS"
    identities: Annotated[
        tuple[Annotated[Text, AfterValidator(_check_identity)], ...],
        Field(max_length=10),
        BeforeValidator(as_list),
    ] = ()
    admin_username: Annotated[Text, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = DEFAULT_ADMIN
    ssh_public_key: Annotated[Text, AfterValidator(_check_key)] | None = None
    endpoint_url: Url | None = None
    prices_url: Url | None = None
    ca_file: Path | None = None
    max_instances: Whole | None = None

    @model_validator(mode="after")
    def _regional_things_name_their_region(self) -> AzureProvider:
        by_region: dict[str, Mapping[str, Any]] = {
            "subnets": self.subnets,
            "security_group": self.security_group,
        }
        for key, values in by_region.items():
            if "*" in values and len(self.regions) > 1:
                raise ValueError(f"{key} belongs to one region: write it as {{{self.regions[0]}: ..., ...}}")
            stray = next((region for region in values if region not in (*self.regions, "*")), None)
            if stray is not None:
                raise ValueError(f"{key} names '{stray}', which is not in regions")
        missing = [region for region in self.regions if not self.subnets_in(region)]
        if missing:
            raise ValueError(f"subnets has none for {', '.join(missing)}; Azure has no default network")
        return self

    def subnets_in(self, region: str) -> tuple[str, ...]:
        """The subnets to launch into."""
        return self.subnets.get(region) or self.subnets.get("*", ())

    def security_group_in(self, region: str) -> str | None:
        """The security group of every network interface there; None leaves it to the subnet's own."""
        return self.security_group.get(region) or self.security_group.get("*")

    def can_always_prove(self) -> bool:
        """Azure's documents come without the certificate between signer and root: it must be given to us."""
        return self.identity_trust is not None

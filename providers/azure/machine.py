"""The body of the one call that makes a VM with its network interface, disk and address, all tagged as ours."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from typing import Any

from ...config.azure import AzureProvider as Section
from ..base import InvalidConfig, LaunchRequest, Market, Scope
from .images import Image

GIB = 2**30
DEFAULT_DISK_GIB = 50
"""Without a `disk` in the pool: room for an environment with CUDA libraries and a modest data set."""
MAX_CUSTOM_DATA_BYTES = 65_535
"""Azure's own limit, before base64."""
MAX_TAGS = 50
MAX_TAG_NAME_CHARACTERS = 512
MAX_TAG_VALUE_CHARACTERS = 256
MAX_COUNT = 100
NETWORK_API_VERSION = "2020-11-01"
"""By which the compute service makes the network interface and the address for us."""
NAME_TAG = "Name"
"""Carries the VM's name on everything that belongs to it: Azure may lengthen the names of what it makes."""
NO_PRICE_LIMIT = -1
"""As Azure spells it: pay up to the regular price."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,58}[a-z0-9]")
"""Names that we give: a launch token, with a number after it when several are asked for."""
_NOT_IN_TAG_NAMES = re.compile(r"[<>%&\\?/]")


def names_of(request: LaunchRequest) -> tuple[str, ...]:
    """What the VMs of a request are called: the same names for the same token and count."""
    if request.count == 1:
        return (request.token,)
    return tuple(f"{request.token}-{number}" for number in range(1, request.count + 1))


def refuse_what_cannot_work(section: Section, request: LaunchRequest) -> None:
    """Raises InvalidConfig for what Azure would refuse, or worse, take in another sense."""
    if request.offer.region not in section.regions:
        raise InvalidConfig(
            f"region {request.offer.region} is not one of this provider's",
            scope=Scope.REGION,
            hint="add it to regions",
        )
    if not 1 <= request.count <= MAX_COUNT:
        raise InvalidConfig(f"count {request.count}: a launch asks for 1 to {MAX_COUNT} instances")
    for name in names_of(request):
        if not NAME.fullmatch(name):
            raise InvalidConfig(f"token {request.token!r} can't be a VM's name")
    size_bytes = len(request.user_data.encode())
    if size_bytes > MAX_CUSTOM_DATA_BYTES:
        raise InvalidConfig(
            f"user-data has {size_bytes} bytes, Azure takes {MAX_CUSTOM_DATA_BYTES}", scope=Scope.PROVIDER
        )
    _refuse_bad_tags({NAME_TAG: request.token, **request.tags})
    _zone_number(request)


def body_of(section: Section, image: Image, request: LaunchRequest, name: str) -> dict[str, Any]:
    """What `PUT virtualMachines/NAME` is sent: the same for the same request and configuration."""
    tags = {**dict(sorted(request.tags.items())), NAME_TAG: name}
    body: dict[str, Any] = {
        "location": request.offer.region,
        "tags": tags,
        "properties": {
            "hardwareProfile": {"vmSize": request.offer.instance_type},
            "storageProfile": {
                "imageReference": image.reference,
                "osDisk": _disk(section, image, request, name),
            },
            "osProfile": _system(section, request, name),
            "networkProfile": _network(section, request, name, tags),
            **_market(request),
        },
    }
    zone = _zone_number(request)
    if zone:
        body["zones"] = [zone]
    if image.plan is not None:
        body["plan"] = dict(image.plan)
    if section.identities:
        body["identity"] = {
            "type": "UserAssigned",
            "userAssignedIdentities": {one: {} for one in section.identities},
        }
    return body


def _disk(section: Section, image: Image, request: LaunchRequest, name: str) -> dict[str, Any]:
    wanted_gib = DEFAULT_DISK_GIB if request.disk_bytes is None else math.ceil(request.disk_bytes / GIB)
    # It has no tags of its own here: Azure gives a disk that comes with a VM the VM's tags.
    return {
        "name": name,
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "diskSizeGB": max(1, wanted_gib, image.root_gib),
        "managedDisk": {"storageAccountType": section.disk_type},
    }


def _system(section: Section, request: LaunchRequest, name: str) -> dict[str, Any]:
    key = {
        "path": f"/home/{section.admin_username}/.ssh/authorized_keys",
        "keyData": section.ssh_public_key or unmatched_key(request.token),
    }
    return {
        "computerName": name,
        "adminUsername": section.admin_username,
        "customData": base64.b64encode(request.user_data.encode()).decode(),
        "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": [key]}},
    }


def _network(section: Section, request: LaunchRequest, name: str, tags: dict[str, str]) -> dict[str, Any]:
    region = request.offer.region
    address: dict[str, Any] = {"subnet": {"id": _subnet(section, request)}, "primary": True}
    if section.public_ip:
        address["publicIPAddressConfiguration"] = {
            "name": name,
            "sku": {"name": "Standard", "tier": "Regional"},
            "tags": tags,
            "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
        }
    interface: dict[str, Any] = {
        "primary": True,
        "deleteOption": "Delete",
        "ipConfigurations": [{"name": name, "properties": address}],
    }
    group = section.security_group_in(region)
    if group is not None:
        interface["networkSecurityGroup"] = {"id": group}
    return {
        "networkApiVersion": NETWORK_API_VERSION,
        "networkInterfaceConfigurations": [{"name": name, "tags": tags, "properties": interface}],
    }


def _market(request: LaunchRequest) -> dict[str, Any]:
    if request.offer.market is not Market.SPOT:
        return {"priority": "Regular"}
    limit = request.max_usd_per_hour
    # Deallocated machines keep their disk and its bill: what is evicted is deleted.
    return {
        "priority": "Spot",
        "evictionPolicy": "Delete",
        "billingProfile": {"maxPrice": NO_PRICE_LIMIT if limit is None else round(limit, 5)},
    }


def _subnet(section: Section, request: LaunchRequest) -> str:
    """One of the region's subnets, always the same for the same token."""
    choice = section.subnets_in(request.offer.region)
    return choice[int(hashlib.sha256(request.token.encode()).hexdigest(), 16) % len(choice)]


def _zone_number(request: LaunchRequest) -> str:
    region, zone = request.offer.region, request.offer.zone
    if not zone:
        return ""
    number = zone.removeprefix(f"{region}-")
    if not re.fullmatch(r"[1-9]", number):
        raise InvalidConfig(f"'{zone}' is not a zone of {region}; they are {region}-1 ...", scope=Scope.ZONE)
    return number


def _refuse_bad_tags(tags: dict[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise InvalidConfig(f"{len(tags)} tags; Azure takes {MAX_TAGS}", scope=Scope.PROVIDER)
    for name, value in tags.items():
        if _NOT_IN_TAG_NAMES.search(name) or not 0 < len(name) <= MAX_TAG_NAME_CHARACTERS:
            raise InvalidConfig(f"Azure takes no tag named {name!r}", scope=Scope.PROVIDER)
        if len(value) > MAX_TAG_VALUE_CHARACTERS:
            raise InvalidConfig(
                f"tag {name} has {len(value)} characters; Azure takes {MAX_TAG_VALUE_CHARACTERS}",
                scope=Scope.PROVIDER,
            )


def unmatched_key(seed: str) -> str:
    """An SSH public key to which nobody has the private half.

    Azure makes no Linux VM without a password or a key, and ours are not to be logged in to. The point is a hash,
    so that a retry sends the same bytes; its logarithm is as unknown to us as to anyone.
    """
    kind = b"ssh-ed25519"
    point = hashlib.sha256(b"hostler: no login: " + seed.encode()).digest()
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, point))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} no-login"

"""What `hostler doctor` says of a subscription: sign-in, permissions, image, subnets, sizes, prices, quota."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...config.azure import AzureProvider as Section
from ..base import Check, ProviderError
from ..calls import READING
from .client import Client, Json, plain
from .images import Images
from .listing import READ_ALL, Listing
from .offers import Catalogue
from .prices import Prices

PERMISSIONS_VERSION = "2022-04-01"
READ_PERMISSIONS = "Microsoft.Authorization/permissions/read"
READ_SUBNET = "Microsoft.Network/virtualNetworks/subnets/read"
READ_USAGE = "Microsoft.Compute/locations/usages/read"
NEEDED = (
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/publicIPAddresses/read",
)
NEEDED_WITH_ADDRESS = (
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/join/action",
)
SIZES_PRICED = 5
QUOTAS = ("cores", "lowPriorityCores")


class Doctor:
    """Looks at everything a launch will need, in each region, and starts nothing."""

    def __init__(
        self,
        section: Section,
        client: Client,
        images: Images,
        prices: Prices,
        listing: Listing,
        catalogue: Catalogue,
    ) -> None:
        self._section = section
        self._client = client
        self._images = images
        self._prices = prices
        self._listing = listing
        self._catalogue = catalogue

    def checks(self) -> Sequence[Check]:
        """The list first: without sign-in and resource group nothing else is worth asking."""
        listed = _looked("sign-in", lambda: f"{len(self._listing.ours())} VMs of this server")
        if not listed.ok:
            return (listed,)
        return (
            listed,
            self._permissions(),
            self._power_states(),
            *(check for region in self._section.regions for check in self._of(region)),
        )

    def _of(self, region: str) -> Iterator[Check]:
        yield _looked(f"{region} image", lambda: self._images.of(region).name)
        for subnet in self._section.subnets_in(region):
            yield self._subnet(region, subnet)
        yield from self._sizes(region)
        yield self._quota(region)

    def _permissions(self) -> Check:
        """Azure has no dry run; it tells what the caller may do in the resource group."""
        group, name = self._client.group, "permissions"
        path = (
            f"/subscriptions/{self._client.subscription}/resourceGroups/{group}"
            "/providers/Microsoft.Authorization/permissions"
        )
        asked = {"api-version": PERMISSIONS_VERSION}
        try:
            body, _ = self._client.call(
                READ_PERMISSIONS, group, READING, lambda: self._client.get(path, **asked)
            )
        except ProviderError as error:
            return Check(name, ok=False, detail=error.detail, hint=error.hint)
        wanted = (*NEEDED, *(NEEDED_WITH_ADDRESS if self._section.public_ip else ()))
        missing = [action for action in wanted if not allows(body.get("value") or [], action)]
        if missing:
            hint = f"allow them to the daemon's identity on the resource group {group}"
            return Check(name, ok=False, detail=f"missing: {', '.join(missing)}", hint=hint)
        return Check(name, ok=True, detail=f"all {len(wanted)} actions that a launch needs")

    def _power_states(self) -> Check:
        """A daemon runs well without; it then can't see that a machine switched itself off."""
        name = "power states"
        try:
            self._client.pages(
                READ_ALL,
                self._section.regions[0],
                READING,
                lambda **options: self._client.compute.virtual_machines.list_all(
                    status_only="true", **options
                ),
            )
        except ProviderError as error:
            hint = "allow Microsoft.Compute/virtualMachines/read on the subscription to see them"
            return Check(name, ok=True, detail=f"not visible: {error.detail}", hint=hint)
        return Check(name, ok=True, detail="visible")

    def _subnet(self, region: str, subnet: str) -> Check:
        parts = subnet.strip("/").split("/")
        group, network, name = parts[3], parts[7], parts[9]
        looked = f"{region} subnet {network}/{name}"
        try:
            found = self._client.call(
                READ_SUBNET,
                region,
                READING,
                lambda: plain(self._client.network.subnets.get(group, network, name)),
            )
        except ProviderError as error:
            hint = error.hint or "correct subnets of this provider, or allow reading and joining it"
            return Check(looked, ok=False, detail=error.detail, hint=hint)
        properties = found.get("properties") or {}
        prefixes = properties.get("addressPrefixes") or [properties.get("addressPrefix") or ""]
        return Check(looked, ok=True, detail=", ".join(prefixes))

    def _sizes(self, region: str) -> Iterator[Check]:
        name = f"{region} sizes"
        try:
            sizes = [str(row["name"]) for row in self._catalogue.sizes(region)]
        except ProviderError as error:
            yield Check(name, ok=False, detail=error.detail, hint=error.hint)
            return
        hint = "" if sizes else "correct vm_sizes, or ask for the sizes under Quotas in the Azure portal"
        yield Check(name, bool(sizes), f"{len(sizes)} sizes may be had", hint)
        if sizes:
            known = self._prices.of(region, sizes[:SIZES_PRICED])
            hint = "" if known else "let the daemon reach prices.azure.com: without a price nothing is bought"
            yield Check(f"{region} prices", bool(known), f"{len(known)} prices read", hint)

    def _quota(self, region: str) -> Check:
        name = f"{region} quota"
        try:
            rows = self._client.pages(
                READ_USAGE,
                region,
                READING,
                lambda **options: self._client.compute.usage.list(region, **options),
            )
        except ProviderError as error:
            # A daemon runs well without this permission; it only can't say the figures beforehand.
            hint = f"allow {READ_USAGE} on the subscription to see them"
            return Check(name, ok=True, detail=f"not visible: {error.detail}", hint=hint)
        return Check(name, ok=True, detail="; ".join(_figures(rows)))


def allows(permissions: Sequence[Mapping[str, Any]], action: str) -> bool:
    """Whether any of Azure's permission entries has `action` in its actions and not in its exceptions."""
    return any(
        _matches(one.get("actions") or (), action) and not _matches(one.get("notActions") or (), action)
        for one in permissions
    )


def _matches(patterns: Sequence[str], action: str) -> bool:
    """Azure's wildcard stands for any text, slashes too."""
    return any(
        re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) for pattern in patterns
    )


def _figures(rows: Sequence[Json]) -> Iterator[str]:
    for row in rows:
        name = str((row.get("name") or {}).get("value") or "")
        if name in QUOTAS:
            yield f"{name}: {row.get('currentValue')} of {row.get('limit')} vCPUs used"


def _looked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except ProviderError as error:
        return Check(name, ok=False, detail=error.detail, hint=error.hint)

"""What `hostler doctor` says of a Google Cloud project: credentials, permissions, image, network, quota, prices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...config.gcp import GcpProvider as Section
from ..base import Check, ProviderError
from ..calls import READING
from .client import Client
from .images import Images
from .listing import Listing
from .names import last
from .places import Places
from .prices import Prices

PERMISSIONS = (
    "compute.acceleratorTypes.list",
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.machineTypes.list",
    "compute.networks.get",
    "compute.projects.get",
    "compute.regions.get",
    "compute.subnetworks.get",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
    "compute.zones.list",
)
EXTERNAL_IP_PERMISSION = "compute.subnetworks.useExternalIp"
TAGS_PERMISSION = "compute.instances.setTags"
SERVICE_ACCOUNT_PERMISSIONS = ("compute.instances.setServiceAccount", "iam.serviceAccounts.actAs")
TEST_URL = "https://cloudresourcemanager.googleapis.com/v1/projects/{project}:testIamPermissions"
QUOTA_WORDS = ("CPUS", "GPUS", "INSTANCES", "SSD_TOTAL_GB", "IN_USE_ADDRESSES")
MAX_QUOTAS_SHOWN = 20
ROLE_HINT = "give the daemon's service account the role in docs/providers/gcp-role.yaml"


class Doctor:
    """Looks at everything a launch will need, in each region, and starts nothing."""

    def __init__(
        self,
        section: Section,
        client: Client,
        images: Images,
        places: Places,
        prices: Prices,
        listing: Listing,
    ) -> None:
        self._section = section
        self._client = client
        self._images = images
        self._places = places
        self._prices = prices
        self._listing = listing

    def checks(self) -> Sequence[Check]:
        """Credentials first: without them nothing else is worth asking."""
        credentials = _looked("credentials", self._project)
        if not credentials.ok:
            return (credentials,)
        return (
            credentials,
            self._permissions(),
            _looked("list", lambda: f"{len(self._listing.alive())} instances of this server"),
            _looked("image", lambda: self._images.image().name),
            self._catalogue(),
            *(check for region in self._section.regions for check in self._of(region)),
        )

    def _project(self) -> str:
        found = self._client.call("projects.get", self._client.project, READING)
        return f"project {found.name}"

    def _of(self, region: str) -> Iterator[Check]:
        zones = _looked(f"{region} zones", lambda: ", ".join(self._places.zones(region)))
        yield zones
        if zones.ok:
            yield _looked(f"{region} network", lambda: self._network(region))
            yield _looked(f"{region} quota", lambda: self._quota(region))

    def _network(self, region: str) -> str:
        subnetwork = self._section.subnetwork_in(region)
        if subnetwork is not None:
            owner: dict[str, Any] = {"project": subnetwork.split("/")[1]} if "/" in subnetwork else {}
            found = self._client.call(
                "subnetworks.get", region, READING, region=region, subnetwork=last(subnetwork), **owner
            )
            return f"{found.name} ({found.ip_cidr_range})"
        network = self._section.network or "default"
        owner = {"project": network.split("/")[1]} if "/" in network else {}
        found = self._client.call("networks.get", region, READING, network=last(network), **owner)
        return str(found.name)

    def _quota(self, region: str) -> str:
        found = self._client.call("regions.get", region, READING, region=region)
        told = [
            f"{one.metric}: {one.usage:g} of {one.limit:g}"
            for one in found.quotas
            if any(word in one.metric for word in QUOTA_WORDS) and one.limit > 0
        ]
        more = f"; and {len(told) - MAX_QUOTAS_SHOWN} more" if len(told) > MAX_QUOTAS_SHOWN else ""
        return "; ".join(told[:MAX_QUOTAS_SHOWN]) + more

    def _permissions(self) -> Check:
        wanted = self._wanted_permissions()
        url = TEST_URL.format(project=self._client.project)
        try:
            answer = self._client.ask(url, READING, body={"permissions": wanted})
            missing = sorted(set(wanted) - set(answer.get("permissions", [])))
        except ProviderError as error:
            # A daemon runs well without this API; it only can't say beforehand what it may do.
            hint = "gcloud services enable cloudresourcemanager.googleapis.com to see them"
            return Check("permissions", ok=True, detail=f"not visible: {error.detail}", hint=hint)
        if missing:
            return Check("permissions", ok=False, detail=f"missing: {', '.join(missing)}", hint=ROLE_HINT)
        return Check("permissions", ok=True, detail=f"all {len(wanted)} permissions are there")

    def _wanted_permissions(self) -> list[str]:
        wanted = list(PERMISSIONS)
        if self._section.external_ip:
            wanted.append(EXTERNAL_IP_PERMISSION)
        if self._section.network_tags:
            wanted.append(TAGS_PERMISSION)
        if self._section.service_account is not None:
            wanted += SERVICE_ACCOUNT_PERMISSIONS
        return wanted

    def _catalogue(self) -> Check:
        try:
            known = self._prices.read()
        except ProviderError as error:
            return Check("prices", ok=False, detail=error.detail, hint=error.hint)
        regions = {key.region for key in known} & set(self._section.regions)
        missing = sorted(set(self._section.regions) - regions)
        if missing:
            hint = "without a price nothing is bought there"
            return Check("prices", ok=False, detail=f"no prices for {', '.join(missing)}", hint=hint)
        return Check("prices", ok=True, detail=f"{len(known)} prices")


def _looked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except ProviderError as error:
        return Check(name, ok=False, detail=error.detail, hint=error.hint)

"""What `hostler doctor` says of an AWS account: credentials, image, network, permissions, quota, prices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...config.aws import AwsProvider as Section
from ..base import TAG_INTENT, TAG_SERVER, Check, LaunchRequest, Market, Offer, ProviderError
from ..calls import READING
from .client import Client
from .errors import code_of
from .images import Images
from .launch import Launcher
from .listing import Listing
from .networks import Networks
from .prices import Prices

DRY_RUN_PASSED = "DryRunOperation"
DRY_RUN_TYPE = "t3.micro"
QUOTAS = {
    "L-1216C47A": "on-demand vCPUs (A, C, D, H, I, M, R, T, Z)",
    "L-DB2E81BA": "on-demand vCPUs (G, VT)",
    "L-417A185B": "on-demand vCPUs (P)",
    "L-34B43A08": "spot vCPUs (A, C, D, H, I, M, R, T, Z)",
    "L-3819A6DF": "spot vCPUs (G, VT)",
    "L-7212CCBC": "spot vCPUs (P2, P3, P4)",
}


class Doctor:
    """Looks at everything a launch will need, in each region, and starts nothing."""

    def __init__(
        self,
        server_id: str,
        section: Section,
        client: Client,
        images: Images,
        networks: Networks,
        prices: Prices,
        listing: Listing,
        launcher: Launcher,
    ) -> None:
        self._server_id = server_id
        self._section = section
        self._client = client
        self._images = images
        self._networks = networks
        self._prices = prices
        self._listing = listing
        self._launcher = launcher

    def checks(self) -> Sequence[Check]:
        """Credentials first: without them nothing else is worth asking."""
        credentials = _looked("credentials", self._identity)
        if not credentials.ok:
            return (credentials,)
        return (credentials, *(check for region in self._section.regions for check in self._of(region)))

    def _identity(self) -> str:
        answer = self._client.call("sts:get_caller_identity", self._section.regions[0], READING)
        return str(answer.get("Arn", ""))

    def _of(self, region: str) -> Iterator[Check]:
        yield _looked(
            f"{region} list", lambda: f"{len(self._listing.region(region))} instances of this server"
        )
        yield _looked(f"{region} image", lambda: self._images.of(region).id)
        yield _looked(f"{region} network", lambda: ", ".join(sorted(self._networks.of(region))))
        for market in Market:
            yield self._dry_run(region, market)
        yield self._price_list(region)
        yield self._quotas(region)

    def _dry_run(self, region: str, market: Market) -> Check:
        """RunInstances with all our parameters, which EC2 checks and doesn't carry out."""
        name = f"{region} launch {market.value}"
        try:
            zone = min(self._networks.of(region))
            parameters = self._launcher.parameters(self._request(region, zone, market))
            self._client.call("ec2:run_instances", region, READING, **parameters, DryRun=True)
        except ProviderError as error:
            if code_of(error) == DRY_RUN_PASSED:
                return Check(name, ok=True, detail="ec2:RunInstances and tags are permitted (dry run)")
            return Check(name, ok=False, detail=error.detail, hint=error.hint)
        return Check(
            name, ok=False, detail="the dry run was carried out", hint="look for an instance named doctor"
        )

    def _request(self, region: str, zone: str, market: Market) -> LaunchRequest:
        offer = Offer(self._client.name, region, zone, DRY_RUN_TYPE, market, cpus=2.0, memory_bytes=2**30)
        return LaunchRequest(
            "doctor", offer, "#!/bin/sh\n", {TAG_SERVER: self._server_id, TAG_INTENT: "doctor"}
        )

    def _price_list(self, region: str) -> Check:
        known = len(self._prices.on_demand(region))
        hint = "" if known else "allow pricing:GetProducts: without a price nothing is bought on demand"
        return Check(f"{region} prices", bool(known), f"{known} on-demand prices", hint)

    def _quotas(self, region: str) -> Check:
        name = f"{region} quota"
        try:
            found = [f"{label}: {value:g}" for label, value in self._quota_values(region)]
        except ProviderError as error:
            # A daemon runs well without this permission; it only can't say the figures beforehand.
            hint = "allow servicequotas:GetServiceQuota to see them"
            return Check(name, ok=True, detail=f"not visible: {error.detail}", hint=hint)
        return Check(name, ok=True, detail="; ".join(found))

    def _quota_values(self, region: str) -> Iterator[tuple[str, float]]:
        for code, label in QUOTAS.items():
            answer = self._client.call(
                "service-quotas:get_service_quota", region, READING, ServiceCode="ec2", QuotaCode=code
            )
            yield label, float(answer["Quota"]["Value"])


def _looked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except ProviderError as error:
        return Check(name, ok=False, detail=error.detail, hint=error.hint)

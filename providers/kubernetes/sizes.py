"""The sizes of fleet.yaml as offers, and back from an offer to its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...config.kubernetes import KubernetesProvider as Section
from ...config.kubernetes import KubernetesSize
from ..base import Gpu, InvalidConfig, Market, Offer, Scope

ZONE_LABEL = "topology.kubernetes.io/zone"
GKE_SPOT = "cloud.google.com/gke-spot"
AKS_SPOT = "kubernetes.azure.com/scalesetpriority"
SELECTORS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "gke": {"spot": {GKE_SPOT: "true"}, "on_demand": {}},
    "eks": {
        "spot": {"eks.amazonaws.com/capacityType": "SPOT"},
        "on_demand": {"eks.amazonaws.com/capacityType": "ON_DEMAND"},
    },
    "aks": {"spot": {AKS_SPOT: "spot"}, "on_demand": {}},
    "karpenter": {
        "spot": {"karpenter.sh/capacity-type": "spot"},
        "on_demand": {"karpenter.sh/capacity-type": "on-demand"},
    },
}
"""By `spot_nodes` and market: where pods go. AKS taints its spot nodes, so that others keep away by themselves."""
TAINTS: Mapping[str, Mapping[str, str]] = {
    "gke": {"key": GKE_SPOT, "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    "aks": {"key": AKS_SPOT, "operator": "Equal", "value": "spot", "effect": "NoSchedule"},
}


def offers(name: str, section: Section) -> tuple[Offer, ...]:
    """Every size in every zone it names. A region is the namespace: quotas hold there."""
    return tuple(_offer(name, section, size, zone) for size in section.sizes for zone in size.zones or ("",))


def size_of(section: Section, offer: Offer) -> KubernetesSize:
    """The size that `offer` stands for. Raises InvalidConfig when fleet.yaml doesn't have it any more."""
    if offer.region != section.namespace:
        raise InvalidConfig(
            f"namespace {offer.region} is not this provider's, which is {section.namespace}",
            scope=Scope.REGION,
        )
    for size in section.sizes:
        if (size.name, size.market) == (offer.instance_type, offer.market.value):
            if offer.zone not in (size.zones or ("",)):
                raise InvalidConfig(f"size {size.name} isn't offered in zone {offer.zone}", scope=Scope.ZONE)
            return size
    raise InvalidConfig(
        f"there is no size {offer.instance_type} on the market {offer.market.value}",
        scope=Scope.INSTANCE_TYPE,
        hint="add it to sizes of this provider",
    )


def node_selector(section: Section, size: KubernetesSize, zone: str) -> dict[str, str]:
    """What binds pods of `size` to nodes; what the size itself says wins over the preset."""
    preset = SELECTORS.get(section.spot_nodes or "", {}).get(size.market, {})
    return {**preset, **size.node_selector, **({ZONE_LABEL: zone} if zone else {})}


def tolerations(section: Section, size: KubernetesSize) -> list[Any]:
    """Which taints pods of `size` put up with: those of spot and of GPU nodes, and the size's own."""
    found: list[Any] = [dict(toleration) for toleration in size.tolerations]
    taint = TAINTS.get(section.spot_nodes or "")
    if taint is not None and size.market == Market.SPOT.value:
        found.append(dict(taint))
    if size.gpu:
        found.append({"key": size.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    return found


def _offer(name: str, section: Section, size: KubernetesSize, zone: str) -> Offer:
    gpu = Gpu(size.gpu[0].name, int(size.gpu[0].count)) if size.gpu else None
    return Offer(
        provider=name,
        region=section.namespace,
        zone=zone,
        instance_type=size.name,
        market=Market(size.market),
        cpus=size.cpus,
        memory_bytes=size.memory,
        gpu=gpu,
        usd_per_hour=size.usd_per_hour,
    )

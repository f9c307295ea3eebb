"""What the emulated project can buy: zones, machine types, GPUs, images, networks, and the price catalogue."""

from __future__ import annotations

from typing import Any

ZONES = {
    "us-central1": ("us-central1-a", "us-central1-b", "us-central1-c"),
    "europe-west4": ("europe-west4-a", "europe-west4-b"),
}
DISK_TYPES = frozenset({"pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced"})
ACCELERATORS = {"nvidia-tesla-t4": 4, "nvidia-l4": 8, "nvidia-tesla-t4-vws": 4}


def machine(cpus: int, memory_mb: int, card: str = "", cards: int = 0, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"guestCpus": cpus, "memoryMb": memory_mb, "architecture": "X86_64", **more}
    if card:
        found["accelerators"] = [{"guestAcceleratorType": card, "guestAcceleratorCount": cards}]
    return found


MACHINES: dict[str, dict[str, Any]] = {
    "e2-medium": machine(2, 4096, isSharedCpu=True),
    "f1-micro": machine(1, 614, isSharedCpu=True),
    "e2-standard-4": machine(4, 16384),
    "n1-standard-8": machine(8, 30720),
    "n1-standard-96": machine(96, 368640),
    "g2-standard-4": machine(4, 16384, "nvidia-l4", 1),
    "a2-highgpu-1g": machine(12, 87040, "nvidia-tesla-a100", 1),
    "c4-standard-8": machine(8, 30720),
    "t2a-standard-4": machine(4, 16384, architecture="ARM64"),
    "ct5lp-hightpu-1t": machine(24, 49152, "ct5lp", 1),
    "n1-old-8": machine(8, 30720, deprecated={"state": "OBSOLETE"}),
}
IMAGES: dict[tuple[str, str], dict[str, Any]] = {
    ("ubuntu-os-cloud", "ubuntu-2404-noble-amd64-v20260101"): {
        "family": "ubuntu-2404-lts-amd64",
        "diskSizeGb": "10",
        "architecture": "X86_64",
        "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}, {"type": "GVNIC"}],
    },
    ("acme-ml", "legacy-image"): {"diskSizeGb": "80", "architecture": "X86_64"},
}
NETWORKS = frozenset({"default", "research"})
SUBNETWORKS = frozenset({("us-central1", "training"), ("europe-west4", "training")})
SERVICE_ACCOUNTS = frozenset({"default", "tasks@acme-ml.iam.gserviceaccount.com"})

AMERICAS, EUROPE = "us-central1", "europe-west4"


def sku(
    description: str,
    usd: float,
    usage: str = "OnDemand",
    unit: str = "h",
    regions: tuple[str, ...] = (AMERICAS,),
) -> dict[str, Any]:
    """A row of the catalogue in Google's form."""
    price = {"currencyCode": "USD", "units": str(int(usd)), "nanos": round((usd - int(usd)) * 1e9)}
    expression = {"usageUnit": unit, "tieredRates": [{"startUsageAmount": 0, "unitPrice": price}]}
    return {
        "name": f"services/6F81-5844-456A/skus/{abs(hash((description, usage))):X}",
        "skuId": f"{abs(hash((description, usage))):X}",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [{"summary": "", "pricingExpression": expression}],
        "serviceProviderName": "Google",
    }


def catalogue() -> list[dict[str, Any]]:
    """Spot and on-demand prices of the machines above, and rows that must not be taken for them."""
    rows = []
    for series, core, ram in (
        ("N1 Predefined", 0.031611, 0.004237),
        ("E2", 0.021811, 0.002923),
        ("G2", 0.024988, 0.002927),
        ("A2", 0.031611, 0.004237),
        ("C4", 0.033, 0.0037),
    ):
        rows += [
            sku(f"{series} Instance Core running in Americas", core),
            sku(f"{series} Instance Ram running in Americas", ram, unit="GiBy.h"),
            sku(f"Spot Preemptible {series} Instance Core running in Americas", core / 4, "Preemptible"),
            sku(
                f"Spot Preemptible {series} Instance Ram running in Americas",
                ram / 4,
                "Preemptible",
                "GiBy.h",
            ),
        ]
    for card, usd in (("Tesla T4", 0.35), ("L4", 0.560004), ("Tesla A100", 2.933908)):
        spot = f"Nvidia {card} GPU attached to Spot Preemptible VMs running in Americas"
        rows += [sku(f"Nvidia {card} GPU running in Americas", usd), sku(spot, usd / 2, "Preemptible")]
    return [
        *rows,
        sku("N1 Predefined Instance Core running in Netherlands", 0.0347721, regions=(EUROPE,)),
        sku("Commitment v1: N1 Cpu in Americas for 1 Year", 0.001, "Commit1Yr"),
        sku("N1 Custom Instance Core running in Americas", 0.9),
        sku("N1 Predefined Sole Tenancy Instance Core running in Americas", 0.9),
        sku("Nvidia L4 GPU reserved in Calendar Mode in Americas", 0.001),
        sku("Storage PD Capacity", 0.04, unit="GiBy.mo"),
    ]

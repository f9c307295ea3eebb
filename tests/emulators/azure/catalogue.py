"""What the emulated subscription is sold: sizes, prices, images, in Azure's forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REGION = "eastus"
ZONES = ("1", "2", "3")
PUBLISHER, OFFER, SKU = "Canonical", "ubuntu-24_04-lts", "server"
VERSIONS = ("24.04.202610010", "24.04.202611010")


@dataclass(frozen=True)
class Size:
    """A VM size as the emulator sells it."""

    name: str
    vcpus: int
    memory_gb: str
    gpus: int = 0
    spot: bool = True
    architecture: str = "x64"
    generations: str = "V1,V2"
    zones: tuple[str, ...] = ZONES
    usd: float | None = 1.0
    spot_usd: float | None = 0.25


SIZES = (
    Size("Standard_NC4as_T4_v3", 4, "28", 1, usd=0.526, spot_usd=0.2104),
    Size("Standard_NC24ads_A100_v4", 24, "220", 1, generations="V2", usd=3.673, spot_usd=1.4692),
    Size("Standard_NV12ads_A10_v5", 12, "110", 1, usd=0.908, spot_usd=0.2),
    Size("Standard_NV36ads_A10_v5", 36, "440", 1, zones=(), usd=3.2, spot_usd=0.9),
    Size("Standard_D2s_v5", 2, "8", usd=0.096, spot_usd=0.0193),
    Size("Standard_D2ps_v5", 2, "8", architecture="Arm64"),
    Size("Standard_ND96isr_H100_v5", 96, "1900", 8, generations="V2", spot=False, usd=98.32, spot_usd=None),
    Size("Standard_NC8unheard_v9", 8, "56", 1),
)


def sku(size: Size, restrictions: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the list of resource SKUs."""
    told = {
        "vCPUs": str(size.vcpus),
        "MemoryGB": size.memory_gb,
        "CpuArchitectureType": size.architecture,
        "HyperVGenerations": size.generations,
        "LowPriorityCapable": str(size.spot),
        "PremiumIO": "True",
    }
    if size.gpus:
        told["GPUs"] = str(size.gpus)
    return {
        "resourceType": "virtualMachines",
        "name": size.name,
        "tier": "Standard",
        "size": size.name.removeprefix("Standard_"),
        "family": "standardFamily",
        "locations": [REGION],
        "locationInfo": [{"location": REGION, "zones": list(size.zones), "zoneDetails": []}],
        "capabilities": [{"name": name, "value": value} for name, value in told.items()],
        "restrictions": restrictions,
    }


def price_rows(size: Size) -> list[dict[str, Any]]:
    """Rows of the retail price list: Linux and Windows, regular, spot and low priority."""
    rows = []
    for product in ("Virtual Machines Series", "Virtual Machines Series Windows"):
        factor = 2.0 if "Windows" in product else 1.0
        for suffix, usd in (("", size.usd), (" Spot", size.spot_usd), (" Low Priority", size.spot_usd)):
            if usd is not None:
                rows.append(_row(size, product, suffix, usd * factor))
    return rows


def _row(size: Size, product: str, suffix: str, usd: float) -> dict[str, Any]:
    return {
        "currencyCode": "USD",
        "retailPrice": usd,
        "unitPrice": usd,
        "armRegionName": REGION,
        "productName": product,
        "skuName": size.name.removeprefix("Standard_") + suffix,
        "armSkuName": size.name,
        "serviceName": "Virtual Machines",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
    }

"""GPUs by VM size. Azure tells how many, not which: that is in the names of its size families."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..base import Gpu

GIB = 2**30


@dataclass(frozen=True)
class Family:
    """Sizes whose name matches have this GPU. `whole` is false where a size may have a part of one."""

    pattern: re.Pattern[str]
    name: str
    memory_gib: int
    whole: bool = True


def _family(pattern: str, name: str, memory_gib: int, *, whole: bool = True) -> Family:
    return Family(re.compile(rf"Standard_{pattern}", re.IGNORECASE), name, memory_gib, whole)


FAMILIES: tuple[Family, ...] = (
    _family(r"NC\d+as_T4_v3", "T4", 16),
    _family(r"NC\d+ads_A100_v4", "A100-80GB", 80),
    _family(r"NCC?\d+a[di]+s_H100_v5", "H100-NVL", 94),
    _family(r"NC\d+s_v2", "P100", 16),
    _family(r"NC\d+r?s_v3", "V100", 16),
    _family(r"NC\d+r?(_Promo)?", "K80", 12),
    _family(r"ND\d+s", "P40", 24),
    _family(r"ND\d+rs", "P40", 24),
    _family(r"ND\d+rs_v2", "V100-32GB", 32),
    _family(r"ND\d+asr_v4", "A100-40GB", 40),
    _family(r"ND\d+asr_A100_v4", "A100-40GB", 40),
    _family(r"ND\d+amsr_A100_v4", "A100-80GB", 80),
    _family(r"ND\d+i?sr?f?_H100_v5", "H100", 80),
    _family(r"ND\d+i?sr_H200_v5", "H200", 141),
    _family(r"ND\d+i?sr_MI300X_v5", "MI300X", 192),
    _family(r"ND\d+i?sr_(NDR_)?GB200_v6", "GB200", 192),
    _family(r"ND\d+i?sr_(NDR_)?GB300_v6", "GB300", 288),
    _family(r"NV\d+s_v[23]", "M60", 8),
    _family(r"NV\d+(_Promo)?", "M60", 8),
    _family(r"NV(36|72)adm?s_A10_v5", "A10", 24),
    _family(r"NV(6|12|18)ads_A10_v5", "A10", 24, whole=False),
    _family(r"NV\d+as_v4", "MI25", 16, whole=False),
    _family(r"NG\d+a[dm]+s_V620_v1", "V620", 32, whole=False),
)
"""Public documentation of the sizes; a family that is not here is not offered until it is."""


def gpu_of(size: str, count: int) -> Gpu | None:
    """The GPUs of a size that has `count`; None when the family is unknown or has only a part of one."""
    for family in FAMILIES:
        if family.pattern.fullmatch(size):
            return Gpu(family.name, count, family.memory_gib * GIB) if family.whole else None
    return None


def count_of(capabilities: Mapping[str, str]) -> int:
    """How many GPUs Azure says a size has."""
    try:
        return int(float(capabilities.get("GPUs", "0")))
    except ValueError:
        return 0

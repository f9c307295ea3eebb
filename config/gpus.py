"""GPU names and wishes: ``A10G:1|L4:1`` read into `GpuWish` values with one spelling for each GPU."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

KNOWN_GPUS = (
    "A10",
    "A10G",
    "A16",
    "A30",
    "A40",
    "A100-40GB",
    "A100-80GB",
    "A2000",
    "A4000",
    "A4500",
    "A5000",
    "A6000",
    "B200",
    "B300",
    "GB200",
    "GB300",
    "GH200",
    "H100",
    "H100-NVL",
    "H200",
    "H20",
    "K80",
    "L4",
    "L40",
    "L40S",
    "M60",
    "P4",
    "P40",
    "P100",
    "RTX2080TI",
    "RTX3060",
    "RTX3070",
    "RTX3080",
    "RTX3080TI",
    "RTX3090",
    "RTX3090TI",
    "RTX4060TI",
    "RTX4070",
    "RTX4080",
    "RTX4090",
    "RTX5080",
    "RTX5090",
    "RTX5000-ADA",
    "RTX6000-ADA",
    "RTXPRO6000",
    "T4",
    "T4G",
    "TITANRTX",
    "V100",
    "V100-32GB",
    "MI100",
    "MI210",
    "MI250X",
    "MI300X",
    "MI325X",
    "MI355X",
    "GAUDI2",
    "GAUDI3",
)
ALIASES = {
    "A100": "A100-40GB",
    "A100-40": "A100-40GB",
    "A100-80": "A100-80GB",
    "A100-SXM4-40GB": "A100-40GB",
    "A100-SXM4-80GB": "A100-80GB",
    "A100-PCIE-40GB": "A100-40GB",
    "A100-PCIE-80GB": "A100-80GB",
    "H100-80GB": "H100",
    "H100-SXM": "H100",
    "H100-SXM5": "H100",
    "H100-PCIE": "H100",
    "H100-80GB-HBM3": "H100",
    "H200-141GB": "H200",
    "V100-16GB": "V100",
    "V100-SXM2-16GB": "V100",
    "V100-SXM2-32GB": "V100-32GB",
    "P100-PCIE-16GB": "P100",
    "L40-S": "L40S",
    "RTXA6000": "A6000",
    "RTXA5000": "A5000",
    "RTXA4000": "A4000",
    "4090": "RTX4090",
    "3090": "RTX3090",
    "5090": "RTX5090",
    "RTX6000ADA": "RTX6000-ADA",
    "6000ADA": "RTX6000-ADA",
}
NO_GPU = "none"
MAX_GPUS_PER_INSTANCE = 64
MAX_ALTERNATIVES = 32
_NOISE = re.compile(r"^(NVIDIA|AMD|INTEL|TESLA|GEFORCE|QUADRO|INSTINCT|HABANA)[-_ ]+")
_HINT = "write a GPU such as A10G:1, alternatives as A10G:1|L4:1, a share as A10G:0.5, or none"


@dataclass(frozen=True)
class GpuWish:
    """One acceptable kind of GPU: `count` of them (a float; below 1 is a share of one)."""

    name: str
    count: float = 1.0

    def __str__(self) -> str:
        return print_gpus((self,))


def _plain(name: str) -> str:
    """`name` without maker, blanks and case: what two spellings of one GPU have in common."""
    text = name.strip().upper()
    while _NOISE.match(text):
        text = _NOISE.sub("", text)
    text = re.sub(r"[-_ ]+", "-", text)
    return re.sub(r"^(RTX|TITAN|MI|GTX|RTXPRO|GAUDI)-", r"\1", text)


_BY_PLAIN = {_plain(name).replace("-", ""): name for name in KNOWN_GPUS} | {
    _plain(alias).replace("-", ""): name for alias, name in ALIASES.items()
}


def normalise_gpu(name: str) -> str:
    """The one spelling of a GPU (``nvidia tesla t4`` -> ``T4``).

    Raises ValueError for an unknown name, with the nearest known one.
    """
    plain = _plain(name).replace("-", "")
    if plain in _BY_PLAIN:
        return _BY_PLAIN[plain]
    near = difflib.get_close_matches(plain, _BY_PLAIN, n=1, cutoff=0.5)
    hint = f"did you mean '{_BY_PLAIN[near[0]]}'?" if near else f"known names: {', '.join(KNOWN_GPUS)}"
    raise ValueError(f"'{name.strip()}' is not a GPU we know ({hint})")


def parse_gpus(value: object) -> tuple[GpuWish, ...]:
    """The wishes in an expression, in its order; ``none`` (or nothing) is the empty tuple.

    Each is ``NAME`` or ``NAME:COUNT``; a count is a whole number, or a share below 1. Raises ValueError.
    """
    if value is None:
        return ()
    if isinstance(value, tuple) and all(isinstance(wish, GpuWish) for wish in value):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not a GPU expression; {_HINT}")
    if value.strip().lower() == NO_GPU:
        return ()
    parts = value.split("|")
    if len(parts) > MAX_ALTERNATIVES:
        raise ValueError(f"more than {MAX_ALTERNATIVES} alternatives; {_HINT}")
    wishes = tuple(_parse_wish(part) for part in parts)
    names = [wish.name for wish in wishes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice in '{value}'")
    return wishes


def _parse_wish(part: str) -> GpuWish:
    name, colon, count_text = part.strip().partition(":")
    if not name.strip():
        raise ValueError(f"'{part}' names no GPU; {_HINT}")
    if name.strip().lower() == NO_GPU:
        raise ValueError(f"'{NO_GPU}' can't be one of several alternatives; write it alone or leave it out")
    return GpuWish(normalise_gpu(name), _parse_count(count_text.strip()) if colon else 1.0)


def _parse_count(text: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6})?", text):
        raise ValueError(f"'{text}' is not a number of GPUs; {_HINT}")
    count = float(text)
    if count == 0:
        raise ValueError(f"a GPU count of 0 asks for nothing; write '{NO_GPU}' or leave the GPU out")
    if count > 1 and count != math.floor(count):
        raise ValueError(f"{text} GPUs: a share must be below 1, a number above it whole")
    if count > MAX_GPUS_PER_INSTANCE:
        raise ValueError(f"{text} GPUs on one instance: no more than {MAX_GPUS_PER_INSTANCE} exist")
    return count


def print_gpus(wishes: tuple[GpuWish, ...]) -> str:
    """The expression `parse_gpus` reads back as `wishes`."""
    if not wishes:
        return NO_GPU
    return "|".join(f"{wish.name}:{_print_count(wish.count)}" for wish in wishes)


def _print_count(count: float) -> str:
    return str(int(count)) if count == int(count) else f"{count:.6f}".rstrip("0")

"""What users hand to `log` and `config`, made plain: numbers, and parameters with dotted names."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Union

PARAM_TEXT_MAX = 512 * 1024
"""Longer parameter values are cut, with a note of how long they were."""
NESTING_MAX = 16

Number = Union[int, float, str]
"""A metric value as the journal holds it: a finite number, or "nan", "inf", "-inf"."""


def number(value: Any) -> Optional[Number]:
    """A metric's value as the journal holds it; None when it is not a number. Takes NumPy and tensor scalars."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        plain: Any = value
    else:
        plain = _scalar(value)
        if plain is None:
            return None
    if isinstance(plain, int):
        return plain if abs(plain) < 2**63 else float(plain)
    if math.isfinite(plain):
        return float(plain)
    return "nan" if math.isnan(plain) else ("inf" if plain > 0 else "-inf")


def flatten(config: Any) -> Dict[str, Any]:
    """Parameters with nested mappings spelled `outer.inner`; an argparse Namespace or dataclass counts as a mapping."""
    flat: Dict[str, Any] = {}
    _flatten("", as_mapping(config), flat, NESTING_MAX)
    return flat


def as_mapping(config: Any) -> Mapping[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return config
    if hasattr(config, "__dict__"):
        return {key: value for key, value in vars(config).items() if not key.startswith("_")}
    raise TypeError(f"config must be a mapping or an argparse namespace, not {type(config).__name__}")


def _scalar(value: Any) -> Union[int, float, None]:
    item = getattr(value, "item", None)
    try:
        plain = item() if callable(item) else float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several, a string, something else
        return None
    if isinstance(plain, bool):
        return int(plain)
    return plain if isinstance(plain, (int, float)) else None


def _flatten(prefix: str, mapping: Mapping[Any, Any], flat: Dict[str, Any], depth: int) -> None:
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth:
            _flatten(f"{name}.", value, flat, depth - 1)
        else:
            flat[name] = _param(value, depth)


def _param(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return _cut(value) if isinstance(value, str) else value
    plain = number(value)
    if plain is not None:
        return plain
    if isinstance(value, (list, tuple)) and depth:
        return [_param(one, depth - 1) for one in value]
    return _cut(str(value))


def _cut(text: str) -> str:
    if len(text) <= PARAM_TEXT_MAX:
        return text
    return f"{text[:PARAM_TEXT_MAX]}... ({len(text)} characters)"

"""Durations as task.yaml has them, read without the config package, which isn't on the machine."""

from __future__ import annotations

import re

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")


def seconds(value: object) -> float:
    """`90`, `"90s"`, `"1h30m"` -> seconds; nothing or zero -> 0.0 (no limit). Raises ValueError."""
    if not value:
        return 0.0
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value).replace(" ", "")
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        if text.replace(".", "", 1).isdigit():
            return float(text)
        raise ValueError(f"'{value}' is not a duration; write 90s or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)

"""Numbers as people read them: times, durations, money, sizes."""

from __future__ import annotations

import time
from typing import Any, Final

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
NOTHING: Final = "-"


def span(seconds: float | None) -> str:
    """``6m12s``, ``1h05m``, ``2d3h``; at most two units. None: ``-``."""
    if seconds is None:
        return NOTHING
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{max(0.0, seconds):.1f}s" if 0 < seconds < 10 else f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR}h"


def ago(at: float | None, now: float) -> str:
    """``3m ago``, ``in 2h``, ``now``; one unit. None: ``-``."""
    if at is None:
        return NOTHING
    seconds = now - at
    if abs(seconds) < 1:
        return "now"
    return f"{_one_unit(seconds)} ago" if seconds > 0 else f"in {_one_unit(-seconds)}"


def _one_unit(seconds: float) -> str:
    for size, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{name}"
    return f"{int(seconds)}s"


def clock(at: float | None, now: float) -> str:
    """``14:02:05`` in local time; with its date when it is not of the day of `now`."""
    if at is None:
        return NOTHING
    there, here = time.localtime(at), time.localtime(now)
    same_day = (there.tm_year, there.tm_yday) == (here.tm_year, here.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", there)


def usd(dollars: float | None) -> str:
    """``$1.01``; four digits below ten cents, where two would hide it. None: ``-``."""
    if dollars is None:
        return NOTHING
    if 0 < dollars < 0.00005:
        return "<$0.0001"
    if not 0 < abs(dollars) < 0.1:
        return f"${dollars:,.2f}"
    text = f"{dollars:.4f}"
    return "$" + (text[:-2] if text.endswith("00") else text)


def usd_per_hour(dollars: float | None) -> str:
    return NOTHING if dollars is None else f"{usd(dollars)}/h"


def size(size_bytes: int | None) -> str:
    """``1.5 GiB``. None: ``-``."""
    if size_bytes is None:
        return NOTHING
    number, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{size_bytes} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def number(value: Any) -> str:
    """A metric's value: five significant digits, whole numbers whole. None: ``-``."""
    if value is None:
        return NOTHING
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.5g}"


def gpu(wish: Any) -> str:
    """The GPUs of an offer: ``A10G:1``, ``-`` without."""
    if not isinstance(wish, dict) or not wish.get("count"):
        return str(wish) if wish and not isinstance(wish, dict) else NOTHING
    return f"{wish.get('name') or 'any'}:{number(wish['count'])}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

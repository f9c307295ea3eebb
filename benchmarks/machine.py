"""What every table must say of the machine it was measured on."""

from __future__ import annotations

import datetime as dt
import os
import platform


def line() -> str:
    """Date, machine, and how busy it was: figures of a loaded machine are worse than the program is."""
    load = os.getloadavg()[0]
    return (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}  {platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, "
        f"Python {platform.python_version()}"
    )


def at(ordered: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

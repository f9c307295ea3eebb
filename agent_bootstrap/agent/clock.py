"""The only clock that leases and deadlines run on."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since this machine booted, time asleep included; the same in every process until a reboot.

    Never the wall clock: that may be an hour off or jump. Not CLOCK_MONOTONIC where there is better: it stands
    still while a machine is suspended, and a lease doesn't.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

"""What systemd is told (Type=notify): ready, alive, reloading, stopping. Silent without systemd."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

USUAL_TICK_SECONDS_MAX: Final = 30.0
"""Up to here the unit's own WatchdogSec=120 leaves time for several ticks."""
TICKS_PER_WATCHDOG: Final = 4


class Notifier:
    """Sends datagrams to $NOTIFY_SOCKET. A lost one is harmless, so errors of the socket are not raised."""

    def __init__(self, address: str | None = None) -> None:
        name = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        self._address = "\0" + name[1:] if name.startswith("@") else name

    def ready(self, status: str, tick_seconds: float) -> None:
        """Also stretches the watchdog where ticks are further apart than the unit expects."""
        lines = ["READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}"]
        if tick_seconds > USUAL_TICK_SECONDS_MAX:
            lines.append(f"WATCHDOG_USEC={int(tick_seconds * TICKS_PER_WATCHDOG * 1_000_000)}")
        self._send("\n".join(lines))

    def alive(self) -> None:
        """Only the control loop calls this, after a tick that came to its end: a stuck loop must be restarted."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(message.encode(), self._address)
        except OSError:
            return  # systemd notices a missing watchdog ping by itself; the daemon must not fall over it

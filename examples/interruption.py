"""Knowing that this process is asked to stop: the stop file, or SIGTERM where there is none.

A spot machine is reclaimed with a short notice. A task then finds the file named by HOSTLER_STOP_FILE, gets
a SIGTERM, and has the grace time of its task.yaml to publish a checkpoint. Exit code 75 says: run me again, I
go on from there.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType

EXIT_REQUEUE = 75
POLL_SECONDS = 0.05


class Interruption:
    def __init__(self) -> None:
        self._signalled = False
        self._stop_file = Path(os.environ["HOSTLER_STOP_FILE"]) if "HOSTLER_STOP_FILE" in os.environ else None
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True

    @property
    def requested(self) -> bool:
        return self._signalled or (self._stop_file is not None and self._stop_file.exists())

    def wait(self, seconds: float) -> None:
        """Let `seconds` pass, or less when the stop comes first."""
        end = time.monotonic() + seconds
        while not self.requested and (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))

"""Zonal operations, polled by ourselves: the library's futures have no bound and ask Google's own host only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.cloud import compute_v1

from ..calls import READING
from .client import Client

FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 3.0
WAIT_GROWTH = 1.5
DONE = compute_v1.Operation.Status.DONE


class Operations:
    """Waits for operations. `sleep` takes seconds; it may return early, for a daemon that stops."""

    def __init__(self, client: Client, sleep: Callable[[float], object]) -> None:
        self._client = client
        self._sleep = sleep

    def wait(self, zone: str, operation: Any, timeout_seconds: float) -> Any:
        """The operation as it last was: done, or still going on after about `timeout_seconds` of waiting."""
        wait, waited = FIRST_WAIT_SECONDS, 0.0
        while operation.status != DONE and waited < timeout_seconds:
            self._sleep(wait)
            waited += wait
            wait = min(MAX_WAIT_SECONDS, wait * WAIT_GROWTH)
            operation = self._client.call(
                "zoneOperations.get", zone, READING, zone=zone, operation=operation.name
            )
        return operation

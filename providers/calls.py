"""Retries around cloud calls: full jitter, a bounded number of attempts, and at most a tenth more calls in all.

Only errors that say so (`retryable`) are tried again. Capacity, quota, configuration and credentials never are:
another offer, not another attempt, is the answer to them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from .base import ProviderError

T = TypeVar("T")

BASE_SECONDS = 0.5
MAX_WAIT_SECONDS = 60.0
EXTRA_CALLS_SHARE = 0.1
RESERVE_RETRIES = 3.0
"""What a fresh budget holds, so that the very first call may be tried again."""
MAX_SAVED_RETRIES = 20.0
"""A long quiet time must not pay for a storm."""


@dataclass(frozen=True)
class Patience:
    """How often one call is attempted in all, and the longest single wait in seconds."""

    attempts: int
    max_wait_seconds: float = MAX_WAIT_SECONDS


IN_TICK = Patience(attempts=2, max_wait_seconds=1.0)
"""For launches and terminations: the tick has other offers to try, and comes round again by itself."""
READING = Patience(attempts=4, max_wait_seconds=4.0)
"""For lists: without them nothing is done for this provider this tick."""
BACKGROUND = Patience(attempts=6)
"""For offers and prices, which are read off the tick."""


class RetryBudget:
    """A token bucket that each call fills by a tenth and each retry empties by one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = RESERVE_RETRIES

    def earn(self) -> None:
        with self._lock:
            self._tokens = min(MAX_SAVED_RETRIES, self._tokens + EXTRA_CALLS_SHARE)

    def spend(self) -> bool:
        """Take one retry out; False when there is none."""
        with self._lock:
            # A tenth ten times is a hair less than one in binary.
            if self._tokens < 1.0 - 1e-9:
                return False
            self._tokens -= 1.0
            return True


class Calls:
    """Runs cloud calls of one provider under one retry budget. `sleep` and `chance` (0..1) are handed in."""

    def __init__(
        self,
        sleep: Callable[[float], object],
        chance: Callable[[], float] = random.random,
        budget: RetryBudget | None = None,
    ) -> None:
        self._sleep = sleep
        self._chance = chance
        self._budget = budget or RetryBudget()

    def run(self, call: Callable[[], T], patience: Patience) -> T:
        """What `call` gives. Raises its last error when it is not retryable or the patience or budget is out."""
        self._budget.earn()
        retrying = Retrying(
            sleep=self._pause,
            stop=stop_after_attempt(patience.attempts),
            wait=lambda state: self._wait_seconds(state, patience),
            retry=retry_if_exception(_is_retryable),
            before_sleep=self._pay,
            reraise=True,
        )
        return retrying(call)

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _wait_seconds(self, state: RetryCallState, patience: Patience) -> float:
        ceiling = min(patience.max_wait_seconds, BASE_SECONDS * 2.0 ** (state.attempt_number - 1))
        asked = getattr(_error_of(state), "retry_after_seconds", None) or 0.0
        return max(self._chance() * ceiling, min(float(asked), patience.max_wait_seconds))

    def _pay(self, state: RetryCallState) -> None:
        error = _error_of(state)
        if error is not None and not self._budget.spend():
            raise error


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and error.retryable

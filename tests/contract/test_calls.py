"""The retry budget around cloud calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hostler.providers.base import (
    AuthFailed,
    InsufficientCapacity,
    InvalidConfig,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unavailable,
)
from hostler.providers.calls import BACKGROUND, IN_TICK, RESERVE_RETRIES, Calls, Patience, RetryBudget


class Cloud:
    """Fails `failures` times with `error`, then answers."""

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures = failures
        self.error = error
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error()
        return "answer"


def test_a_throttled_call_is_tried_again_and_answers() -> None:
    waits: list[float] = []
    cloud = Cloud(2, lambda: Throttled("slow down"))
    assert Calls(waits.append, lambda: 1.0).run(cloud, BACKGROUND) == "answer"
    assert cloud.asked == 3
    assert waits == [0.5, 1.0]


def test_waits_double_up_to_a_minute_and_chance_shortens_them() -> None:
    waits: list[float] = []
    budget = RetryBudget()
    for _ in range(1000):
        budget.earn()
    cloud = Cloud(9, lambda: Unavailable("gone"))
    assert Calls(waits.append, lambda: 0.5, budget).run(cloud, Patience(attempts=10)) == "answer"
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_wait_that_the_cloud_asks_for_is_kept_within_the_patience() -> None:
    waits: list[float] = []
    cloud = Cloud(1, lambda: Throttled("slow down", retry_after_seconds=300.0))
    Calls(waits.append, lambda: 0.0).run(cloud, Patience(attempts=2, max_wait_seconds=7.0))
    assert waits == [7.0]


@pytest.mark.parametrize(
    "kind", [InsufficientCapacity, QuotaExceeded, InvalidConfig, AuthFailed, ProviderError]
)
def test_what_another_attempt_cannot_mend_is_raised_at_once(kind: type[ProviderError]) -> None:
    waits: list[float] = []
    cloud = Cloud(1, lambda: kind("no"))
    with pytest.raises(kind):
        Calls(waits.append).run(cloud, BACKGROUND)
    assert (cloud.asked, waits) == (1, [])


def test_an_error_that_is_not_the_clouds_is_not_tried_again() -> None:
    cloud = Cloud(1, lambda: ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        Calls(lambda _: None).run(cloud, BACKGROUND)
    assert cloud.asked == 1


def test_attempts_are_bounded() -> None:
    cloud = Cloud(99, lambda: Throttled("slow down"))
    with pytest.raises(Throttled):
        Calls(lambda _: None).run(cloud, IN_TICK)
    assert cloud.asked == IN_TICK.attempts


def test_a_storm_costs_at_most_a_tenth_more_calls() -> None:
    calls = Calls(lambda _: None)
    cloud = Cloud(10**9, lambda: Throttled("slow down"))
    for _ in range(1000):
        with pytest.raises(Throttled):
            calls.run(cloud, BACKGROUND)
    assert 1090 <= cloud.asked <= 1100 + RESERVE_RETRIES

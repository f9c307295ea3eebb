"""The shipped harness, under the name that the tests here have always used."""

from __future__ import annotations

from hostler.providers.testing.harness import (
    DEADLINE_SECONDS,
    Act,
    FaultCase,
    Harness,
    eventually,
    running,
    state_of,
    terminate_all,
)

__all__ = [
    "DEADLINE_SECONDS",
    "Act",
    "FaultCase",
    "Harness",
    "eventually",
    "running",
    "state_of",
    "terminate_all",
]

"""What an adapter's author gives so that the contract's behaviours can be run against the adapter.

Subclass `Harness`: make provider objects, lose a reply, say what faults the cloud can be made to show, and list
everything that is still there. The behaviours in `behaviours` ask for nothing else.
"""

from __future__ import annotations

import itertools
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..base import (
    TAG_INTENT,
    TAG_POOL,
    TAG_SERVER,
    CloudInstance,
    CloudState,
    LaunchRequest,
    Offer,
    Provider,
    ProviderError,
    Scope,
)

DEADLINE_SECONDS = 20.0
Act = Callable[[Provider], object]


@dataclass(frozen=True)
class FaultCase:
    """Something the cloud may say: `arm` makes it say so, `act` runs into it, the rest is what must come out."""

    name: str
    arm: Callable[[], object]
    act: Act
    error: type[ProviderError]
    scope: Scope
    maybe_created: bool = False
    fresh: bool = False
    """Whether only a provider that hasn't asked anything yet runs into it."""


class Harness(ABC):
    """One adapter under test. Each has server ids of its own, so that tests don't see each other's instances."""

    name: str
    offer_capacity: int | None = None
    """How many instances one offer can give at once; None where a test's few are never too many."""

    def __init__(self) -> None:
        self.server_id = f"server-{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count(1)

    @abstractmethod
    def provider(self, server_id: str | None = None) -> Provider:
        """A new provider object, as after a restart of the daemon; of another server when `server_id` is given."""

    @abstractmethod
    def offer(self) -> Offer:
        """Something that can be launched."""

    @abstractmethod
    def user_data(self) -> str:
        """A script that keeps an instance running."""

    @abstractmethod
    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        """The launch takes effect, and nobody learns of it."""

    @abstractmethod
    def fault_cases(self) -> Sequence[FaultCase]:
        """Every kind of fault the cloud can be made to show."""

    @abstractmethod
    def heal(self) -> None:
        """Undo what a fault case armed."""

    @abstractmethod
    def left(self) -> Sequence[str]:
        """All that still costs or runs: instances, disks, requests, processes; seen past the adapter."""

    def token(self) -> str:
        return f"h-{uuid.uuid4().hex[:8]}-{next(self._numbers)}"

    def request(
        self, token: str | None = None, *, server_id: str | None = None, count: int = 1
    ) -> LaunchRequest:
        token = token or self.token()
        tags = {TAG_SERVER: server_id or self.server_id, TAG_POOL: "pool", TAG_INTENT: token}
        return LaunchRequest(token, self.offer(), self.user_data(), tags, disk_bytes=60 * 2**30, count=count)

    def missing_ref(self) -> str:
        """A well-formed ref that names nothing."""
        return "missing"


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Poll until `condition` holds; fail with `what` after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.05)


def state_of(provider: Provider, ref: str) -> CloudState | None:
    return next((one.state for one in provider.instances() if one.ref == ref), None)


def running(provider: Provider) -> list[CloudInstance]:
    return [one for one in provider.instances() if one.state is not CloudState.TERMINATED]


def terminate_all(provider: Provider) -> None:
    for one in running(provider):
        provider.terminate(one.ref)
    eventually(lambda: not running(provider), "every instance terminated")

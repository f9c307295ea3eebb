"""The contract suite as the adapter's author runs it: pytest contract_of_acme.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import hostler_acme  # type: ignore[import-not-found]
import pytest
from hostler.providers.base import (
    CloudState,
    InsufficientCapacity,
    LaunchRequest,
    Offer,
    Provider,
    ProviderContext,
    Scope,
)
from hostler.providers.testing.behaviours import *  # noqa: F403
from hostler.providers.testing.harness import FaultCase, Harness, terminate_all


class AcmeHarness(Harness):
    name = "acme"

    def provider(self, server_id: str | None = None) -> Provider:
        section = hostler_acme.AcmeSection(type="acme", site="lab-7")
        context = ProviderContext(server_id or self.server_id, "/nonexistent")
        made: Provider = hostler_acme.AcmeProvider("acme", section, context)
        return made

    def offer(self) -> Offer:
        return self.provider().offers()[0]

    def user_data(self) -> str:
        return "#!/bin/sh\nexec sleep 600\n"

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        self.provider().launch(request)

    def fault_cases(self) -> Sequence[FaultCase]:
        def sell_out() -> None:
            hostler_acme.CLOUD.sold_out = True

        request = self.request()
        return (
            FaultCase(
                "sold out",
                sell_out,
                lambda provider: provider.launch(request),
                InsufficientCapacity,
                Scope.ZONE,
            ),
        )

    def heal(self) -> None:
        hostler_acme.CLOUD.sold_out = False

    def left(self) -> Sequence[str]:
        machines = hostler_acme.CLOUD.machines.values()
        return [one.ref for one in machines if one.state is not CloudState.TERMINATED]


@pytest.fixture
def harness() -> Iterator[AcmeHarness]:
    made = AcmeHarness()
    yield made
    made.heal()
    terminate_all(made.provider())
    assert made.left() == []

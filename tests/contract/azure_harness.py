"""Azure under the contract: an emulator over TLS, in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract.harness import FaultCase, Harness
from emulators.azure.catalogue import REGION
from emulators.azure.server import AzureServer
from hostler.config.azure import AzureProvider as Section
from hostler.providers.azure.adapter import AzureProvider
from hostler.providers.base import (
    TAG_SERVER,
    AuthFailed,
    Gpu,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Market,
    Offer,
    Provider,
    ProviderContext,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)
from hostler.providers.calls import BACKGROUND, IN_TICK

SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
TENANT = "8d5d3fd5-3a2f-4b27-8f31-2a1c7d1e9c10"
APPLICATION = "5f3c1a6e-9f55-4c0b-8a3e-6d1f2f4f7a21"
GROUP = "training"
SECRET_VARIABLE = "TEST_AZURE_SECRET"
PLACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
SUBNET = f"{PLACE}/Microsoft.Network/virtualNetworks/fleet/subnets/machines"
SIZE = "Standard_NC4as_T4_v3"
ZONE = f"{REGION}-1"

OFFER, REGIONAL, ACCOUNT = Scope.OFFER, Scope.REGION, Scope.PROVIDER
ERROR_TABLE: tuple[tuple[str, int, str, type[ProviderError], Scope, bool], ...] = (
    ("SkuNotAvailable", 409, "", InsufficientCapacity, OFFER, False),
    ("AllocationFailed", 409, "", InsufficientCapacity, OFFER, False),
    ("ZonalAllocationFailed", 409, "", InsufficientCapacity, OFFER, False),
    ("OverconstrainedAllocationRequest", 409, "", InsufficientCapacity, OFFER, False),
    ("OverconstrainedZonalAllocationRequest", 409, "", InsufficientCapacity, OFFER, False),
    ("SpotEvicted", 409, "", InsufficientCapacity, OFFER, False),
    ("SubnetIsFull", 400, "", InsufficientCapacity, REGIONAL, False),
    ("OperationNotAllowed", 409, "lower than the current spot price", InsufficientCapacity, OFFER, False),
    ("OperationNotAllowed", 409, "exceeding approved LowPriorityCores quota", QuotaExceeded, REGIONAL, False),
    ("OperationNotAllowed", 409, "it is being moved", InvalidConfig, OFFER, False),
    ("QuotaExceeded", 409, "", QuotaExceeded, REGIONAL, False),
    ("PublicIPCountLimitReached", 400, "", QuotaExceeded, REGIONAL, False),
    ("TooManyRequests", 429, "", Throttled, REGIONAL, False),
    ("OperationNotAllowed", 429, "too many requests", Throttled, REGIONAL, False),
    (
        "InvalidParameter",
        400,
        "The value of parameter imageReference is invalid",
        InvalidConfig,
        REGIONAL,
        False,
    ),
    (
        "InvalidParameter",
        400,
        "The value for the VM size is invalid",
        InvalidConfig,
        Scope.INSTANCE_TYPE,
        False,
    ),
    ("AvailabilityZoneNotSupported", 400, "", InvalidConfig, Scope.ZONE, False),
    ("ImageNotFound", 404, "", InvalidConfig, REGIONAL, False),
    ("PlatformImageNotFound", 404, "", InvalidConfig, REGIONAL, False),
    ("SubnetNotFound", 404, "", InvalidConfig, REGIONAL, False),
    ("InvalidResourceReference", 400, "", InvalidConfig, REGIONAL, False),
    ("ResourceNotFound", 404, "", InvalidConfig, REGIONAL, False),
    ("ResourceGroupNotFound", 404, "", InvalidConfig, ACCOUNT, False),
    ("SubscriptionNotFound", 404, "", InvalidConfig, ACCOUNT, False),
    ("RequestDisallowedByPolicy", 403, "", InvalidConfig, ACCOUNT, False),
    ("SomethingNobodyHeardOf", 400, "", InvalidConfig, REGIONAL, False),
    ("AuthorizationFailed", 403, "", AuthFailed, ACCOUNT, False),
    ("LinkedAuthorizationFailed", 403, "", AuthFailed, ACCOUNT, False),
    ("InvalidAuthenticationToken", 401, "", AuthFailed, ACCOUNT, False),
    ("ExpiredAuthenticationToken", 401, "", AuthFailed, ACCOUNT, False),
    ("ReadOnlyDisabledSubscription", 409, "", AuthFailed, ACCOUNT, False),
    ("Conflict", 409, "", Unavailable, OFFER, True),
    ("NobodyKnowsWhy", 409, "", Unavailable, OFFER, True),
    ("InternalServerError", 500, "", Unavailable, REGIONAL, True),
    ("ServiceUnavailable", 503, "", Unavailable, REGIONAL, True),
    ("GatewayTimeout", 504, "", Unavailable, REGIONAL, True),
)


class Timeline:
    """Time that passes when somebody waits. Thread-safe enough: each wait adds its seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.waits: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.waits.append(seconds)
            self.now += seconds


class AzureHarness(Harness):
    name = "azure"

    def __init__(self, server: AzureServer, folder: Path) -> None:
        super().__init__()
        self.server = server
        self.folder = folder
        self.cloud = server.fresh()
        self.cloud.subnets.add(SUBNET)
        self.time = Timeline()
        self.cloud.clock = self.time
        self._made: list[AzureProvider] = []

    def section(self, **changes: Any) -> Section:
        given: dict[str, Any] = {
            "type": "azure",
            "auth": {
                "tenant": TENANT,
                "client_id": APPLICATION,
                "client_secret_env": SECRET_VARIABLE,
                "authority": self.server.url,
            },
            "subscription": SUBSCRIPTION,
            "resource_group": GROUP,
            "regions": [REGION],
            "subnets": SUBNET,
            "endpoint_url": self.server.url,
            "prices_url": self.server.url,
            "ca_file": str(self.server.ca_file),
        }
        return Section.model_validate({**given, **changes})

    def provider(self, server_id: str | None = None, **changes: Any) -> AzureProvider:
        context = ProviderContext(server_id or self.server_id, str(self.folder))
        made = AzureProvider(
            "azure",
            self.section(**changes),
            context,
            clock=self.time,
            monotonic=self.time,
            sleep=self.time.sleep,
        )
        self._made.append(made)
        return made

    def close(self) -> None:
        """Let go of every provider's connections."""
        for provider in self._made:
            provider.close()

    def offer(self, market: Market = Market.SPOT) -> Offer:
        return Offer("azure", REGION, ZONE, SIZE, market, 4.0, 28 * 2**30, Gpu("T4", 1), 0.21)

    def user_data(self) -> str:
        return "#!/bin/sh\nsleep 600\n"

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        # The retry would find the first one's work and adopt it: that reply is lost too.
        self.cloud.lose_reply("vm.put")
        self.cloud.lose_reply("vm.put", times=IN_TICK.attempts - 1)
        with pytest.raises(Unavailable) as caught:
            self.provider().launch(request)
        assert caught.value.maybe_created
        self.cloud.heal()

    def fault_cases(self) -> Sequence[FaultCase]:
        launches = [
            FaultCase(
                f"launch {code} {message}",
                self._failing("vm.put", code, status, message),
                lambda provider: provider.launch(self.request()),
                error,
                scope,
                maybe_created,
            )
            for code, status, message, error, scope, maybe_created in ERROR_TABLE
        ]
        return (*launches, *self._accepted_and_failed(), *self._other_verbs())

    def _accepted_and_failed(self) -> Sequence[FaultCase]:
        """Azure says yes, and a little later no."""
        return [
            FaultCase(
                f"operation {code}",
                lambda code=code: self.cloud.exhaust(code, later=True),  # type: ignore[misc]
                lambda provider: provider.launch(self.request()),
                InsufficientCapacity,
                OFFER,
            )
            for code in ("AllocationFailed", "OverconstrainedZonalAllocationRequest")
        ]

    def _other_verbs(self) -> Sequence[FaultCase]:
        def lists(provider: Provider) -> object:
            return provider.instances()

        def ends(provider: Provider) -> object:
            provider.terminate(provider.launch(self.request()).instances[0].ref)
            return None

        def ends_none(provider: Provider) -> object:
            provider.terminate(self.missing_ref())
            return None

        def offers(provider: Provider) -> object:
            return provider.offers()

        cases: tuple[tuple[str, str, int, Any, type[ProviderError], Scope, bool], ...] = (
            ("vm.list", "TooManyRequests", 429, lists, Throttled, REGIONAL, False),
            ("vm.list", "ExpiredAuthenticationToken", 401, lists, AuthFailed, ACCOUNT, False),
            ("vm.list", "InternalServerError", 500, lists, Unavailable, REGIONAL, False),
            ("vm.list", "ResourceGroupNotFound", 404, lists, InvalidConfig, ACCOUNT, False),
            ("disk.list", "AuthorizationFailed", 403, lists, AuthFailed, ACCOUNT, True),
            ("nic.list", "ServiceUnavailable", 503, lists, Unavailable, REGIONAL, True),
            ("vm.delete", "AuthorizationFailed", 403, ends, AuthFailed, ACCOUNT, False),
            ("vm.delete", "ScopeLocked", 409, ends, InvalidConfig, ACCOUNT, False),
            ("vm.get", "ResourceNotFound", 404, ends_none, InstanceNotFound, OFFER, False),
            ("image.get", "ImageNotFound", 404, offers, InvalidConfig, REGIONAL, True),
            ("sku.list", "AuthorizationFailed", 403, offers, AuthFailed, ACCOUNT, False),
            ("token.post", "invalid_client", 401, lists, AuthFailed, ACCOUNT, True),
        )
        return [
            FaultCase(f"{action} {code}", self._failing(action, code, status), act, error, scope, fresh=fresh)
            for action, code, status, act, error, scope, fresh in cases
        ]

    def _failing(self, action: str, code: str, status: int, message: str = "") -> Callable[[], object]:
        def arm() -> None:
            if action == "token.post":
                body = (
                    b'{"error":"invalid_client","error_description":"AADSTS7000222: the secret has expired"}'
                )
                self.cloud.answer(action, body, status=status, times=BACKGROUND.attempts)
            else:
                self.cloud.fail(action, code, status=status, message=message, times=BACKGROUND.attempts)

        return arm

    def heal(self) -> None:
        self.cloud.heal()
        self.cloud.restock()

    def left(self) -> Sequence[str]:
        cloud = self.cloud
        cloud.settle()
        vms = [name for name, vm in cloud.vms.items() if vm.body["tags"].get(TAG_SERVER) == self.server_id]
        shelves = {"disk": cloud.disks, "nic": cloud.nics, "ip": cloud.ips}
        belongings = [
            f"{kind} {name}"
            for kind, shelf in shelves.items()
            for name, one in shelf.items()
            if one["tags"].get(TAG_SERVER) == self.server_id
        ]
        return [*vms, *belongings]

    def missing_ref(self) -> str:
        return "h-nothingofthatname"

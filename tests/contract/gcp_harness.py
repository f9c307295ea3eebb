"""Compute Engine under the contract: an emulator that Google's own schema judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract.harness import Act, FaultCase, Harness
from emulators.gcp.server import GcpServer
from hostler.config.gcp import GcpProvider as Section
from hostler.providers.base import (
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
from hostler.providers.gcp.adapter import GcpProvider
from hostler.providers.gcp.labels import to_labels

REGION, ZONE = "us-central1", "us-central1-a"
NOT_FOUND = "The resource 'projects/p/{}/x' was not found"
GONE = "The resource 'projects/acme-ml/zones/us-central1-a/instances/x' was not found"
MISSING = "Invalid value for field 'resource.{}': 'x'. The referenced resource does not exist."

HTTP_TABLE: tuple[tuple[str, int, str, type[ProviderError], Scope, bool], ...] = (
    ("quotaExceeded", 403, "Quota 'CPUS' exceeded.", QuotaExceeded, Scope.REGION, False),
    ("quotaExceeded", 403, "Quota 'GPUS_ALL_REGIONS' exceeded.", QuotaExceeded, Scope.PROVIDER, False),
    ("rateLimitExceeded", 403, "Quota exceeded for quota metric", Throttled, Scope.REGION, False),
    ("rateLimitExceeded", 429, "Too many requests", Throttled, Scope.REGION, False),
    ("somethingNew", 429, "Too many requests", Throttled, Scope.REGION, False),
    ("forbidden", 403, "Required 'compute.instances.create'", AuthFailed, Scope.PROVIDER, False),
    ("accessNotConfigured", 403, "API has not been used", AuthFailed, Scope.PROVIDER, False),
    ("authError", 401, "Invalid Credentials", AuthFailed, Scope.PROVIDER, False),
    ("invalid", 400, MISSING.format("machineType"), InvalidConfig, Scope.OFFER, False),
    (
        "invalid",
        400,
        MISSING.format("disks[0].initializeParams.sourceImage"),
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    ("notFound", 404, NOT_FOUND.format("global/images"), InvalidConfig, Scope.PROVIDER, False),
    ("notFound", 404, NOT_FOUND.format("regions/r/subnetworks"), InvalidConfig, Scope.REGION, False),
    ("notFound", 404, NOT_FOUND.format("zones/z/machineTypes"), InvalidConfig, Scope.OFFER, False),
    ("notFound", 404, "The resource 'projects/nobody' was not found", InvalidConfig, Scope.PROVIDER, False),
    ("invalid", 400, MISSING.format("serviceAccounts[0].email"), InvalidConfig, Scope.PROVIDER, False),
    (
        "conditionNotMet",
        412,
        "Constraint constraints/compute.vmExternalIpAccess violated",
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    ("badRequest", 400, "nobody heard of this", InvalidConfig, Scope.REGION, False),
    ("backendError", 503, "Backend Error", Unavailable, Scope.REGION, True),
    ("internalError", 500, "Internal Error", Unavailable, Scope.REGION, True),
    ("somethingNew", 502, "Bad Gateway", Unavailable, Scope.REGION, True),
)
OPERATION_TABLE: tuple[tuple[str, str, type[ProviderError], Scope], ...] = (
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "The zone does not have enough resources",
        InsufficientCapacity,
        Scope.ZONE,
    ),
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "(resource type:compute)",
        InsufficientCapacity,
        Scope.ZONE,
    ),
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "A g2-standard-4 VM instance with 1 nvidia-l4 accelerator(s) is currently unavailable",
        InsufficientCapacity,
        Scope.OFFER,
    ),
    ("IP_SPACE_EXHAUSTED", "IP space of the subnetwork is exhausted", InsufficientCapacity, Scope.REGION),
    ("QUOTA_EXCEEDED", "Quota 'PREEMPTIBLE_CPUS' exceeded", QuotaExceeded, Scope.REGION),
    ("QUOTA_EXCEEDED", "Quota 'GPUS_ALL_REGIONS' exceeded", QuotaExceeded, Scope.PROVIDER),
    ("RESOURCE_OPERATION_RATE_EXCEEDED", "Too many operations", Throttled, Scope.REGION),
    ("PERMISSIONS_ERROR", "Required 'iam.serviceAccounts.actAs'", AuthFailed, Scope.PROVIDER),
    ("UNSUPPORTED_OPERATION", "SPOT is not supported for this type", InvalidConfig, Scope.OFFER),
    ("RESOURCE_NOT_FOUND", NOT_FOUND.format("global/networks"), InvalidConfig, Scope.PROVIDER),
    ("INTERNAL_ERROR", "Code 9", Unavailable, Scope.REGION),
)


class GcpHarness(Harness):
    name = "gcp"

    def __init__(self, server: GcpServer, folder: Path) -> None:
        super().__init__()
        self.server = server
        self.cloud = server.cloud
        self.waits: list[float] = []
        self.key_file = folder / "key.json"
        self.key_file.write_text(json.dumps(server.key()))
        server.revoked = False
        self.cloud.reset()

    def section(self, **changes: Any) -> Section:
        given: dict[str, Any] = {
            "type": "gcp",
            "project": self.cloud.project,
            "regions": [REGION],
            "endpoint_url": self.server.url,
            "auth": {"credentials_file": str(self.key_file)},
            "machine_types": ["e2-standard-4", "g2-standard-4"],
        }
        return Section.model_validate({**given, **changes})

    def provider(self, server_id: str | None = None, **changes: Any) -> GcpProvider:
        context = ProviderContext(server_id or self.server_id, "/nonexistent")
        return GcpProvider("gcp", self.section(**changes), context, sleep=self.waits.append)

    def offer(self, market: Market = Market.SPOT) -> Offer:
        return Offer("gcp", REGION, ZONE, "g2-standard-4", market, 4.0, 16 * 2**30, Gpu("L4", 1), 0.3)

    def user_data(self) -> str:
        return "#!/bin/sh\nsleep 600\n"

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        self.cloud.lose_reply("instances.insert", times=IN_TICK.attempts)
        with pytest.raises(Unavailable) as caught:
            self.provider().launch(request)
        assert caught.value.maybe_created

    def fault_cases(self) -> Sequence[FaultCase]:
        def launches(provider: Provider) -> object:
            return provider.launch(self.request())

        http = [
            FaultCase(
                f"launch {status} {reason} {words}",
                self._failing("instances.insert", status, reason, words),
                launches,
                error,
                scope,
                maybe,
            )
            for reason, status, words, error, scope, maybe in HTTP_TABLE
        ]
        operations = [
            FaultCase(f"operation {code} {words}", self._ending(code, words), launches, error, scope)
            for code, words, error, scope in OPERATION_TABLE
        ]
        return (*http, *operations, *self._other_verbs())

    def _ending(self, code: str, words: str) -> Callable[[], object]:
        return lambda: self.cloud.fail_operation(code, words)

    def _other_verbs(self) -> Sequence[FaultCase]:
        def launches(provider: Provider) -> object:
            return provider.launch(self.request())

        def lists(provider: Provider) -> object:
            return provider.instances()

        def ends(provider: Provider) -> object:
            provider.terminate(provider.launch(self.request()).instances[0].ref)
            return None

        def offers(provider: Provider) -> object:
            return provider.offers()

        cases: tuple[tuple[str, int, str, Act, type[ProviderError], Scope, bool], ...] = (
            ("zoneOperations.get", 503, "backendError", launches, Unavailable, Scope.REGION, True),
            ("zoneOperations.get", 403, "forbidden", launches, AuthFailed, Scope.PROVIDER, True),
            ("instances.get", 500, "internalError", launches, Unavailable, Scope.REGION, True),
            ("instances.aggregatedList", 429, "rateLimitExceeded", lists, Throttled, Scope.REGION, False),
            ("instances.aggregatedList", 401, "authError", lists, AuthFailed, Scope.PROVIDER, False),
            ("instances.aggregatedList", 500, "internalError", lists, Unavailable, Scope.REGION, False),
            ("zoneOperations.list", 503, "backendError", lists, Unavailable, Scope.REGION, False),
            ("instances.delete", 403, "forbidden", ends, AuthFailed, Scope.PROVIDER, False),
            ("machineTypes.list", 403, "forbidden", offers, AuthFailed, Scope.PROVIDER, False),
        )
        found = [
            FaultCase(
                f"{method} {status}", self._failing(method, status, reason, reason), act, error, scope, maybe
            )
            for method, status, reason, act, error, scope, maybe in cases
        ]
        gone = self._failing("instances.delete", 404, "notFound", GONE)
        image = self._failing("images.getFromFamily", 404, "notFound", "The resource 'x' was not found")
        return (
            *found,
            FaultCase("deleted meanwhile", gone, ends, InstanceNotFound, Scope.OFFER),
            FaultCase("no image", image, offers, InvalidConfig, Scope.PROVIDER, fresh=True),
        )

    def _failing(self, method: str, status: int, reason: str, words: str) -> Callable[[], object]:
        return lambda: self.cloud.fail(method, status, reason, words, times=3 * BACKGROUND.attempts)

    def heal(self) -> None:
        self.cloud.heal()

    def left(self) -> Sequence[str]:
        mine = to_labels({"hostler:server": self.server_id}).items()
        machines = self.cloud.machines
        alive = [
            name for (_, name), one in machines.instances.items() if mine <= one.shown()["labels"].items()
        ]
        disks = [name for (_, name), labels in machines.disks.items() if mine <= labels.items()]
        return [*alive, *(f"disk {name}" for name in disks)]

    def missing_ref(self) -> str:
        return f"{ZONE}/h-nothing"

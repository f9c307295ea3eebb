"""Kubernetes under the contract: a fake cluster that is as strict as the API's schemas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from contract.harness import Act, FaultCase, Harness
from emulators.kubernetes.cluster import Answer, not_found, status
from emulators.kubernetes.server import KubernetesServer
from hostler.config.kubernetes import KubernetesProvider as Section
from hostler.providers.base import (
    TAG_SERVER,
    AuthFailed,
    Gpu,
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
from hostler.providers.calls import IN_TICK, READING
from hostler.providers.kubernetes.adapter import KubernetesProvider

NAMESPACE = "ml"
GIB = 2**30
SIZES = (
    {"name": "a10g", "cpus": 4, "memory": "16GiB", "gpu": "A10G:1", "market": "spot", "usd_per_hour": 0.35},
    {"name": "a10g", "cpus": 4, "memory": "16GiB", "gpu": "A10G:1", "usd_per_hour": 1.1},
    {"name": "small", "cpus": 0.5, "memory": "1GiB", "usd_per_hour": 0.02, "zones": ["z-1", "z-2"]},
)
_POD = 'pods "h-1" is forbidden: '


def _forbidden(words: str) -> Answer:
    return status(403, "Forbidden", words, kind="pods")


def _invalid(field: str) -> Answer:
    causes = [{"reason": "FieldValueInvalid", "message": "Invalid value", "field": field}]
    return status(422, "Invalid", f'Pod "h-1" is invalid: {field}: Invalid value', kind="Pod", causes=causes)


LAUNCH_FAULTS: tuple[tuple[str, Answer, type[ProviderError], Scope, bool], ...] = (
    ("no credentials", status(401, "Unauthorized", "Unauthorized"), AuthFailed, Scope.PROVIDER, False),
    (
        "no permission",
        _forbidden(
            'pods is forbidden: User "x" cannot create resource "pods" in API group "" in the namespace "ml"'
        ),
        AuthFailed,
        Scope.PROVIDER,
        False,
    ),
    ("anonymous", _forbidden("forbidden: no"), AuthFailed, Scope.PROVIDER, False),
    (
        "quota used up",
        _forbidden(f"{_POD}exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8"),
        QuotaExceeded,
        Scope.REGION,
        False,
    ),
    (
        "quota wants more said",
        _forbidden(f"{_POD}failed quota: q: must specify limits.x"),
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    (
        "limit range",
        _forbidden(f"{_POD}maximum cpu usage per Container is 2, but limit is 4"),
        InvalidConfig,
        Scope.INSTANCE_TYPE,
        False,
    ),
    (
        "pod security",
        _forbidden(f'{_POD}violates PodSecurity "restricted:latest": runAsNonRoot'),
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    (
        "service account",
        _forbidden(f'{_POD}error looking up service account ml/gone: serviceaccount "gone" not found'),
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    (
        "namespace going",
        _forbidden(f"{_POD}unable to create new content in namespace ml because it is being terminated"),
        InvalidConfig,
        Scope.REGION,
        False,
    ),
    (
        "a webhook",
        status(400, "BadRequest", 'admission webhook "x" denied the request: no'),
        InvalidConfig,
        Scope.PROVIDER,
        False,
    ),
    ("namespace gone", not_found("namespaces", NAMESPACE), InvalidConfig, Scope.REGION, False),
    ("template", _invalid("spec.priority"), InvalidConfig, Scope.PROVIDER, False),
    ("amounts", _invalid("spec.containers[0].resources.limits"), InvalidConfig, Scope.INSTANCE_TYPE, False),
    (
        "throttled",
        status(429, "TooManyRequests", "slow down", retryAfterSeconds=1),
        Throttled,
        Scope.PROVIDER,
        False,
    ),
    (
        "a quota met by two",
        status(409, "Conflict", "the object has been modified"),
        Unavailable,
        Scope.OFFER,
        False,
    ),
    (
        "no answer of a webhook",
        status(500, "InternalError", "failed calling webhook"),
        Unavailable,
        Scope.PROVIDER,
        True,
    ),
    (
        "no leader",
        status(503, "ServiceUnavailable", "etcdserver: no leader"),
        Unavailable,
        Scope.PROVIDER,
        True,
    ),
    (
        "too slow",
        status(504, "Timeout", "request did not complete in time"),
        Unavailable,
        Scope.PROVIDER,
        True,
    ),
    ("no JSON", Answer(201, b"<html>"), Unavailable, Scope.PROVIDER, True),
    ("a list", Answer(201, b"[]"), Unavailable, Scope.PROVIDER, True),
    ("another server", Answer(404, b"<html>nginx"), InvalidConfig, Scope.PROVIDER, False),
    ("moved", Answer(302, b"", (("Location", "http://127.0.0.1:9/"),)), Unavailable, Scope.PROVIDER, True),
)


class KubernetesHarness(Harness):
    name = "kubernetes"

    def __init__(self, server: KubernetesServer, folder: Path) -> None:
        super().__init__()
        self.server = server
        self.cluster = server.cluster
        self.cluster.reset()
        self.folder = folder
        self.kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
        self.waits: list[float] = []

    def section(self, **changes: Any) -> Section:
        given: dict[str, Any] = {
            "type": "kubernetes",
            "namespace": NAMESPACE,
            "kubeconfig": str(self.kubeconfig),
            "spot_nodes": "gke",
            "sizes": SIZES,
        }
        return Section.model_validate({**given, **changes})

    def provider(self, server_id: str | None = None, **changes: Any) -> KubernetesProvider:
        context = ProviderContext(server_id or self.server_id, "/nonexistent")
        return KubernetesProvider("k8s", self.section(**changes), context, sleep=self.waits.append)

    def offer(self, market: Market = Market.SPOT) -> Offer:
        return Offer("k8s", NAMESPACE, "", "a10g", market, 4.0, 16 * GIB, Gpu("A10G", 1), 0.35)

    def user_data(self) -> str:
        return "#!/bin/sh\nsleep 600\n"

    def launch_and_lose_the_reply(self, request: LaunchRequest) -> None:
        self.cluster.lose_reply("create", "pods", times=IN_TICK.attempts)
        with pytest.raises(Unavailable) as caught:
            self.provider().launch(request)
        assert caught.value.maybe_created

    def fault_cases(self) -> Sequence[FaultCase]:
        launches = [
            FaultCase(
                name,
                self._answering("create", "pods", answer),
                lambda provider: provider.launch(self.request()),
                error,
                scope,
                maybe_created,
            )
            for name, answer, error, scope, maybe_created in LAUNCH_FAULTS
        ]
        # Last: that a size finds no node is known until the next listing.
        return (*launches, *self._other_verbs(), self._no_node())

    def _no_node(self) -> FaultCase:
        def arm() -> None:
            self.cluster.sizes_without_room.add("a10g")
            token = self.token()
            self.provider().launch(self.request(token))
            self.cluster.age("pods", token, 3_000)

        def act(provider: Provider) -> object:
            provider.instances()
            return provider.launch(self.request())

        return FaultCase("no node", arm, act, InsufficientCapacity, Scope.OFFER)

    def _other_verbs(self) -> Sequence[FaultCase]:
        def lists(provider: Provider) -> object:
            return provider.instances()

        def ends(provider: Provider) -> object:
            provider.terminate(provider.launch(self.request()).instances[0].ref)
            return None

        def launches(provider: Provider) -> object:
            return provider.launch(self.request())

        denied = _forbidden('x is forbidden: User "x" cannot list resource "pods" in API group ""')
        busy = status(429, "TooManyRequests", "slow down", retryAfterSeconds=1)
        broken = status(500, "InternalError", "etcd")
        over = _forbidden('secrets "h-1" is forbidden: exceeded quota: team, requested: secrets=1')
        cases: tuple[tuple[str, str, Answer, Act, type[ProviderError], Scope, bool], ...] = (
            ("list", "pods", busy, lists, Throttled, Scope.PROVIDER, False),
            ("list", "pods", denied, lists, AuthFailed, Scope.PROVIDER, False),
            ("list", "pods", broken, lists, Unavailable, Scope.PROVIDER, False),
            ("list", "configmaps", broken, lists, Unavailable, Scope.PROVIDER, False),
            ("list", "pods", Answer(200, b'{"items": [{}]}'), lists, Unavailable, Scope.PROVIDER, False),
            ("delete", "pods", denied, ends, AuthFailed, Scope.PROVIDER, False),
            ("create", "configmaps", broken, ends, Unavailable, Scope.PROVIDER, False),
            # The pod is made before its secret: it is taken away again, or the launch stays open.
            ("create", "secrets", over, launches, QuotaExceeded, Scope.REGION, False),
            ("create", "secrets", broken, launches, Unavailable, Scope.PROVIDER, True),
            ("get", "configmaps", broken, launches, Unavailable, Scope.PROVIDER, True),
        )
        return [
            FaultCase(
                f"{verb} {resource} {answer.status}",
                self._answering(verb, resource, answer),
                act,
                error,
                scope,
                maybe,
            )
            for verb, resource, answer, act, error, scope, maybe in cases
        ]

    def _answering(self, verb: str, resource: str, answer: Answer) -> Callable[[], object]:
        return lambda: self.cluster.fail(verb, resource, answer, times=READING.attempts)

    def heal(self) -> None:
        self.cluster.heal()

    def left(self) -> Sequence[str]:
        """Pods that run or hold a node, and every secret; not the records of ended ones, which cost nothing."""
        mine = {"hostler.dev/server": self.server_id}
        pods = [
            one["metadata"]["name"]
            for one in self.cluster.all("pods")
            if one["metadata"]["labels"].items() >= mine.items()
            and one["status"]["phase"] not in ("Succeeded", "Failed")
        ]
        secrets = [
            one["metadata"]["name"]
            for one in self.cluster.all("secrets")
            if one["metadata"]["labels"].items() >= mine.items()
        ]
        return [*pods, *secrets]

    def pod(self, token: str) -> dict[str, Any]:
        """The pod of `token` as the cluster has it."""
        return next(one for one in self.cluster.all("pods") if one["metadata"]["name"] == token)

    def tags(self, token: str) -> dict[str, str]:
        return {TAG_SERVER: self.server_id, "hostler:pool": "pool", "hostler:intent": token}

    def missing_ref(self) -> str:
        return f"{NAMESPACE}/h-missing"

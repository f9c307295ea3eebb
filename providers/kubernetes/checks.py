"""What `hostler doctor` says of a cluster: credentials, permissions, each size on trial, quota, pods that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...config.kubernetes import KubernetesProvider as Section
from ..base import TAG_INTENT, TAG_POOL, TAG_SERVER, Check, CloudState, LaunchRequest, Offer, ProviderError
from ..calls import READING
from . import sizes
from .client import Client
from .description import state_of, why
from .launch import Launcher
from .listing import PODS, Listing

NEEDED = (
    *(("pods", verb) for verb in ("create", "get", "list", "delete")),
    ("secrets", "create"),
    *(("configmaps", verb) for verb in ("create", "get", "list", "delete")),
)
"""All that is ever asked of the namespace, as in docs/providers/kubernetes.rbac.yaml."""
RBAC_FILE = "docs/providers/kubernetes.rbac.yaml"
MAX_SAID_WAITING = 3
CREDENTIALS = "credentials"


class Doctor:
    """Looks at everything a launch will need; creates nothing (dry runs)."""

    def __init__(
        self, client: Client, section: Section, server_id: str, listing: Listing, launcher: Launcher
    ) -> None:
        self._client = client
        self._section = section
        self._server_id = server_id
        self._listing = listing
        self._launcher = launcher

    def checks(self) -> Sequence[Check]:
        """Permissions first: without credentials that can be asked for them nothing else is worth asking."""
        permissions = self._permissions()
        if permissions.name == CREDENTIALS:
            return (permissions,)
        tried = (self._dry_run(offer) for offer in sizes.offers(self._client.name, self._section))
        return (permissions, *tried, *self._pods(), self._quota())

    def _permissions(self) -> Check:
        name = "permissions"
        try:
            missing = [
                f"{verb} {resource}"
                for resource, verb in NEEDED
                if not self._client.review(verb, resource, READING)
            ]
        except ProviderError as error:
            return Check(CREDENTIALS, ok=False, detail=error.detail, hint=error.hint)
        if missing:
            detail = f"not permitted in {self._client.namespace}: {', '.join(missing)}"
            return Check(name, ok=False, detail=detail, hint=f"kubectl apply -f {RBAC_FILE}")
        return Check(name, ok=True, detail=f"all {len(NEEDED)} that are needed in {self._client.namespace}")

    def _dry_run(self, offer: Offer) -> Check:
        """Created on trial: admission, quota and schema are asked, nothing is kept."""
        name = f"size {offer.instance_type} {offer.market.value}{' ' if offer.zone else ''}{offer.zone}"
        tags = {TAG_SERVER: self._server_id, TAG_POOL: "doctor", TAG_INTENT: "hostler-doctor"}
        request = LaunchRequest("hostler-doctor", offer, "#!/bin/sh\n", tags)
        try:
            for pod in self._launcher.pods(request):
                self._client.create(PODS, pod, READING, dry_run=True)
        except ProviderError as error:
            return Check(name, ok=False, detail=error.detail, hint=error.hint)
        return Check(name, ok=True, detail=f"a pod of {self._section.image} is accepted (dry run)")

    def _pods(self) -> Iterator[Check]:
        try:
            pods = self._listing.pods()
        except ProviderError as error:
            yield Check("list", ok=False, detail=error.detail, hint=error.hint)
            return
        yield Check("list", ok=True, detail=f"{len(pods)} pods of this server")
        waiting = [(pod, why(pod)) for pod in pods if state_of(pod) is CloudState.PENDING and why(pod)]
        for pod, words in waiting[:MAX_SAID_WAITING]:
            hint = "add nodes (or an autoscaler that does), or correct image, sizes or node selectors"
            yield Check(f"pod {pod['metadata']['name']}", ok=False, detail=words, hint=hint)

    def _quota(self) -> Check:
        try:
            quotas = self._client.all_of("resourcequotas", "", READING)
        except ProviderError as error:
            # A daemon runs well without this permission; it only can't say the figures beforehand.
            return Check("quota", ok=True, detail=f"not visible: {error.detail}")
        said = [f"{quota['metadata']['name']}: {_figures(quota)}" for quota in quotas]
        return Check("quota", ok=True, detail="; ".join(said) or "none")


def _figures(quota: dict[str, Any]) -> str:
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    return ", ".join(f"{key} {used.get(key, '?')} of {hard[key]}" for key in sorted(hard))

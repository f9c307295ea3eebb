"""`providers.*: {type: kubernetes}` - agents as pods of one namespace; nodes are the cluster's matter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator, model_validator

from .fields import Duration, Gpus, Money, Name, Settings, Size, Text, Whole, no_duplicates
from .markets import OfferMarket

DEFAULT_IMAGE = "python:3.12-slim"
DEFAULT_GPU_RESOURCE = "nvidia.com/gpu"
DEFAULT_SCHEDULE_SECONDS = 300.0
DEFAULT_GRACE_SECONDS = 60.0
LEAST_GRACE_SECONDS = 10.0
"""The agent keeps five seconds of it to itself; a checkpoint wants some too."""
MAX_SIZES = 100
MAX_ENTRIES = 100
OUR_PREFIX = "hostler.dev/"
OURS_IN_TEMPLATE = {
    "containers": "write container for the agent's own; other containers would keep the pod from ending",
    "restartPolicy": "it is Never: an instance that ended is replaced by a new one",
    "terminationGracePeriodSeconds": "write termination_grace",
}
OURS_IN_CONTAINER = {
    "name": "it is the agent's",
    "image": "write image",
    "command": "it starts the agent",
    "args": "it starts the agent",
    "resources": "write sizes",
}
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_RESOURCE = r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"

SpotNodes = Literal["gke", "eks", "aks", "karpenter"]
Namespace = Annotated[Text, Field(pattern=_DNS_LABEL, examples=["ml"])]


def _check_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"'{key}' is not a key for labels; write one such as team or example.com/team")
    if key.startswith(OUR_PREFIX):
        raise ValueError(f"'{key}': keys under {OUR_PREFIX} are set by hostler itself")
    return key


def _check_value(value: str) -> str:
    if value and not _LABEL.fullmatch(value):
        raise ValueError(
            f"'{value}' is not a label's value: up to 63 letters, digits, '-', '_' and '.' inside"
        )
    return value


Key = Annotated[Text, AfterValidator(_check_key)]
LabelValue = Annotated[Text, AfterValidator(_check_value)]
Labels = Annotated[dict[Key, LabelValue], Field(max_length=MAX_ENTRIES)]
Annotations = Annotated[dict[Key, Text], Field(max_length=MAX_ENTRIES)]
Selector = Annotated[dict[Text, LabelValue], Field(max_length=MAX_ENTRIES)]
Part = Annotated[dict[Text, JsonValue], Field(max_length=MAX_ENTRIES)]
"""A piece of a manifest in Kubernetes' own words; the API server checks it (`hostler doctor` asks it beforehand)."""


class KubernetesSize(Settings):
    """One kind of pod to offer: what it requests (and is limited to), where it may run, and its price.

    With `zones` there is an offer for each, bound to nodes of that zone; without, the scheduler chooses.
    """

    name: Name
    cpus: Annotated[float, Field(gt=0, le=4_096)]
    memory: Size
    gpu: Gpus = ()
    gpu_resource: Annotated[Text, Field(pattern=_RESOURCE)] = DEFAULT_GPU_RESOURCE
    market: OfferMarket = "on_demand"
    usd_per_hour: Money
    zones: Annotated[
        tuple[LabelValue, ...], Field(max_length=MAX_ENTRIES), AfterValidator(no_duplicates)
    ] = ()
    node_selector: Selector = Field(default_factory=dict)
    tolerations: Annotated[tuple[Part, ...], Field(max_length=MAX_ENTRIES)] = ()

    @model_validator(mode="after")
    def _is_one_pod(self) -> KubernetesSize:
        if len(self.gpu) > 1:
            raise ValueError("gpu: a pod has one kind of GPU, write a single NAME:COUNT")
        if self.gpu and (self.gpu[0].count < 1 or self.gpu[0].count != int(self.gpu[0].count)):
            raise ValueError("gpu: a pod has whole GPUs; shares are for tasks")
        if self.usd_per_hour <= 0:
            raise ValueError(
                "usd_per_hour must be above 0: a zero price is no price (write what its share of a node costs)"
            )
        if self.memory <= 0:
            raise ValueError("memory must be above 0")
        return self


class KubernetesProvider(Settings):
    """`context` of `kubeconfig`; without both, the daemon's own pod's service account, or else kubectl's default.

    `template` is a partial PodSpec and `container` a partial Container, merged into each pod.
    """

    type: Literal["kubernetes"]
    namespace: Namespace
    context: Text | None = None
    kubeconfig: Path | None = None
    image: Annotated[Text, Field(min_length=1)] = DEFAULT_IMAGE
    sizes: Annotated[tuple[KubernetesSize, ...], Field(min_length=1, max_length=MAX_SIZES)]
    spot_nodes: SpotNodes | None = None
    queue_name: LabelValue | None = None
    labels: Labels = Field(default_factory=dict)
    annotations: Annotations = Field(default_factory=dict)
    template: Part = Field(default_factory=dict)
    container: Part = Field(default_factory=dict)
    schedule_timeout: Duration = DEFAULT_SCHEDULE_SECONDS
    termination_grace: Duration = DEFAULT_GRACE_SECONDS
    max_instances: Whole | None = None

    @field_validator("template")
    @classmethod
    def _template_leaves_ours_alone(cls, template: dict[str, Any]) -> dict[str, Any]:
        return _without(template, OURS_IN_TEMPLATE)

    @field_validator("container")
    @classmethod
    def _container_leaves_ours_alone(cls, container: dict[str, Any]) -> dict[str, Any]:
        return _without(container, OURS_IN_CONTAINER)

    @model_validator(mode="after")
    def _sizes_can_be_told_apart_and_found(self) -> KubernetesProvider:
        keys = [(size.name, size.market) for size in self.sizes]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"sizes: '{twice[0]}' is there twice in market {twice[1]}")
        for size in self.sizes:
            if size.market == "spot" and self.spot_nodes is None and not size.node_selector:
                raise ValueError(
                    f"sizes: '{size.name}' is spot, but nothing says which nodes are: "
                    "write spot_nodes (gke, eks, aks, karpenter) or the size's node_selector"
                )
        if self.termination_grace < LEAST_GRACE_SECONDS:
            raise ValueError(f"termination_grace must be at least {LEAST_GRACE_SECONDS:g}s")
        if self.schedule_timeout <= 0:
            raise ValueError("schedule_timeout must be above 0")
        return self


def _without(part: dict[str, Any], ours: dict[str, str]) -> dict[str, Any]:
    stray = next((key for key in part if key in ours), None)
    if stray is not None:
        raise ValueError(f"{stray} can't be set here; {ours[stray]}")
    return part

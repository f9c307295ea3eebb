"""The pod of one instance and the secret with its user-data, as the API server takes them."""

from __future__ import annotations

import base64
from typing import Any

from ...config.kubernetes import KubernetesProvider as Section
from ...config.kubernetes import KubernetesSize
from ..base import InvalidConfig, LaunchRequest, Scope
from . import names, sizes

CONTAINER = "agent"
HOME = "/var/lib/hostler-agent"
BOOT = "/etc/hostler"
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # data loaders pass batches through it; a pod has 64 MiB of it by default
USER_DATA = "user-data"
HOME_VOLUME, BOOT_VOLUME, SHARED_MEMORY_VOLUME = "hostler-home", "hostler-boot", "hostler-shm"
READABLE = 0o444
MAX_USER_DATA_BYTES = 1_000_000
"""A secret takes a little more."""
KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
LEFT_ALONE = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Idle pods are ended by us; a node with a busy one shall not be tidied away under it."""


def pod(section: Section, size: KubernetesSize, request: LaunchRequest, name: str) -> dict[str, Any]:
    """The pod `name` of a launch: the same for the same request and configuration."""
    offer, template = request.offer, dict(section.template)
    own: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": int(section.termination_grace),
        "enableServiceLinks": False,
        # A task that could speak to the API server as this namespace's account would be a way out of its pod.
        "automountServiceAccountToken": template.get("automountServiceAccountToken", False),
        "nodeSelector": _mapping(template, "nodeSelector") | sizes.node_selector(section, size, offer.zone),
        "tolerations": [*_items(template, "tolerations"), *sizes.tolerations(section, size)],
        "volumes": [*_items(template, "volumes"), *_volumes(section, name)],
        "containers": [_container(section, size, request)],
    }
    labels = {
        **section.labels,
        **names.labels_of(request.tags),
        names.SIZE: size.name,
        names.MARKET: offer.market.value,
    }
    if section.queue_name is not None:
        labels[KUEUE_QUEUE] = section.queue_name
    annotations = {
        **LEFT_ALONE,
        **section.annotations,
        names.TAGS: names.write_tags(request.tags),
        names.ZONE: offer.zone,
    }
    metadata = {
        "name": name,
        "namespace": section.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template, **own}}


def secret(made: dict[str, Any], request: LaunchRequest) -> dict[str, Any]:
    """The user-data of the pod `made`, to be collected with it: its owner."""
    metadata = made["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": names.labels_of(request.tags),
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {USER_DATA: base64.b64encode(request.user_data.encode()).decode()},
    }


def refuse_what_cannot_work(request: LaunchRequest) -> None:
    size_bytes = len(request.user_data.encode())
    if size_bytes > MAX_USER_DATA_BYTES:
        raise InvalidConfig(
            f"user-data has {size_bytes} bytes, a secret takes {MAX_USER_DATA_BYTES}", scope=Scope.PROVIDER
        )


def _container(section: Section, size: KubernetesSize, request: LaunchRequest) -> dict[str, Any]:
    given = dict(section.container)
    ours = {
        "HOSTLER_CLOUD": "kubernetes",
        "HOSTLER_HOME": HOME,
        "HOSTLER_LOCAL": "1",
        "HOSTLER_SIGTERM": "preempt",
        "HOSTLER_SIGTERM_SECONDS": f"{int(section.termination_grace)}",
    }
    theirs = [one for one in _items(given, "env") if not isinstance(one, dict) or one.get("name") not in ours]
    amounts = _amounts(section, size, request)
    return {
        **given,
        "name": CONTAINER,
        "image": section.image,
        "command": ["/bin/sh", f"{BOOT}/{USER_DATA}"],
        "env": [*theirs, *({"name": name, "value": value} for name, value in ours.items())],
        # The same, so that the pod is of the class Guaranteed: last to be evicted when a node runs short.
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "volumeMounts": [*_items(given, "volumeMounts"), *_mounts(section)],
    }


def _amounts(section: Section, size: KubernetesSize, request: LaunchRequest) -> dict[str, str]:
    amounts = {"cpu": f"{round(size.cpus * 1000)}m", "memory": str(size.memory)}
    if size.gpu:
        amounts[size.gpu_resource] = str(int(size.gpu[0].count))
    if request.disk_bytes is not None and not _has_volume(section, HOME_VOLUME):
        amounts["ephemeral-storage"] = str(request.disk_bytes)
    return amounts


def _volumes(section: Section, name: str) -> list[dict[str, Any]]:
    secret_source = {
        "secretName": name,
        "defaultMode": READABLE,
        "items": [{"key": USER_DATA, "path": USER_DATA}],
    }
    ours: list[dict[str, Any]] = [{"name": BOOT_VOLUME, "secret": secret_source}]
    if not _has_volume(section, HOME_VOLUME):
        ours.append({"name": HOME_VOLUME, "emptyDir": {}})
    if not _mounts_shared_memory(section):
        ours.append({"name": SHARED_MEMORY_VOLUME, "emptyDir": {"medium": "Memory"}})
    return ours


def _mounts(section: Section) -> list[dict[str, Any]]:
    ours: list[dict[str, Any]] = [
        {"name": BOOT_VOLUME, "mountPath": BOOT, "readOnly": True},
        {"name": HOME_VOLUME, "mountPath": HOME},
    ]
    if not _mounts_shared_memory(section):
        ours.append({"name": SHARED_MEMORY_VOLUME, "mountPath": SHARED_MEMORY})
    return ours


def _has_volume(section: Section, name: str) -> bool:
    volumes = _items(dict(section.template), "volumes")
    return any(isinstance(volume, dict) and volume.get("name") == name for volume in volumes)


def _mounts_shared_memory(section: Section) -> bool:
    mounts = _items(dict(section.container), "volumeMounts")
    return any(isinstance(mount, dict) and mount.get("mountPath") == SHARED_MEMORY for mount in mounts)


def _items(part: dict[str, Any], key: str) -> list[Any]:
    found = part.get(key) or []
    if not isinstance(found, list):
        raise InvalidConfig(f"{key} of template or container must be a list", scope=Scope.PROVIDER)
    return found


def _mapping(part: dict[str, Any], key: str) -> dict[str, Any]:
    found = part.get(key) or {}
    if not isinstance(found, dict):
        raise InvalidConfig(f"{key} of template or container must be a mapping", scope=Scope.PROVIDER)
    return found

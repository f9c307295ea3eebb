"""A pod, or the record of one that is gone, as the port's instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..base import CloudInstance, CloudState
from . import names

ENDED_PHASES = frozenset({"Succeeded", "Failed"})
PHASES = {
    "": CloudState.PENDING,
    "Pending": CloudState.PENDING,
    "Running": CloudState.RUNNING,
    # The node doesn't answer: the agent may well run on. Its own silence is what it is judged by.
    "Unknown": CloudState.RUNNING,
}
DISRUPTED = "DisruptionTarget"
UNSCHEDULED_REASONS = frozenset({"Unschedulable", "SchedulingGated"})


def describe(provider: str, pod: Mapping[str, Any]) -> CloudInstance:
    """The instance that a pod is."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    namespace = str(metadata["namespace"])
    return CloudInstance(
        provider=provider,
        ref=names.ref_of(namespace, str(metadata["name"])),
        state=state_of(pod),
        tags=names.tags_of(pod),
        instance_type=str(labels.get(names.SIZE, "")),
        region=namespace,
        zone=str(annotations.get(names.ZONE, "")),
        market=str(labels.get(names.MARKET, "")),
        launched_at=epoch_of(metadata.get("creationTimestamp")),
        address=str(status.get("podIP") or ""),
        detail=why(pod),
    )


def state_of(pod: Mapping[str, Any]) -> CloudState:
    phase = str((pod.get("status") or {}).get("phase") or "")
    if phase in ENDED_PHASES:
        return CloudState.TERMINATED
    if pod["metadata"].get("deletionTimestamp"):
        return CloudState.STOPPING
    return PHASES[phase]


def why(pod: Mapping[str, Any]) -> str:
    """What the cluster says of the pod's state, in its own words; empty while all is well."""
    status = pod.get("status") or {}
    phase = str(status.get("phase") or "")
    words = list(_of_disruption(status))
    if phase in ENDED_PHASES or status.get("reason"):
        words += [_joined(status), *_of_ended_containers(status)]
    if phase == "Pending":
        words += [*_of_scheduling(status), *_of_waiting_containers(status)]
    return "; ".join(word for word in words if word)


def unscheduled(pod: Mapping[str, Any]) -> str:
    """Why no node takes the pod; empty if one has, or the scheduler hasn't looked yet."""
    return next(_of_scheduling(pod.get("status") or {}), "")


def waiting_reason(pod: Mapping[str, Any]) -> tuple[str, str]:
    """(reason, words) of a container that can't be started; empty if there is none."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"]), _joined(waiting)
    return "", ""


def ended_at(pod: Mapping[str, Any]) -> float | None:
    """When the pod's last container ended, by the cluster's clock; its creation where that isn't told."""
    status = pod.get("status") or {}
    ends = [
        epoch_of(((container.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for container in status.get("containerStatuses") or ()
    ]
    known = [end for end in ends if end is not None]
    return max(known) if known else epoch_of(pod["metadata"].get("creationTimestamp"))


def epoch_of(text: object) -> float | None:
    """Epoch seconds of a time such as ``2026-01-31T12:00:00Z``."""
    return datetime.fromisoformat(str(text)).timestamp() if text else None


def _of_disruption(status: Mapping[str, Any]) -> Iterator[str]:
    for condition in status.get("conditions") or ():
        if condition.get("type") == DISRUPTED and condition.get("status") == "True":
            yield _joined(condition)


def _of_scheduling(status: Mapping[str, Any]) -> Iterator[str]:
    for condition in status.get("conditions") or ():
        is_unscheduled = condition.get("type") == "PodScheduled" and condition.get("status") == "False"
        if is_unscheduled and condition.get("reason") in UNSCHEDULED_REASONS:
            yield _joined(condition)


def _of_waiting_containers(status: Mapping[str, Any]) -> Iterator[str]:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            yield _joined(waiting)


def _of_ended_containers(status: Mapping[str, Any]) -> Iterator[str]:
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            yield f"{container.get('name')} ended with {ended['exitCode']} ({_joined(ended)})"


def _joined(told: Mapping[str, Any]) -> str:
    return ": ".join(str(told[key]) for key in ("reason", "message") if told.get(key))

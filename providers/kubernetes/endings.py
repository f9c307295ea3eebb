"""What stays of an instance whose pod is gone: a small ConfigMap, as EC2 shows a terminated instance for an hour.

Without it a pod that was deleted would be one that never was: nobody could tell an end from a listing that lags, and
its launch, repeated, would make a second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base import CloudInstance, CloudState, ProviderError
from ..calls import IN_TICK, READING
from . import names
from .client import Client
from .description import epoch_of
from .errors import ALREADY_EXISTS, reason_of

KEPT_SECONDS = 3_600.0
"""How long an end is listed; the loop gives an unanswered launch as long to show itself."""
CONFIG_MAPS = "configmaps"
MAX_WHY_CHARACTERS = 2_000


class Endings:
    """Records of ended instances of this server."""

    def __init__(self, client: Client, server_id: str) -> None:
        self._client = client
        self._server_id = server_id

    def record(self, pod: Mapping[str, Any], why: str) -> None:
        """Write down that `pod` ends; the first word stands."""
        try:
            self._client.create(CONFIG_MAPS, _record(pod, why), IN_TICK)
        except ProviderError as error:
            if reason_of(error) != ALREADY_EXISTS:
                raise

    def find(self, name: str) -> CloudInstance | None:
        """The ended instance whose pod was `name`, if there was one of ours."""
        found = self._client.get(CONFIG_MAPS, name, IN_TICK)
        if found is None or not self._is_ours(found):
            return None
        return self.describe(found)

    def all(self) -> list[dict[str, Any]]:
        """Every record, those past their time too."""
        selector = f"{names.selector(self._server_id)},{names.ENDED}=true"
        return [one for one in self._client.all_of(CONFIG_MAPS, selector, READING) if self._is_ours(one)]

    def describe(self, record: Mapping[str, Any]) -> CloudInstance:
        metadata, data = record["metadata"], record.get("data") or {}
        namespace = str(metadata["namespace"])
        return CloudInstance(
            provider=self._client.name,
            ref=names.ref_of(namespace, str(metadata["name"])),
            state=CloudState.TERMINATED,
            tags=names.tags_of(record),
            instance_type=str(metadata["labels"].get(names.SIZE, "")),
            region=namespace,
            zone=str(metadata["annotations"].get(names.ZONE, "")),
            market=str(metadata["labels"].get(names.MARKET, "")),
            launched_at=epoch_of(data.get("launched")),
            detail=str(data.get("why") or ""),
        )

    def forget(self, records: Sequence[Mapping[str, Any]]) -> None:
        for one in records:
            metadata = one["metadata"]
            self._client.delete(CONFIG_MAPS, metadata["name"], IN_TICK, uid=metadata["uid"])

    def _is_ours(self, record: Mapping[str, Any]) -> bool:
        labels = record["metadata"].get("labels") or {}
        return labels.get(names.ENDED) == "true" and names.is_of(record, self._server_id)


def is_old(record: Mapping[str, Any], now: float) -> bool:
    made_at = epoch_of(record["metadata"].get("creationTimestamp"))
    return made_at is not None and now - made_at > KEPT_SECONDS


def _record(pod: Mapping[str, Any], why: str) -> dict[str, Any]:
    metadata = pod["metadata"]
    labels = {
        key: value for key, value in (metadata.get("labels") or {}).items() if key.startswith(names.PREFIX)
    }
    annotations = metadata.get("annotations") or {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {**labels, names.ENDED: "true"},
            "annotations": {key: annotations[key] for key in (names.TAGS, names.ZONE) if key in annotations},
        },
        "data": {
            "launched": str(metadata.get("creationTimestamp") or ""),
            "uid": str(metadata["uid"]),
            "why": why[:MAX_WHY_CHARACTERS],
        },
    }

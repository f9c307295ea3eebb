"""Preemption notices: who says that this machine will be taken away, and how long it has left."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Optional, Protocol

from ...tracking.files import read_json
from .clock import now
from .metadata import Answer, Aws, Azure, Gcp, MetadataFailed, epoch_of
from .settings import Settings

AWS_SECONDS = 120.0
GCP_SECONDS = 30.0
AZURE_SECONDS = 30.0
AZURE_SECONDS_MAX = 900.0
REBALANCE_SECONDS = 600.0
"""A rebalance recommendation names no time: it is an early warning, often none at all."""
CLOUD_POLL_SECONDS = 2.0
LOCAL_POLL_SECONDS = 0.1
AWS_ACTION = "/latest/meta-data/spot/instance-action"
AWS_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


class Notice(NamedTuple):
    """`source` as in wire.PreemptionNotice. `firm`: it will happen; otherwise the server decides what to do."""

    source: str
    seconds_left: float
    firm: bool = True


class Watcher(Protocol):
    poll_seconds: float

    def poll(self) -> Optional[Notice]:
        """A notice that stands now, or None. Raises MetadataFailed."""

    def acknowledge(self) -> None:
        """All is saved: the cloud need not wait. Raises MetadataFailed."""


class AwsWatcher:
    poll_seconds = CLOUD_POLL_SECONDS

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._metadata = Aws(environ)

    def poll(self) -> Notice | None:
        action = self._metadata.get(AWS_ACTION)
        if action.status == 200:
            return Notice("aws-spot", _aws_seconds(action))
        if self._metadata.get(AWS_REBALANCE).status == 200:
            return Notice("aws-rebalance", REBALANCE_SECONDS, firm=False)
        return None

    def acknowledge(self) -> None:
        """AWS takes no answer."""


class GcpWatcher:
    poll_seconds = CLOUD_POLL_SECONDS

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._metadata = Gcp(environ)

    def poll(self) -> Notice | None:
        answer = self._metadata.get("/preempted")
        gone = answer.status == 200 and answer.text.strip().upper() == "TRUE"
        return Notice("gcp", GCP_SECONDS) if gone else None

    def acknowledge(self) -> None:
        """Google takes no answer."""


class AzureWatcher:
    poll_seconds = CLOUD_POLL_SECONDS

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._metadata = Azure(environ)
        self._name = ""
        self._event_id = ""

    def poll(self) -> Notice | None:
        events, at = self._metadata.events()
        for event in events:
            if event.get("EventType") in ("Preempt", "Terminate") and self._concerns_us(
                event.get("Resources")
            ):
                self._event_id = str(event.get("EventId", ""))
                end = epoch_of(str(event.get("NotBefore", "")))
                return Notice("azure", _left(end, at, AZURE_SECONDS, AZURE_SECONDS_MAX))
        return None

    def acknowledge(self) -> None:
        if self._event_id:
            self._metadata.acknowledge(self._event_id)

    def _concerns_us(self, resources: object) -> bool:
        """Events of a whole availability set are shown to each of its machines."""
        if not isinstance(resources, list) or not resources:
            return True
        self._name = self._name or self._metadata.name()
        return not self._name or self._name in resources


class FileWatcher:
    """The local provider's notice: a JSON file that appears."""

    poll_seconds = LOCAL_POLL_SECONDS

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def poll(self) -> Notice | None:
        told = read_json(self._path)
        try:
            return Notice("local", max(0.0, float(told["seconds_left"])))
        except (TypeError, KeyError, ValueError):
            return None

    def acknowledge(self) -> None:
        """Nobody listens."""


class SignalWatcher:
    """Kubernetes' notice: SIGTERM to the pod's first process, with so many seconds from then until SIGKILL."""

    poll_seconds = LOCAL_POLL_SECONDS

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None

    def signalled(self, *_: object) -> None:
        """The signal came; a second one doesn't begin the time anew."""
        if self._end is None:
            self._end = now() + self._seconds

    def poll(self) -> Notice | None:
        return None if self._end is None else Notice("kubernetes", max(0.0, self._end - now()))

    def acknowledge(self) -> None:
        """The kubelet sees it by the end of the process."""


def watchers(settings: Settings, environ: Mapping[str, str]) -> list[Watcher]:
    """Those that this machine's settings call for."""
    found: list[Watcher] = []
    clouds: dict[str, Callable[[Mapping[str, str]], Watcher]]
    clouds = {"aws": AwsWatcher, "gcp": GcpWatcher, "azure": AzureWatcher}
    if settings.cloud in clouds:
        found.append(clouds[settings.cloud](environ))
    if settings.notice_file:
        found.append(FileWatcher(settings.notice_file))
    if settings.sigterm_seconds is not None:
        found.append(SignalWatcher(settings.sigterm_seconds))
    return found


def _aws_seconds(action: Answer) -> float:
    try:
        text = json.loads(action.text)["time"]
        end = dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ValueError, KeyError, TypeError):
        return AWS_SECONDS
    return _left(end, action.at, AWS_SECONDS, AWS_SECONDS)


def _left(end: float | None, at: float | None, usual: float, most: float) -> float:
    """Seconds until `end` by the service's own clock: ours may be an hour off. What can't be is cut to `most`."""
    if end is None:
        return usual
    return min(most, max(0.0, end - (time.time() if at is None else at)))


__all__ = ["MetadataFailed", "Notice", "Watcher", "watchers"]

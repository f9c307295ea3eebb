"""The Provider for Kubernetes: puts the parts of this folder together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from ...config.kubernetes import KubernetesProvider as Section
from ..base import Check, CloudInstance, LaunchRequest, LaunchResult, Offer, ProviderContext
from ..calls import Calls
from . import sizes
from .checks import Doctor
from .client import Client
from .endings import Endings
from .errors import errors_told
from .launch import Launcher
from .listing import Listing
from .termination import Terminator
from .waiting import Waiting


class KubernetesProvider:
    """Provider and Reclaimable. A ref is ``NAMESPACE/POD``. `sleep` waits between retries; `close` cuts it short."""

    def __init__(
        self,
        name: str,
        section: Section,
        context: ProviderContext,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._section = section
        self._closed = threading.Event()
        self._client = Client(name, section, Calls(sleep or self._closed.wait, chance))
        endings = Endings(self._client, context.server_id)
        waiting = Waiting(section.schedule_timeout)
        self._listing = Listing(self._client, context.server_id, endings, waiting, clock)
        self._launcher = Launcher(self._client, section, endings, waiting)
        self._terminator = Terminator(self._client, self._listing, endings, clock)
        self._doctor = Doctor(self._client, section, context.server_id, self._listing, self._launcher)

    def offers(self) -> Sequence[Offer]:
        """The sizes of fleet.yaml; whether a node has room only the scheduler knows, once there is a pod."""
        return sizes.offers(self.name, self._section)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Create the pod whose name is the token, and its secret; a name that is taken by it is adopted."""
        with errors_told("create pods", self._section.namespace, creates=True):
            return self._launcher.launch(request)

    def instances(self) -> Sequence[CloudInstance]:
        """All pods of this server, all pages, with those that ended within the last hour."""
        with errors_told("list pods", self._section.namespace):
            return self._listing.all()

    def terminate(self, ref: str) -> None:
        """Record the end, then delete the pod with its own grace; its secret is collected with it."""
        with errors_told("delete pods", self._section.namespace):
            self._terminator.terminate(ref)

    def reclaim(self, ref: str, notice_seconds: float) -> None:
        """Evict the pod as a node drain would. Throttled while a disruption budget forbids it."""
        with errors_told("create pods/eviction", self._section.namespace):
            self._terminator.evict(ref, notice_seconds)

    def check(self) -> Sequence[Check]:
        """For `hostler doctor`; creates nothing."""
        with errors_told("check", self._section.namespace):
            return self._doctor.checks()

    def close(self) -> None:
        """Cut waits between retries short and let go of connections."""
        self._closed.set()
        self._client.close()

"""The Provider for Compute Engine: puts the parts of this folder together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from ...config.gcp import GcpProvider as Section
from ..base import (
    Check,
    CloudInstance,
    LaunchRequest,
    LaunchResult,
    Offer,
    ProviderContext,
)
from ..calls import Calls
from .checks import Doctor
from .client import Client
from .endings import Ending, Endings
from .errors import errors_told
from .images import Images
from .launch import Launcher
from .listing import Listing, Seen
from .names import Ref, parse_ref
from .offers import Catalogue
from .operations import Operations
from .places import Places
from .prices import Prices
from .termination import Terminator


class GcpProvider:
    """Provider. A ref is ``ZONE/NAME``. `sleep` waits between retries and polls; by default `close` cuts it short."""

    def __init__(
        self,
        name: str,
        section: Section,
        context: ProviderContext,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._project = section.project
        self._closed = threading.Event()
        wait = sleep or self._closed.wait
        server_id = context.server_id
        self._client = client = Client(section, Calls(wait, chance))
        self._seen = Seen()
        self._places = Places(client, section, monotonic)
        images = Images(client, section, monotonic)
        prices = Prices(client, monotonic)
        self._listing = Listing(name, server_id, client, self._places.all_zones)
        self._endings = Endings(name, server_id, client, self._seen, clock)
        self._launcher = Launcher(
            client, section, server_id, images, self._listing, self._endings, Operations(client, wait)
        )
        self._catalogue = Catalogue(name, section, client, images, self._places, prices)
        self._terminator = Terminator(client, server_id, self._listing, self._has_ended, chance)
        self._doctor = Doctor(section, client, images, self._places, prices, self._listing)

    def offers(self) -> Sequence[Offer]:
        """Every allowed machine type in every zone, on both markets, and N1 machines with GPUs attached."""
        with errors_told("offers", self._project):
            return self._catalogue.offers()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """instances.insert under a name and request id made of the token; waits until Compute Engine has decided."""
        with errors_told("launch", request.offer.zone, creates=True):
            result = self._launcher.launch(request)
            self._seen.note({parse_ref(one.ref): one for one in result.instances})
            return result

    def instances(self) -> Sequence[CloudInstance]:
        """All zones, all pages, with those that were deleted or preempted within the last hour."""
        with errors_told("list", self._project):
            alive = self._listing.alive()
            self._seen.note(alive)
            ended = self._endings.among([*self._places.all_zones(), *(ref.zone for ref in alive)])
            gone = (one for ref, one in ended.items() if ref not in alive)
            return (*alive.values(), *gone)

    def terminate(self, ref: str) -> None:
        """instances.delete: its boot disk and its address go with it."""
        with errors_told("terminate", ref):
            self._terminator.terminate(ref)

    def preemptions(self) -> Sequence[Ending]:
        """Preemptions of the last hour among the instances this process has seen: the signal from outside.

        The agent hears of them 30 s before on its machine; this is for who asks after one that said nothing.
        """
        with errors_told("preemptions", self._project):
            return self._endings.preempted(self._places.all_zones())

    def check(self) -> Sequence[Check]:
        """For `hostler doctor`; starts nothing."""
        with errors_told("check", self._project):
            return self._doctor.checks()

    def close(self) -> None:
        """Cut waits between retries short and let go of connections."""
        self._closed.set()
        self._client.close()

    def _has_ended(self, ref: Ref) -> bool:
        return ref in self._endings.among([ref.zone])

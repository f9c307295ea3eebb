"""The Provider for EC2: puts the parts of this folder together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from ...config.aws import AwsProvider as Section
from ..base import (
    Check,
    CloudInstance,
    Forewarning,
    InstanceNotFound,
    LaunchRequest,
    LaunchResult,
    Offer,
    ProviderContext,
)
from ..calls import Calls
from .checks import Doctor
from .client import Client
from .errors import errors_told
from .images import Images
from .interruptions import Interruptions
from .launch import Launcher
from .listing import Listing
from .networks import Networks
from .offers import Catalogue
from .prices import Prices
from .termination import Terminator


class AwsProvider:
    """Provider. A ref is ``REGION/INSTANCE_ID``. `sleep` waits between retries; by default `close` cuts it short."""

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
        self._region = section.regions[0]
        self._regions = section.regions
        self._closed = threading.Event()
        client = Client(name, section, Calls(sleep or self._closed.wait, chance))
        images = Images(client, section, monotonic)
        networks = Networks(client, section, monotonic)
        prices = Prices(client, monotonic)
        self._client = client
        self._listing = Listing(name, context.server_id, section.regions, client)
        self._launcher = Launcher(client, section, images, networks, self._listing)
        self._interruptions = Interruptions(client, section.interruption_queue, section.regions, clock)
        self._catalogue = Catalogue(name, section, client, images, networks, prices)
        self._terminator = Terminator(client, self._listing)
        self._doctor = Doctor(
            context.server_id, section, client, images, networks, prices, self._listing, self._launcher
        )

    def offers(self) -> Sequence[Offer]:
        """Every allowed type in every zone with a subnet of ours, on both markets."""
        with errors_told("offers", self._region):
            return self._catalogue.offers()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """RunInstances with the token as ClientToken; a used token gives the instances it gave before."""
        with errors_told("launch", request.offer.region, creates=True):
            return self._launcher.launch(request)

    def instances(self) -> Sequence[CloudInstance]:
        """All regions, all pages, with those that ended within the last hour."""
        with errors_told("list", self._region):
            return self._listing.all()

    def terminate(self, ref: str) -> None:
        """TerminateInstances, and the end of its spot request."""
        region, slash, instance_id = ref.partition("/")
        if not slash or region not in self._regions:
            raise InstanceNotFound(f"{ref} is not REGION/INSTANCE_ID of a region of provider {self.name}")
        with errors_told("terminate", region):
            self._terminator.terminate(region, instance_id)

    def notices(self) -> Sequence[Forewarning]:
        """Interruption warnings and rebalance recommendations from `interruption_queue`; none without one."""
        with errors_told("notices", self._region):
            return self._interruptions.read()

    def settle(self, forewarnings: Sequence[Forewarning]) -> None:
        """Delete their messages."""
        with errors_told("settle", self._region):
            self._interruptions.settle(forewarnings)

    def check(self) -> Sequence[Check]:
        """For `hostler doctor`; starts nothing."""
        with errors_told("check", self._region):
            return self._doctor.checks()

    def close(self) -> None:
        """Cut waits between retries short and let go of connections."""
        self._closed.set()
        self._client.close()

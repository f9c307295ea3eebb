"""The Provider for Azure: puts the parts of this folder together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from azure.core.credentials import TokenCredential

from ...config.azure import AzureProvider as Section
from ..base import Check, CloudInstance, LaunchRequest, LaunchResult, Offer, ProviderContext
from ..calls import Calls
from .checks import Doctor
from .client import Client
from .endings import Endings
from .errors import errors_told
from .images import Images
from .inventory import Inventory
from .launch import Launcher
from .leftovers import Leftovers
from .listing import Listing
from .offers import Catalogue
from .prices import Prices
from .termination import Terminator

FOLDER = "azure"
"""Under the daemon's state folder; in it one folder for each provider."""


class AzureProvider:
    """Provider. A ref is the VM's name, which is the launch token. `close` cuts waits short by default."""

    def __init__(
        self,
        name: str,
        section: Section,
        context: ProviderContext,
        *,
        credential: TokenCredential | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._region = region = section.regions[0]
        self._closed = threading.Event()
        wait = sleep or self._closed.wait
        client = Client(name, section, Calls(wait, chance), credential)
        endings = Endings(Path(context.state_dir) / FOLDER / name, context.server_id, clock)
        images = Images(client, section, monotonic)
        prices = Prices(client, monotonic)
        listing = Listing(name, context.server_id, region, client, monotonic)
        leftovers = Leftovers(client, listing, region, monotonic)
        self._client = client
        self._terminator = Terminator(client, listing, leftovers, endings, region)
        self._inventory = Inventory(listing, leftovers, endings, self._terminator)
        self._launcher = Launcher(
            client, section, images, listing, endings, self._terminator, monotonic=monotonic, sleep=wait
        )
        self._catalogue = Catalogue(name, section, client, images, prices)
        self._doctor = Doctor(section, client, images, prices, listing, self._catalogue)

    def offers(self) -> Sequence[Offer]:
        """Every allowed size in every zone, on both markets."""
        with errors_told("offers", self._region):
            return self._catalogue.offers()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """One VM for each name made of the token; waits a short while for Azure to say that it has none."""
        with errors_told("launch", request.offer.region, creates=True):
            return self._launcher.launch(request)

    def instances(self) -> Sequence[CloudInstance]:
        """All pages, with those that ended within two hours. Removes what failed creations left behind."""
        with errors_told("list", self._region):
            return self._inventory.all()

    def terminate(self, ref: str) -> None:
        """Delete the VM, and with it interface, address and disk."""
        with errors_told("terminate", self._region):
            self._terminator.terminate(ref)

    def check(self) -> Sequence[Check]:
        """For `hostler doctor`; starts nothing."""
        with errors_told("check", self._region):
            return self._doctor.checks()

    def close(self) -> None:
        """Cut waits short and let go of connections."""
        self._closed.set()
        self._client.close()

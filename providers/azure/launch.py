"""Creation of VMs: one call each that makes all or adopts what the same name made before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from ...config.azure import AzureProvider as Section
from ..base import (
    TAG_INTENT,
    CloudInstance,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    ProviderError,
    Unavailable,
)
from ..calls import IN_TICK, Patience
from .client import Client, Json
from .endings import Endings
from .errors import exists_already, of_operation, retry_after_seconds, told_by
from .images import Image, Images
from .listing import Listing, failure_of, is_stillborn
from .machine import body_of, names_of, refuse_what_cannot_work
from .termination import Terminator

WRITE = "Microsoft.Compute/virtualMachines/write"
EARLY_FAILURE_SECONDS = 20.0
"""How long a launch waits for Azure to find that it has none. What fails later is seen, and removed, by the list."""
POLL_SECONDS = 2.0
MAX_POLL_SECONDS = 10.0
ONCE = Patience(attempts=1)
CREATE_ONLY = {"If-None-Match": "*"}
"""A name that is taken is refused: of two calls with one token only one creates, and nothing is changed afterwards."""

log = structlog.get_logger(__name__)


@dataclass
class Birth:
    """A VM that Azure accepted. `operation_url` tells how it goes on; empty when there is nothing more to learn."""

    vm: Json
    operation_url: str = ""
    wait_seconds: float = POLL_SECONDS


class Launcher:
    """Turns launch requests into VMs. `monotonic` is in seconds.

    `sleep` waits between looks; when it gives True, there is no more waiting.
    """

    def __init__(
        self,
        client: Client,
        section: Section,
        images: Images,
        listing: Listing,
        endings: Endings,
        terminator: Terminator,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self._client = client
        self._section = section
        self._images = images
        self._listing = listing
        self._endings = endings
        self._terminator = terminator
        self._monotonic = monotonic
        self._sleep = sleep

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """See `Provider.launch`. A token that was used before gives what it gave then."""
        refuse_what_cannot_work(self._section, request)
        image = self._images.of(request.offer.region)
        ended, births, errors = self._ask_for_all(image, request)
        self._await_early_failures(request, births, errors)
        made = [*ended, *(self._listing.describe(birth.vm) for birth in births)]
        if not made:
            raise errors[0]
        return LaunchResult(tuple(made), tuple(errors))

    def _ask_for_all(
        self, image: Image, request: LaunchRequest
    ) -> tuple[list[CloudInstance], list[Birth], list[ProviderError]]:
        ended: list[CloudInstance] = []
        births: list[Birth] = []
        endings = self._endings.all()
        for name in names_of(request):
            if name in endings:
                ended.append(endings[name].as_listed())
                continue
            try:
                births.append(self._create(name, image, request))
            except ProviderError as error:
                # What one name is refused the next would be refused too.
                return ended, births, [error]
        return ended, births, []

    def _create(self, name: str, image: Image, request: LaunchRequest) -> Birth:
        body = body_of(self._section, image, request, name)
        region, group = request.offer.region, self._client.group

        def ask() -> Birth:
            poller = self._client.compute.virtual_machines.begin_create_or_update(
                group, name, body, headers=dict(CREATE_ONLY), polling=False, cls=_birth
            )
            made: Birth = poller.result()
            return made

        try:
            return self._client.call(WRITE, region, IN_TICK, ask, creates=True)
        except ProviderError as error:
            if not exists_already(error):
                raise
            return self._adopt(name, request, error)

    def _adopt(self, name: str, request: LaunchRequest, error: ProviderError) -> Birth:
        """There is one of that name: ours from an earlier call, or not ours at all."""
        try:
            vm = self._listing.one(name)
        except ProviderError as unseen:
            unseen.maybe_created = True
            raise
        if vm is None:
            raise Unavailable(
                f"{name} is taken and not visible yet: {error.detail}", maybe_created=True
            ) from error
        wanted = request.tags.get(TAG_INTENT, "")
        if not self._listing.is_ours(vm) or self._listing.describe(vm).intent != wanted:
            raise InvalidConfig(
                f"a VM named {name} that is not of this launch is in {self._client.group}",
                hint="remove it, or give each server a resource group of its own",
            )
        if is_stillborn(vm):
            self._clean_up(vm)
            raise of_operation(failure_of(vm), WRITE, request.offer.region)
        return Birth(vm)

    def _await_early_failures(
        self, request: LaunchRequest, births: list[Birth], errors: list[ProviderError]
    ) -> None:
        """Watch until each is settled or the time is up; those that failed leave `births`."""
        deadline = self._monotonic() + EARLY_FAILURE_SECONDS
        while True:
            for birth in [birth for birth in births if birth.operation_url]:
                error = self._look(birth, request.offer.region)
                if error is not None:
                    births.remove(birth)
                    errors.append(error)
                    self._clean_up(birth.vm)
            waits = [birth.wait_seconds for birth in births if birth.operation_url]
            left = deadline - self._monotonic()
            if not waits or left <= 0:
                return
            if self._sleep(min([*waits, left])) is True:
                # The provider is being closed, and nobody will sleep any more.
                return

    def _look(self, birth: Birth, region: str) -> ProviderError | None:
        """Why the creation failed, None if it didn't so far."""
        try:
            body, response = self._client.call(
                WRITE, region, ONCE, lambda: self._client.get(birth.operation_url)
            )
        except ProviderError as error:
            # It was accepted; what becomes of it the list will tell.
            log.info("creation not watched", name=birth.vm.get("name"), detail=error.detail)
            birth.operation_url = ""
            return None
        status = str(body.get("status") or "")
        if status in ("Failed", "Canceled"):
            return of_operation(told_by(body), WRITE, region)
        if status == "Succeeded":
            birth.operation_url = ""
        birth.wait_seconds = _wait_seconds(response)
        return None

    def _clean_up(self, vm: Json) -> None:
        try:
            self._terminator.end(vm)
        except ProviderError as error:
            # The list shows it as failed and comes again.
            log.warning("failed VM stays", name=vm.get("name"), code=error.code, detail=error.detail)


def _birth(pipeline_response: Any, _vm: object, _headers: object) -> Birth:
    response = pipeline_response.http_response
    body: Json = response.json()
    if not isinstance(body.get("name"), str) or not isinstance(body.get("properties"), dict):
        raise ValueError("not a VM")
    url = str(response.headers.get("Azure-AsyncOperation") or "")
    return Birth(body, url, _wait_seconds(response))


def _wait_seconds(response: object) -> float:
    asked = retry_after_seconds(response)
    return POLL_SECONDS if asked is None else min(max(asked, 0.1), MAX_POLL_SECONDS)

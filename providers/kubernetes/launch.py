"""One pod an instance, and the secret with its user-data. The pod's name is the launch token: the only lock."""

from __future__ import annotations

from typing import Any

from ...config.kubernetes import KubernetesProvider as Section
from ..base import (
    TAG_INTENT,
    TAG_SERVER,
    CloudInstance,
    CloudState,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    ProviderError,
    Unavailable,
)
from ..calls import IN_TICK
from . import manifest, names, sizes
from .client import Client
from .description import describe, state_of
from .endings import Endings
from .errors import ALREADY_EXISTS, errors_told, reason_of
from .listing import PODS
from .waiting import Waiting

SECRETS = "secrets"


class Launcher:
    """Turns launch requests into pods."""

    def __init__(self, client: Client, section: Section, endings: Endings, waiting: Waiting) -> None:
        self._client = client
        self._section = section
        self._endings = endings
        self._waiting = waiting

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """See `Provider.launch`. A name that is taken by this very launch gives what it gave then."""
        pods = self.pods(request)
        made: list[CloudInstance] = []
        for pod in pods:
            try:
                made.append(self._one(pod, request))
            except ProviderError as error:
                if not made:
                    raise
                return LaunchResult(tuple(made), (error,))
        return LaunchResult(tuple(made))

    def pods(self, request: LaunchRequest) -> list[dict[str, Any]]:
        """The manifests of a launch. Raises InvalidConfig for one that can't work."""
        manifest.refuse_what_cannot_work(request)
        size = sizes.size_of(self._section, request.offer)
        return [manifest.pod(self._section, size, request, name) for name in names.pods_of(request)]

    def _one(self, pod: dict[str, Any], request: LaunchRequest) -> CloudInstance:
        name = str(pod["metadata"]["name"])
        refusal = self._waiting.refusal(request.offer)
        if refusal is not None:
            return self._known(name, request, refusal)
        try:
            made = self._client.create(PODS, pod, IN_TICK, instance=True)
        except ProviderError as error:
            if reason_of(error) != ALREADY_EXISTS:
                raise
            return self._known(name, request, Unavailable(f"pod {name} was just removed", maybe_created=True))
        with errors_told(f"create {PODS}", self._client.namespace, creates=True):
            return self._complete(made, request)

    def _known(self, name: str, request: LaunchRequest, missing: ProviderError) -> CloudInstance:
        """The instance that `request` made before; raises `missing` if there is none."""
        found = self._client.get(PODS, name, IN_TICK)
        if found is None:
            ended = self._endings.find(name)
            if ended is None:
                raise missing
            return ended
        with errors_told(f"get {PODS}", self._client.namespace, creates=True):
            tags = names.tags_of(found)
            if any(tags.get(key) != request.tags.get(key) for key in (TAG_SERVER, TAG_INTENT)):
                raise InvalidConfig(f"a pod {name} that isn't of this launch has its name")
            if state_of(found) is CloudState.PENDING:
                self._give_user_data(found, request)
            return describe(self._client.name, found)

    def _complete(self, made: dict[str, Any], request: LaunchRequest) -> CloudInstance:
        """What follows on the pod; until it has its user-data no container of it can start."""
        try:
            ended = self._endings.find(made["metadata"]["name"])
            if ended is not None:
                self._remove(made)
                return ended
            self._give_user_data(made, request)
        except ProviderError as error:
            error.maybe_created = error.retryable or not self._removed(made)
            raise
        return describe(self._client.name, made)

    def _give_user_data(self, pod: dict[str, Any], request: LaunchRequest) -> None:
        try:
            self._client.create(SECRETS, manifest.secret(pod, request), IN_TICK)
        except ProviderError as error:
            # The same launch gave it before, and the same launch has the same user-data.
            if reason_of(error) != ALREADY_EXISTS:
                raise

    def _removed(self, pod: dict[str, Any]) -> bool:
        """Take a pod away that can never start."""
        try:
            self._remove(pod)
        except ProviderError:
            return False
        return True

    def _remove(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        self._client.delete(PODS, metadata["name"], IN_TICK, uid=metadata["uid"], grace_seconds=0)

"""instances.delete. The boot disk goes with the instance by autoDelete, its address by being ephemeral."""

from __future__ import annotations

from collections.abc import Callable

from ..base import InstanceNotFound, ProviderError
from ..calls import IN_TICK
from .client import Client
from .errors import of_operation
from .listing import Listing
from .names import Ref, delete_id, parse_ref
from .operations import DONE

NONCE_BITS = 53
"""As many as a random float has."""
ACTION = "instances.delete"


class Terminator:
    """Ends instances of ours; never one whose label names another server. `chance` is 0..1."""

    def __init__(
        self,
        client: Client,
        server_id: str,
        listing: Listing,
        ended: Callable[[Ref], bool],
        chance: Callable[[], float],
    ) -> None:
        self._client = client
        self._server_id = server_id
        self._listing = listing
        self._ended = ended
        self._chance = chance

    def terminate(self, ref_text: str) -> None:
        """See `Provider.terminate`; an instance that has ended already is well."""
        ref = parse_ref(ref_text)
        nonce = int(self._chance() * 2**NONCE_BITS)
        try:
            self._listing.ours(ref)
            operation = self._client.call(
                ACTION,
                ref.zone,
                IN_TICK,
                zone=ref.zone,
                instance=ref.name,
                request_id=delete_id(self._server_id, ref, nonce),
            )
        except ProviderError as error:
            if isinstance(error, InstanceNotFound) and self._ended(ref):
                return
            raise
        failure = of_operation(operation, ACTION, ref.zone) if operation.status == DONE else None
        if failure is not None:
            raise failure

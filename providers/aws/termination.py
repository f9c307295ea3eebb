"""TerminateInstances, and the spot request that goes with the instance. Disks go with it by DeleteOnTermination."""

from __future__ import annotations

from ..base import CloudState
from ..calls import IN_TICK
from .client import Client
from .listing import STATES, Listing


class Terminator:
    """Ends instances of ours; never one whose tag names another server."""

    def __init__(self, client: Client, listing: Listing) -> None:
        self._client = client
        self._listing = listing

    def terminate(self, region: str, instance_id: str) -> None:
        """See `Provider.terminate`; an instance that has ended already is well."""
        instance = self._listing.one(region, instance_id)
        if STATES.get(instance.get("State", {}).get("Name", "")) is not CloudState.TERMINATED:
            self._client.call("ec2:terminate_instances", region, IN_TICK, InstanceIds=[instance_id])
        # After the instance: what costs money goes first, and a failure here makes the caller come again.
        request_id = instance.get("SpotInstanceRequestId")
        if request_id:
            self._client.call(
                "ec2:cancel_spot_instance_requests", region, IN_TICK, SpotInstanceRequestIds=[request_id]
            )

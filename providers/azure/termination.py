"""The end of a VM and of all that belongs to it."""

from __future__ import annotations

from ..base import CloudInstance, CloudState, InstanceNotFound
from ..calls import IN_TICK
from .client import Client, Json
from .endings import Endings
from .leftovers import Leftovers
from .listing import DELETING, Listing, provisioning_of
from .machine import NAME

DELETE = "Microsoft.Compute/virtualMachines/delete"


class Terminator:
    """Ends VMs of ours; never one whose tag names another server."""

    def __init__(
        self, client: Client, listing: Listing, leftovers: Leftovers, endings: Endings, region: str
    ) -> None:
        self._client = client
        self._listing = listing
        self._leftovers = leftovers
        self._endings = endings
        self._region = region

    def terminate(self, name: str) -> None:
        """See `Provider.terminate`. What has ended already is well, and what is left of it goes too."""
        if not NAME.fullmatch(name):
            raise InstanceNotFound(f"{name!r} is not a VM of this server")
        vm = self._listing.one(name)
        if vm is None:
            self._finish(name)
        elif self._listing.is_ours(vm):
            self.end(vm)
        else:
            raise InstanceNotFound(f"{name} is not a VM of this server")

    def end(self, vm: Json) -> None:
        """Ask for the end of a VM of ours; Azure takes interface, address and disk with it."""
        name = str(vm["name"])
        # Known as ending before it is asked for: a daemon killed in between comes again, and finds it in its list.
        self._endings.begin(self._listing.describe(vm))
        if provisioning_of(vm) == DELETING:
            return
        group = self._client.group

        def ask() -> None:
            self._client.compute.virtual_machines.begin_delete(group, name, polling=False)

        try:
            self._client.call(DELETE, str(vm.get("location") or self._region), IN_TICK, ask)
        except InstanceNotFound:
            return

    def _finish(self, name: str) -> None:
        """There is no VM: what is left of it goes; if there is nothing at all, it never was ours."""
        ended = self._endings.get(name)
        if ended is not None and ended.is_over:
            return
        found = self._leftovers.sweep(now=True).by_owner.get(name, [])
        if ended is None and not found:
            raise InstanceNotFound(f"{name} is not a VM of this server")
        if ended is None:
            region = found[0].region
            gone = CloudInstance(
                self._client.name, name, CloudState.STOPPING, self._listing.tags_of(), region=region
            )
            self._endings.begin(gone)
        self._leftovers.remove(found)

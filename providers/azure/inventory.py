"""What `instances()` tells: VMs, and what has ended; and on the way the removal of what was left behind."""

from __future__ import annotations

import structlog

from ..base import CloudInstance, ProviderError
from .client import Json
from .endings import Endings
from .leftovers import Leftovers
from .listing import DELETING, FAILED, Listing, is_stillborn, power_of, provisioning_of
from .termination import Terminator

log = structlog.get_logger(__name__)


class Inventory:
    """Every instance of this server."""

    def __init__(
        self, listing: Listing, leftovers: Leftovers, endings: Endings, terminator: Terminator
    ) -> None:
        self._listing = listing
        self._leftovers = leftovers
        self._endings = endings
        self._terminator = terminator

    def all(self) -> tuple[CloudInstance, ...]:
        """VMs as they are; those that ended within two hours as terminated once nothing of them is left."""
        vms = [self._looked_at(vm) for vm in self._listing.ours()]
        alive = {str(vm["name"]) for vm in vms}
        self._note_ends(vms)
        open_ends = [name for name, end in self._endings.all().items() if not end.is_over]
        gone = [name for name in open_ends if name not in alive]
        # After the VMs: a disk that this look doesn't find is gone, and not just hidden behind a VM that was.
        sweep = self._leftovers.sweep(now=bool(gone))
        self._leftovers.remove_strays(sweep, alive, open_ends)
        for name in gone:
            if name not in sweep.by_owner:
                self._endings.confirm(name)
        ended = [end.as_listed() for name, end in self._endings.all().items() if name not in alive]
        listed = [self._listing.describe(vm, sweep.address_of(str(vm["name"]))) for vm in vms]
        return (*listed, *ended)

    def _looked_at(self, vm: Json) -> Json:
        """A failed VM in full: only its instance view tells whether it runs all the same."""
        if provisioning_of(vm) not in FAILED or power_of(vm):
            return vm
        return self._listing.one(str(vm["name"])) or vm

    def _note_ends(self, vms: list[Json]) -> None:
        """Remember who is being deleted, by eviction too, and delete what was never born."""
        for vm in vms:
            if provisioning_of(vm) == DELETING:
                self._endings.begin(self._listing.describe(vm))
            elif is_stillborn(vm):
                try:
                    self._terminator.end(vm)
                except ProviderError as error:
                    log.warning("failed VM stays", name=vm["name"], code=error.code, detail=error.detail)

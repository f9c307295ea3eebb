"""The zones of the regions in fleet.yaml, as the project sees them; kept for an hour."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Mapping

from ...config.gcp import GcpProvider as Section
from ..base import InvalidConfig, Scope
from ..calls import READING
from .client import Client
from .names import last

AGE_SECONDS = 3600.0


class Places:
    """Zones by region. `monotonic` is in seconds."""

    def __init__(self, client: Client, section: Section, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._section = section
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: tuple[float, Mapping[str, tuple[str, ...]]] | None = None

    def zones(self, region: str) -> tuple[str, ...]:
        """The zones to launch into. Raises InvalidConfig (scope region) for a region or zone that isn't there."""
        everywhere = self._all()
        known = everywhere.get(region)
        if known is None:
            near = difflib.get_close_matches(region, sorted(everywhere), n=1)
            hint = f"did you mean {near[0]}?" if near else f"regions: {', '.join(sorted(everywhere))}"
            raise InvalidConfig(f"Google Cloud has no region {region}", scope=Scope.REGION, hint=hint)
        wanted = [zone for zone in self._section.zones if zone.startswith(f"{region}-")]
        for zone in wanted:
            if zone not in known:
                hint = f"correct zones of this provider: {', '.join(known)}"
                raise InvalidConfig(f"region {region} has no zone {zone}", scope=Scope.REGION, hint=hint)
        return tuple(wanted) or known

    def all_zones(self) -> tuple[str, ...]:
        """The zones of all regions of this provider that are there."""
        everywhere = self._all()
        return tuple(zone for region in self._section.regions for zone in everywhere.get(region, ()))

    def _all(self) -> Mapping[str, tuple[str, ...]]:
        with self._lock:
            known = self._known
        if known is not None and self._monotonic() - known[0] < AGE_SECONDS:
            return known[1]
        pages = self._client.pages("zones.list", self._client.project, READING)
        rows = self._client.read(
            "zones.list",
            self._client.project,
            lambda: sorted(
                (last(one.region), one.name) for page in pages for one in page.items if one.region
            ),
        )
        found = {region: tuple(zone for at, zone in rows if at == region) for region, _ in rows}
        with self._lock:
            self._known = (self._monotonic(), found)
        return found

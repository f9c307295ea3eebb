"""A whole third-party adapter: the cloud of Acme, which lives in this process and rents out one type of machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hostler.providers.base import (
    TAG_SERVER,
    Check,
    CloudInstance,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    LaunchRequest,
    LaunchResult,
    Market,
    Offer,
    ProviderContext,
    Scope,
)
from pydantic import BaseModel, ConfigDict, Field


class AcmeSection(BaseModel):
    """What fleet.yaml holds under `providers:` for the type acme."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    type: Literal["acme"]
    site: str
    machines: int = Field(default=20, ge=0)
    max_instances: int | None = None


@dataclass
class AcmeCloud:
    """What an SDK would talk to."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    machines: dict[str, CloudInstance] = field(default_factory=dict)
    sold_out: bool = False


CLOUD = AcmeCloud()


class AcmeProvider:
    """The entry point: hostler calls `AcmeProvider(name, section, context)`."""

    section_model = AcmeSection

    def __init__(self, name: str, section: AcmeSection, context: ProviderContext) -> None:
        self.name = name
        self._section = section
        self._server_id = context.server_id

    def offers(self) -> Sequence[Offer]:
        site = self._section.site
        return (Offer(self.name, site, site, "anvil", Market.ON_DEMAND, 4.0, 8 * 2**30, usd_per_hour=0.25),)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        names = [f"{request.token}-{number}" for number in range(request.count)]
        with CLOUD.lock:
            for name in names:
                if name not in CLOUD.machines:
                    self._make(name, request)
            return LaunchResult(tuple(CLOUD.machines[name] for name in names))

    def instances(self) -> Sequence[CloudInstance]:
        return tuple(one for one in CLOUD.machines.values() if one.server == self._server_id)

    def terminate(self, ref: str) -> None:
        with CLOUD.lock:
            found = CLOUD.machines.get(ref)
            if found is None or found.tags.get(TAG_SERVER) != self._server_id:
                raise InstanceNotFound(f"Acme knows no {ref} of this server")
            CLOUD.machines[ref] = replace(found, state=CloudState.TERMINATED)

    def check(self) -> Sequence[Check]:
        return (Check("site", True, self._section.site),)

    def close(self) -> None:
        return None

    def _make(self, name: str, request: LaunchRequest) -> None:
        live = [one for one in CLOUD.machines.values() if one.state is not CloudState.TERMINATED]
        if CLOUD.sold_out or len(live) >= self._section.machines:
            raise InsufficientCapacity(f"{self._section.site} is sold out", scope=Scope.ZONE)
        CLOUD.machines[name] = CloudInstance(
            provider=self.name,
            ref=name,
            state=CloudState.RUNNING,
            tags=dict(request.tags),
            instance_type=request.offer.instance_type,
            region=self._section.site,
            zone=self._section.site,
            market=request.offer.market.value,
            launched_at=time.time(),
        )

"""The configuration in force and the clouds made from it; replaced as a whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from ...config import ConfigError, FleetConfig, Problem, differences, load_fleet, parse_fleet
from ...providers import registry
from ...providers.base import Provider, ProviderContext, ProviderError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InForce:
    """One configuration with everything made from it."""

    fleet: FleetConfig
    source: str
    loaded_at: float
    providers: Mapping[str, Provider] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


class LiveSettings:
    """Reads see one whole `InForce`; writers take turns. Providers whose section is unchanged are kept."""

    def __init__(
        self,
        path: Path,
        fleet: FleetConfig,
        *,
        server_id: str,
        state_dir: Path,
        clock: Callable[[], float],
        live_instances: Callable[[str], int],
        create: Callable[[str, Any, ProviderContext], Provider] = registry.create,
    ) -> None:
        """`fleet` was read from `path`. `live_instances(provider)` counts those that may still cost money."""
        self._path = path
        self._context = ProviderContext(
            server_id=server_id, state_dir=os.fspath(state_dir), settings={"url": fleet.daemon.url}
        )
        self._clock = clock
        self._live_instances = live_instances
        self._create = create
        self._turn = threading.Lock()
        self._retired: list[Provider] = []
        self._changed: Callable[[], None] = lambda: None
        self._now = self._made(fleet, os.fspath(path), {})

    @property
    def fleet(self) -> FleetConfig:
        return self._now.fleet

    @property
    def source(self) -> str:
        return self._now.source

    @property
    def loaded_at(self) -> float:
        return self._now.loaded_at

    def providers(self) -> Mapping[str, Provider]:
        return self._now.providers

    def broken_providers(self) -> Mapping[str, str]:
        return self._now.broken

    def apply(self, text: str, source: str) -> Sequence[str]:
        """Swap in fleet.yaml's `text`; the differences. Raises ConfigError and keeps the old one."""
        return self._swap(parse_fleet(text, "fleet.yaml"), source)

    def reload(self) -> Sequence[str]:
        """Read the file again that the daemon was started with."""
        return self._swap(load_fleet(self._path), os.fspath(self._path))

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each swap that changed something."""
        self._changed = callback

    def pending(self) -> Sequence[str]:
        """What the file holds that is not in force. Raises ConfigError if it can't be read."""
        return differences(self._now.fleet, load_fleet(self._path))

    def close(self) -> None:
        """Let go of the clouds' connections; instances stay as they are."""
        for provider in [*self._now.providers.values(), *self._retired]:
            try:
                provider.close()
            except ProviderError as error:
                _log.warning("provider.close", provider=provider.name, error=error.detail)

    def _swap(self, fleet: FleetConfig, source: str) -> Sequence[str]:
        with self._turn:
            before = self._now
            self._refuse_to_strand(before.fleet, fleet)
            after = self._made(fleet, source, before.providers)
            if newly_broken := {name: why for name, why in after.broken.items() if name not in before.broken}:
                raise ConfigError(
                    [Problem("fleet.yaml", ("providers", name), why) for name, why in newly_broken.items()]
                )
            kept = set(map(id, after.providers.values()))
            # Closed at exit only: a call on one of them may be under way in the tick.
            self._retired += [one for one in before.providers.values() if id(one) not in kept]
            self._now = after
            found = differences(before.fleet, fleet)
            if found:
                self._changed()
        return found

    def _made(self, fleet: FleetConfig, source: str, known: Mapping[str, Provider]) -> InForce:
        providers: dict[str, Provider] = {}
        broken: dict[str, str] = {}
        for name, section in fleet.providers.items():
            if name in known and self._now.fleet.providers.get(name) == section:
                providers[name] = known[name]
                continue
            try:
                providers[name] = self._create(name, section, self._context)
            except ProviderError as error:
                broken[name] = f"{error.detail} ({error.hint})" if error.hint else error.detail
                _log.error("provider.broken", provider=name, error=error.detail, hint=error.hint)
        return InForce(fleet, source, self._clock(), providers, broken)

    def _refuse_to_strand(self, old: FleetConfig, new: FleetConfig) -> None:
        """A provider that goes away while its instances run would leave nobody to end them."""
        problems = []
        for name, section in old.providers.items():
            kept = new.providers.get(name)
            if kept is not None and kept.type == section.type:
                continue
            if count := self._live_instances(name):
                message = f"{count} of its instances still run; drain them first, or keep the provider"
                problems.append(Problem("fleet.yaml", ("providers", name), message))
        if problems:
            raise ConfigError(problems)

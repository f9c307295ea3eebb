"""The provider of machines that are there anyway. A ref is ``HOST/TOKEN``; each host holds one instance at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ...config.static import StaticHost
from ...config.static import StaticProvider as Section
from ..base import (
    Check,
    CloudInstance,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Offer,
    ProviderContext,
    ProviderError,
    Scope,
    Unavailable,
)
from ..local.request import TOKEN, digest
from . import catalogue, checks
from .host import Host
from .ledger import Ledger
from .where import Where

T = TypeVar("T")

ASKED_AT_ONCE = 16
GRACE_SECONDS = 10.0
"""What an agent has between SIGTERM and the end of its tree."""


class StaticProvider:
    """Provider. What it must not forget lies on the hosts; `state_dir` has what was last known of each."""

    def __init__(
        self,
        name: str,
        section: Section,
        context: ProviderContext,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.name = name
        self._section = section
        self._server_id = context.server_id
        self._url = str(context.settings.get("url") or "")
        self._ledger = Ledger(Path(context.state_dir) / "static" / name)
        self._clock = clock
        self._monotonic = monotonic
        self._grace_seconds = grace_seconds
        self._memory = threading.Lock()
        self._told = {host.name: host for host in section.hosts}
        self._hosts = {
            host.name: self._host(Where.of(section, host), configured=True) for host in section.hosts
        }
        self._retired: dict[str, Host] = {}

    def offers(self) -> Sequence[Offer]:
        """Each host on both markets at its nominal price; one that must be asked and never answered is left out."""
        asked = [self._hosts[name] for name, told in self._told.items() if catalogue.needs_facts(told)]
        errors = [error for error in _at_once(asked, _probe) if error is not None]
        found = tuple(
            offer
            for name, host in self._hosts.items()
            for offer in catalogue.offers(self.name, self._section, self._told[name], host.facts_known())
        )
        if errors and not found:
            raise errors[0]
        return found

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """The instance on the offer's host; beyond one for a request, InsufficientCapacity beside it."""
        with _disk_errors(self.name, launching=True):
            told = self._wanted(request)
            made = self._hosts[told.name].launch(request, digest(request), catalogue.machine(told))
        missing = request.count - 1
        if not missing:
            return LaunchResult((made,))
        lack = InsufficientCapacity(
            f"{told.name} holds one instance at a time, {request.count} were asked for"
        )
        return LaunchResult((made,), (lack,))

    def instances(self) -> Sequence[CloudInstance]:
        """What every host says, and what was last known of those that don't answer; an error if none answers."""
        with _disk_errors(self.name):
            hosts = [*self._hosts.values(), *self._retire()]
            found = _at_once(hosts, lambda host: host.listing(self._server_id))
        troubles = [host.trouble for host in self._hosts.values() if host.trouble is not None]
        if len(troubles) == len(self._hosts):
            raise troubles[0]
        return tuple(instance for answer in found for instance in answer)

    def terminate(self, ref: str) -> None:
        """SIGTERM to the agent now, SIGKILL to its whole tree after the grace; then the host is free again."""
        name, _, token = ref.partition("/")
        if TOKEN.fullmatch(token):
            with _disk_errors(self.name):
                # A host that was changed in fleet.yaml may still have it at the place where it was.
                moved = [host for host in self._retire() if host.where.name == name and host.holds(token)]
                for host in [*moved, *filter(None, [self._hosts.get(name)])]:
                    if host.given_up() or host.terminate(token, self._server_id, self._grace_seconds):
                        return
        raise InstanceNotFound(f"provider {self.name} has no instance {ref} of this server")

    def check(self) -> Sequence[Check]:
        """All hosts at once; starts nothing."""

        def look(host: Host) -> list[Check]:
            return list(checks.look_at(host, self._told[host.where.name], self._clock(), self._url))

        with _disk_errors(self.name):
            return tuple(check for found in _at_once(self._hosts.values(), look) for check in found)

    def close(self) -> None:
        """Close the connections; agents run on."""
        with self._memory:
            hosts = [*self._hosts.values(), *self._retired.values()]
        for host in hosts:
            host.close()

    def _host(self, where: Where, *, configured: bool) -> Host:
        return Host(
            self.name,
            where,
            self._ledger,
            configured=configured,
            clock=self._clock,
            monotonic=self._monotonic,
        )

    def _wanted(self, request: LaunchRequest) -> StaticHost:
        if not TOKEN.fullmatch(request.token) or request.count < 1:
            raise InvalidConfig(f"token {request.token!r} or count {request.count} can't be an instance's")
        offer = request.offer
        told = self._told.get(offer.zone)
        if told is None or offer.instance_type != told.name:
            raise InvalidConfig(
                f"provider {self.name} has no host {offer.zone or offer.instance_type} of type {offer.instance_type}",
                scope=Scope.INSTANCE_TYPE,
                hint="offers of a static provider are the hosts of its section in fleet.yaml",
            )
        return told

    def _retire(self) -> list[Host]:
        """Hosts that hold an instance of ours and stand in fleet.yaml no more, or at another place."""
        configured = {host.where.place for host in self._hosts.values()}
        left = {place: entry for place, entry in self._ledger.all() if place not in configured}
        with self._memory:
            for place, entry in left.items():
                if place not in self._retired:
                    self._retired[place] = self._host(Where.from_dict(entry.where), configured=False)
            for place in set(self._retired) - set(left):
                self._retired.pop(place).close()
            return [self._retired[place] for place in left]


def _probe(host: Host) -> ProviderError | None:
    try:
        host.facts()
    except ProviderError as error:
        return error
    return None


def _at_once(hosts: Iterable[Host], ask: Callable[[Host], T]) -> list[T]:
    """Every answer, in the order of `hosts`: one slow machine holds up a thread, not the others."""
    asked = list(hosts)
    if len(asked) <= 1:
        return [ask(host) for host in asked]
    with ThreadPoolExecutor(min(ASKED_AT_ONCE, len(asked)), thread_name_prefix="static") as threads:
        return list(threads.map(ask, asked))


@contextmanager
def _disk_errors(name: str, *, launching: bool = False) -> Iterator[None]:
    """Turn what this machine's own disk says into the port's error."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"provider {name}: {error}", scope=Scope.PROVIDER, maybe_created=launching
        ) from error

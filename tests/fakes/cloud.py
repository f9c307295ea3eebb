"""A cloud at the Provider port, on a virtual clock, that can be told to misbehave in each way a real one does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from hostler.providers.base import (
    TAG_SERVER,
    Check,
    CloudInstance,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Market,
    Offer,
    OfferKey,
    ProviderError,
    Unavailable,
)

T = TypeVar("T")


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class SerialCalls:
    """Runs each call at once, in the caller's thread: one order of events, every time."""

    def submit(self, fn: Callable[[], T], /) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn())
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass
class Machine:
    """What the cloud really runs, whatever its listing shows."""

    ref: str
    token: str
    request: LaunchRequest
    launched_at: float
    running_at: float
    visible_at: float
    tagged_at: float
    ended_at: float | None = None
    detail: str = ""

    def is_billed(self) -> bool:
        return self.ended_at is None


@dataclass
class FakeCloud:
    """Set the fields below to make it misbehave; read `machines` for the truth and `calls` for what was asked."""

    name: str
    clock: Clock
    offered: tuple[Offer, ...]
    boot_seconds: float = 20.0
    visibility_lag_seconds: float = 0.0
    tag_lag_seconds: float = 0.0
    forgets_the_ended: bool = False
    """An ended machine leaves the listing at once, as on Kubernetes; else it is listed as terminated for good."""
    full: set[OfferKey] = field(default_factory=set)
    launch_errors: dict[OfferKey, ProviderError] = field(default_factory=dict)
    launch_error: ProviderError | None = None
    """Said to every launch."""
    replies_to_lose: int = 0
    """So many next launches take effect, but their answer never arrives."""
    list_error: ProviderError | None = None
    terminate_error: ProviderError | None = None
    terminates_to_fail: int = 0
    machines: dict[str, Machine] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _tokens: dict[str, str] = field(default_factory=dict)

    def offers(self) -> Sequence[Offer]:
        return self.offered

    def launch(self, request: LaunchRequest) -> LaunchResult:
        self.calls.append(("launch", str(request.offer.key)))
        known = self._tokens.get(request.token)
        if known is not None:
            return self._again(self.machines[known], request)
        error = self._launch_error(request.offer.key)
        if error is not None:
            raise error
        return self._answer(self._start(request))

    def instances(self) -> Sequence[CloudInstance]:
        self.calls.append(("list", ""))
        if self.list_error is not None:
            raise self.list_error
        return [self._as_listed(machine) for machine in self.machines.values() if self._is_listed(machine)]

    def terminate(self, ref: str) -> None:
        self.calls.append(("terminate", ref))
        if self.terminate_error is not None:
            raise self.terminate_error
        if self.terminates_to_fail > 0:
            self.terminates_to_fail -= 1
            raise Unavailable("internal error")
        machine = self.machines.get(ref)
        if machine is None or (self.forgets_the_ended and machine.ended_at is not None):
            raise InstanceNotFound(f"{ref} does not exist")
        self.end(ref)

    def check(self) -> Sequence[Check]:
        return (Check("credentials", ok=True, detail="fake"),)

    def close(self) -> None:
        """Nothing to let go of."""

    # what happens at the cloud without anybody asking

    def end(self, ref: str, detail: str = "") -> None:
        """The machine ends now: reclaimed, crashed or shut down from inside."""
        machine = self.machines[ref]
        if machine.ended_at is None:
            machine.ended_at, machine.detail = self.clock(), detail

    def vanish(self, ref: str) -> None:
        """The machine is gone, and so is every trace of it."""
        del self.machines[ref]

    def plant(
        self, ref: str, tags: dict[str, str], offer: Offer, launched_at: float | None = None
    ) -> Machine:
        """A machine that somebody else started, with these tags."""
        request = LaunchRequest(token=ref, offer=offer, user_data="", tags=tags)
        at = self.clock() if launched_at is None else launched_at
        machine = Machine(ref, ref, request, at, at, at, at)
        self.machines[ref] = machine
        return machine

    def billed(self) -> list[Machine]:
        """What costs money now."""
        return [machine for machine in self.machines.values() if machine.is_billed()]

    def asked(self, verb: str) -> list[str]:
        """Details of the calls of one kind, in order."""
        return [detail for called, detail in self.calls if called == verb]

    def is_up(self, machine: Machine) -> bool:
        return machine.is_billed() and self.clock() >= machine.running_at

    def _launch_error(self, key: OfferKey) -> ProviderError | None:
        if key in self.full:
            return InsufficientCapacity(f"no capacity for {key}")
        return self.launch_errors.get(key, self.launch_error)

    def _again(self, machine: Machine, request: LaunchRequest) -> LaunchResult:
        if machine.request != request:
            raise InvalidConfig("the same token with other parameters")
        return self._answer(machine)

    def _answer(self, machine: Machine) -> LaunchResult:
        if self.replies_to_lose > 0:
            self.replies_to_lose -= 1
            raise Unavailable("the connection was reset", maybe_created=True)
        return LaunchResult((self._as_listed(machine),))

    def _start(self, request: LaunchRequest) -> Machine:
        now = self.clock()
        ref = f"{self.name}-{len(self._tokens) + 1}"
        machine = Machine(
            ref,
            request.token,
            request,
            launched_at=now,
            running_at=now + self.boot_seconds,
            visible_at=now + self.visibility_lag_seconds,
            tagged_at=now + self.tag_lag_seconds,
        )
        self._tokens[request.token] = ref
        self.machines[ref] = machine
        return machine

    def _is_listed(self, machine: Machine) -> bool:
        if self.forgets_the_ended and machine.ended_at is not None:
            return False
        now = self.clock()
        return now >= machine.visible_at and now >= machine.tagged_at and TAG_SERVER in machine.request.tags

    def _as_listed(self, machine: Machine) -> CloudInstance:
        if machine.ended_at is not None:
            state = CloudState.TERMINATED
        else:
            state = CloudState.RUNNING if self.is_up(machine) else CloudState.PENDING
        offer = machine.request.offer
        return CloudInstance(
            provider=self.name,
            ref=machine.ref,
            state=state,
            tags=machine.request.tags,
            instance_type=offer.instance_type,
            region=offer.region,
            zone=offer.zone,
            market=offer.market.value,
            launched_at=machine.launched_at,
            detail=machine.detail,
        )


def make_offer(
    instance_type: str = "small",
    usd_per_hour: float | None = 1.0,
    *,
    provider: str = "sky",
    zone: str = "r1-a",
    market: Market = Market.ON_DEMAND,
    cpus: float = 1.0,
    memory_bytes: int = 4 * 2**30,
) -> Offer:
    return Offer(
        provider=provider,
        region=zone.rpartition("-")[0],
        zone=zone,
        instance_type=instance_type,
        market=market,
        cpus=cpus,
        memory_bytes=memory_bytes,
        usd_per_hour=usd_per_hour,
    )


def total_billed(clouds: Iterable[FakeCloud]) -> int:
    return sum(len(cloud.billed()) for cloud in clouds)


def default_cloud(clock: Clock, name: str = "sky") -> FakeCloud:
    return FakeCloud(name, clock, (make_offer(provider=name),))

"""The port to every cloud: offers, launch, list, terminate, and a small taxonomy of errors.

An adapter turns one cloud's API into these verbs and nothing else. It keeps no state of its own that a
restart could lose, never retries past its call budget, and never sleeps while it holds a lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

TAG_SERVER = "hostler:server"
"""Tag that says whose instance it is: the server's id. Without our own value, hands off."""
TAG_POOL = "hostler:pool"
TAG_INTENT = "hostler:intent"
"""Tag that carries the launch intent's token; it links an instance to the row committed before the call."""


class Market(str, Enum):
    """How capacity is bought: reclaimable at a discount, or ours until we give it back."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPUs of one machine: normalised name, how many, and memory of each in bytes (0 = not known)."""

    name: str
    count: int
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, order=True)
class OfferKey:
    """What identifies an offer; everything learned about it (capacity, price, interruptions) hangs on this."""

    provider: str
    region: str
    zone: str
    instance_type: str
    market: str

    def __str__(self) -> str:
        place = self.zone or self.region
        return f"{self.provider}/{place}/{self.instance_type}/{self.market}"


@dataclass(frozen=True, slots=True)
class Offer:
    """Capacity that can be bought: one type in one zone on one market, at a price in US dollars an hour.

    `usd_per_hour` is None where the price is not known: such an offer is never launched.
    """

    provider: str
    region: str
    zone: str
    instance_type: str
    market: Market
    cpus: float
    memory_bytes: int
    gpu: Gpu | None = None
    usd_per_hour: float | None = None

    @property
    def key(self) -> OfferKey:
        return OfferKey(self.provider, self.region, self.zone, self.instance_type, self.market.value)


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One launch intent, already committed to the store. A retry sends byte-identical parameters.

    `token` is the cloud's idempotency key: at most 64 ASCII characters of [a-z0-9-], beginning with a letter,
    so that it can also be a deterministic name. `tags` go into the create call itself.
    """

    token: str
    offer: Offer
    user_data: str
    tags: Mapping[str, str]
    disk_bytes: int | None = None
    count: int = 1
    max_usd_per_hour: float | None = None


class CloudState(str, Enum):
    """What the cloud says of an instance. Only TERMINATED means that billing has ended."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class CloudInstance:
    """An instance as its cloud lists it. `launched_at` is epoch seconds by the cloud's clock, if it tells."""

    provider: str
    ref: str
    state: CloudState
    tags: Mapping[str, str]
    instance_type: str = ""
    region: str = ""
    zone: str = ""
    market: str = ""
    launched_at: float | None = None
    address: str = ""
    detail: str = ""
    identity: str = ""
    """What its signed identity bears beside `ref`, if known: AWS's account, GCP's numeric id, Azure's vmId."""

    @property
    def server(self) -> str:
        return self.tags.get(TAG_SERVER, "")

    @property
    def intent(self) -> str:
        return self.tags.get(TAG_INTENT, "")


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What came back: instances first (record their refs before looking at `errors`), then partial failures."""

    instances: tuple[CloudInstance, ...] = ()
    errors: tuple[ProviderError, ...] = ()


class Scope(str, Enum):
    """How far an error reaches: which other launches it would be wrong to try now."""

    OFFER = "offer"
    ZONE = "zone"
    INSTANCE_TYPE = "instance_type"
    MARKET = "market"
    REGION = "region"
    PROVIDER = "provider"


DETAIL_CHARACTERS_MAX = 2_000
"""What is kept of a cloud's own words: they are stored, shown and sent on."""


class ProviderError(Exception):
    """An answer of the cloud that is not success. `code` is ours and stable, `detail` is the cloud's own words.

    `maybe_created` is True when the call may have taken effect all the same (reply lost, time-out): the intent
    must stay open and be replayed with its token or found by its tag, never dropped. `retry_within_seconds` bounds for
    how long it holds its scope back, however often it was said: what is in use may be free at any moment.
    """

    code = "PROVIDER_ERROR"
    retryable = False

    def __init__(
        self,
        detail: str,
        *,
        scope: Scope = Scope.OFFER,
        hint: str = "",
        retry_after_seconds: float | None = None,
        retry_within_seconds: float | None = None,
        maybe_created: bool = False,
    ) -> None:
        detail = detail[:DETAIL_CHARACTERS_MAX]
        super().__init__(detail)
        self.detail = detail
        self.scope = scope
        self.hint = hint
        self.retry_after_seconds = retry_after_seconds
        self.retry_within_seconds = retry_within_seconds
        self.maybe_created = maybe_created


class InsufficientCapacity(ProviderError):
    """The cloud has none to sell just now in this scope; another offer may have."""

    code = "NO_CAPACITY"


class QuotaExceeded(ProviderError):
    """The account may not have more in this scope until a person raises the quota or something is freed."""

    code = "QUOTA"


class Throttled(ProviderError):
    """Too many calls; the same call may go through later."""

    code = "THROTTLED"
    retryable = True


class Unavailable(ProviderError):
    """The cloud did not answer or answered with a fault of its own."""

    code = "UNAVAILABLE"
    retryable = True


class InvalidConfig(ProviderError):
    """The request can never work as it is (image missing, type unknown, subnet gone): a person must mend it."""

    code = "INVALID_CONFIG"


class AuthFailed(ProviderError):
    """Credentials are missing, expired or lack a permission."""

    code = "AUTH"


class InstanceNotFound(ProviderError):
    """The cloud does not know this ref. Just after a launch that is not proof that it is gone."""

    code = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `hostler doctor`: what was looked at, whether it is well, and how to mend it."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


@runtime_checkable
class Provider(Protocol):
    """One configured cloud account. All verbs are blocking, thread-safe, and raise only `ProviderError`."""

    name: str
    """The key under `providers:` in fleet.yaml."""

    def offers(self) -> Sequence[Offer]:
        """All that this provider could sell now, with prices. May take seconds; called off the tick."""

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Start `request.count` instances. The same token always means the same instances, never more."""

    def instances(self) -> Sequence[CloudInstance]:
        """Every instance tagged with this server's id, every page of it, or an error: never a partial list."""

    def terminate(self, ref: str) -> None:
        """Ask for the end of an instance and all that belongs to it. Idempotent; unknown ref: InstanceNotFound."""

    def check(self) -> Sequence[Check]:
        """Look at credentials, permissions, quota, image and network for `hostler doctor`; starts nothing."""

    def close(self) -> None:
        """Let go of connections. Instances stay as they are."""


@runtime_checkable
class Reclaimable(Protocol):
    """A provider that can play the cloud's part and reclaim an instance on request (drills, demo, tests)."""

    def reclaim(self, ref: str, notice_seconds: float) -> None:
        """Give the instance its preemption notice now and take it away after `notice_seconds`."""


@dataclass(frozen=True, slots=True)
class Forewarning:
    """The cloud's word, from outside the machine, that it takes an instance back in `seconds_left`.

    `source` is named as the agent names the same notice. `receipt` is the adapter's own, for `settle`. An empty `ref`
    concerns no instance.
    """

    ref: str
    seconds_left: float
    source: str
    receipt: str = ""


@runtime_checkable
class Forewarned(Protocol):
    """A provider that hears of preemptions from outside too, for the machine whose agent doesn't."""

    def notices(self) -> Sequence[Forewarning]:
        """What is known now and not settled yet; quick, called once a tick. Others' instances may be among them."""

    def settle(self, forewarnings: Sequence[Forewarning]) -> None:
        """These were taken in: they need not come again. Until then they do, also after a crash."""


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What the composition root hands to an adapter beside its own section of fleet.yaml."""

    server_id: str
    """Value of TAG_SERVER; an adapter lists and touches nothing that bears another."""
    state_dir: str
    """A folder of this daemon's own where a local adapter may keep its instances' folders."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """`url`: the daemon's URL, as instances are given it, for `check` to see whether it can be reached."""

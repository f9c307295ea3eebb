"""A cloud at the provider port: keeps machines, forgets answers, lies about time, and never sells twice for a token."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ...providers.base import (
    TAG_INTENT,
    TAG_POOL,
    TAG_SERVER,
    AuthFailed,
    Check,
    CloudInstance,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Offer,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)
from .clock import VirtualTime
from .ledger import Call, Ledger, Machine
from .trace import Trace
from .weather import Weather

LAG_SECONDS_MAX: Final = 299.0
TAG_LAG_SECONDS_MAX: Final = 280.0
LATE_SECONDS_MAX: Final = 120.0
SHUTDOWN_SECONDS: Final = (2.0, 90.0)
TOLD_SECONDS: Final = (30.0, 3_600.0)
"""How long an ended machine still stands in listings."""
TOKEN_SECONDS: Final = 3_600.0
"""Every cloud remembers a launch token for so long; a forgetful one for no longer."""
LONG_TEXT: Final = "x" * 1_000_000
STRANGER: Final = "somebody-else"


@dataclass(frozen=True)
class Hooks:
    """What the world does when machines come and go, and what checkers look at in that very moment."""

    born: Callable[[Machine], None]
    ended: Callable[[Machine], None]
    about_to_end: Callable[[str], None]
    """The ref of a terminate call that has arrived."""


class Cloud:
    """Implements `Provider`. All chance comes from its own stream, so that one cloud doesn't disturb another."""

    def __init__(
        self,
        name: str,
        offers: Sequence[Offer],
        *,
        rng: random.Random,
        time: VirtualTime,
        weather: Weather,
        ledger: Ledger,
        trace: Trace,
        hooks: Hooks,
        server_id: str,
    ) -> None:
        self.name = name
        self.catalogue = tuple(offers)
        self.room = {offer.key: rng.choice((1, 2, 4, 50)) for offer in offers}
        self._rng, self._time, self._weather = rng, time, weather
        self._ledger, self._trace, self._hooks = ledger, trace, hooks
        self._server_id = server_id
        self._remembered: dict[str, tuple[float, LaunchRequest, str]] = {}
        self._arriving: dict[str, LaunchRequest] = {}
        self._refs = 0
        self._mine: list[Machine] = []
        if weather.has("strangers"):
            self._strangers()

    # -- the port ---------------------------------------------------------------------------------------------

    def offers(self) -> Sequence[Offer]:
        if self._hurts("credentials"):
            raise AuthFailed("the key has expired", scope=Scope.PROVIDER)
        return self.catalogue

    def launch(self, request: LaunchRequest) -> LaunchResult:
        try:
            result = self._launch(request)
        except ProviderError as error:
            self._note("launch", error.code + ("?" if error.maybe_created else ""), request=request)
            raise
        self._note(
            "launch", "", request=request, ref=",".join(one.ref for one in result.instances) or "(nothing)"
        )
        return result

    def instances(self) -> Sequence[CloudInstance]:
        try:
            self._answers("list")
        except ProviderError as error:
            self._note("list", error.code)
            raise
        self._ledger.refused_since.pop(self.name, None)
        now = self._time.now
        self._mine = [one for one in self._mine if one.told_until is None or one.told_until > now]
        return [self._shown(one) for one in self._mine if self._is_visible(one)]

    def terminate(self, ref: str) -> None:
        self._hooks.about_to_end(ref)
        try:
            self._terminate(ref)
        except ProviderError as error:
            self._note("terminate", error.code, ref=ref)
            raise
        self._note("terminate", "", ref=ref)

    def check(self) -> Sequence[Check]:
        return [Check("simulated", ok=True, detail="always well")]

    def close(self) -> None:
        """Machines stay as they are."""

    # -- launch -----------------------------------------------------------------------------------------------

    def _launch(self, request: LaunchRequest) -> LaunchResult:
        self._answers("launch")
        known = self._known(request)
        if known is not None:
            return self._reply(known)
        self._sells(request.offer)
        if self._weather.strikes("late-effects", 0.15):
            self._arrive_late(request)
            raise Unavailable("timed out", maybe_created=True)
        machine = self._create(request)
        return self._reply(machine)

    def _answers(self, verb: str) -> None:
        """What any call may run into before it does anything."""
        if self._hurts("credentials"):
            raise AuthFailed("the key has expired", scope=Scope.PROVIDER)
        if self._weather.strikes("throttling", 0.4) and verb != "list":
            raise Throttled(
                "slow down", scope=Scope.REGION, retry_after_seconds=self._rng.choice((None, 5.0))
            )
        if verb == "list" and (self._weather.strikes("list-failing", 0.1) or self._hurts("list-failing")):
            raise Unavailable(self._words("internal error"), scope=Scope.PROVIDER)
        if verb == "launch" and self._weather.strikes("lost-replies", 0.2):
            raise Unavailable("the request was lost", maybe_created=True)
        if verb == "launch" and self._hurts("bad-image"):
            raise InvalidConfig(self._words("no such image"), scope=Scope.REGION, hint="choose another image")

    def _known(self, request: LaunchRequest) -> Machine | None:
        """The machine this token has bought already. Other parameters for the same token are refused."""
        found = self._remembered.get(request.token)
        if found is None:
            late = self._arriving.get(request.token)
            if late is not None:
                del self._arriving[request.token]
                return self._create(late)
            return None
        at, first, ref = found
        if self._weather.has("forgetful-tokens") and self._time.now - at > TOKEN_SECONDS:
            return None
        if first != request:
            raise InvalidConfig("the same token with other parameters", scope=Scope.OFFER)
        return self._ledger.machines[ref]

    def _sells(self, offer: Offer) -> None:
        if self._hurts("quota-zero"):
            raise QuotaExceeded("the quota is 0", scope=Scope.REGION, hint="ask for more")
        for scope, reach in (
            (str(offer.key), Scope.OFFER),
            (offer.zone, Scope.ZONE),
            (offer.market.value, Scope.MARKET),
        ):
            if self._weather.hurts("capacity-storms", f"{self.name}:{scope}", self._time.now):
                raise InsufficientCapacity(self._words(f"nothing left in {scope}"), scope=reach)
        taken = sum(1 for one in self._mine if one.alive and one.offer.key == offer.key)
        if taken >= self.room[offer.key]:
            raise InsufficientCapacity(f"{taken} is all there is", scope=Scope.OFFER)

    def _arrive_late(self, request: LaunchRequest) -> None:
        self._arriving[request.token] = request

        def arrive() -> None:
            if self._arriving.pop(request.token, None) is not None:
                self._create(request)

        self._time.after(self._rng.uniform(1.0, LATE_SECONDS_MAX), arrive)

    def _create(self, request: LaunchRequest) -> Machine:
        self._refs += 1
        now = self._time.now
        lag = self._rng.uniform(0.0, LAG_SECONDS_MAX) if self._weather.strikes("visibility-lag", 0.8) else 0.0
        tag_lag = (
            self._rng.uniform(0.0, TAG_LAG_SECONDS_MAX) if self._weather.strikes("tag-lag", 0.8) else 0.0
        )
        machine = Machine(
            ref=f"{self.name}-{self._refs}",
            cloud=self.name,
            token=request.tags.get(TAG_INTENT, ""),
            pool=request.tags.get(TAG_POOL, ""),
            offer=request.offer,
            server=request.tags.get(TAG_SERVER, ""),
            user_data=request.user_data,
            created_at=now,
            visible_at=now + lag,
            tagged_at=now + tag_lag,
            hides_all_tags=self._rng.random() < 0.3,
        )
        self._remembered[request.token] = (now, request, machine.ref)
        self._mine.append(machine)
        self._ledger.add(machine)
        self._trace.say(f"cloud  {self.name} creates {machine.ref} for {machine.token} ({request.offer.key})")
        self._hooks.born(machine)
        return machine

    def _reply(self, machine: Machine) -> LaunchResult:
        if self._weather.strikes("lost-replies", 0.4):
            raise Unavailable("the connection was reset", maybe_created=True)
        errors: tuple[ProviderError, ...] = ()
        if self._weather.strikes("partial-answers", 0.3):
            errors = (InsufficientCapacity("not all of it could be had", scope=Scope.OFFER),)
        return LaunchResult((self._shown(machine),), errors)

    # -- listing ----------------------------------------------------------------------------------------------

    def _is_visible(self, machine: Machine) -> bool:
        now = self._time.now
        hidden = machine.hides_all_tags and machine.tagged_at > now
        return machine.visible_at <= now and not hidden

    def _shown(self, machine: Machine) -> CloudInstance:
        tags = {TAG_SERVER: machine.server, TAG_POOL: machine.pool, TAG_INTENT: machine.token}
        if machine.tagged_at > self._time.now:
            del tags[TAG_INTENT], tags[TAG_POOL]
        return CloudInstance(
            provider=self.name,
            ref=machine.ref,
            state=CloudState(machine.state),
            tags=tags,
            instance_type=machine.offer.instance_type,
            region=machine.offer.region,
            zone=machine.offer.zone,
            market=machine.offer.market.value,
            launched_at=machine.created_at,
            detail=machine.detail,
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def _terminate(self, ref: str) -> None:
        if self._hurts("terminate-failing"):
            raise Unavailable(self._words("try again later"))
        self._answers("terminate")
        machine = self._ledger.machines.get(ref)
        if machine is None or not self._is_visible(machine) or machine not in self._mine:
            raise InstanceNotFound(f"no {ref} here")
        if self._weather.strikes("terminate-ignored", 0.2):
            return
        if machine.alive and machine.state != "stopping":
            machine.state = "stopping"
            machine.end_asked_at = self._time.now
            self._time.after(self._rng.uniform(*SHUTDOWN_SECONDS), lambda: self.end(machine, "asked for"))
        if self._weather.strikes("lost-replies", 0.25):
            raise Unavailable("the connection was reset")

    def end(self, machine: Machine, why: str, *, silently: bool = False) -> None:
        """The machine is gone and billing ends. `silently`: no listing ever says so."""
        if not machine.alive:
            return
        machine.state, machine.ended_at, machine.detail = "terminated", self._time.now, why
        shown = 0.0 if silently else self._rng.uniform(*TOLD_SECONDS)
        machine.told_until = self._time.now + shown
        self._trace.say(f"cloud  {machine.ref} ended: {why}{' (in silence)' if silently else ''}")
        self._hooks.ended(machine)

    def shut_down(self, machine: Machine, why: str) -> None:
        """The machine switches itself off."""
        if machine.alive and machine.state != "stopping":
            machine.state, machine.detail = "stopping", why
            self._time.after(self._rng.uniform(*SHUTDOWN_SECONDS), lambda: self.end(machine, why))

    # -- the rest ---------------------------------------------------------------------------------------------

    def _strangers(self) -> None:
        for number in range(3):
            offer = self.catalogue[number % len(self.catalogue)]
            machine = Machine(
                ref=f"{self.name}-foreign-{number}",
                cloud=self.name,
                token=("", "h-aaaaaaaaaaaa", "h-bbbbbbbbbbbb")[number],
                pool="small",
                offer=offer,
                server=STRANGER if number else "",
                user_data="",
                created_at=self._time.now,
                visible_at=self._time.now,
                tagged_at=self._time.now,
                hides_all_tags=False,
                state="running",
            )
            self._mine.append(machine)
            self._ledger.add(machine)

    def _hurts(self, fault: str) -> bool:
        return self._weather.hurts(fault, self.name, self._time.now)

    def _words(self, text: str) -> str:
        return text + LONG_TEXT if self._weather.strikes("oversize", 0.3) else text

    def _note(self, verb: str, answer: str, *, request: LaunchRequest | None = None, ref: str = "") -> None:
        call = Call(
            at=self._time.now,
            tick=self._ledger.tick,
            verb=verb,
            cloud=self.name,
            answer=answer,
            token=request.tags.get(TAG_INTENT, "") if request else "",
            ref=ref,
            offer=request.offer if request else None,
            pool=request.tags.get(TAG_POOL, "") if request else "",
        )
        if verb != "list":
            self._ledger.calls.append(call)
        elif answer == "AUTH":
            self._ledger.refused_since.setdefault(self.name, self._time.now)
        else:
            self._ledger.refused_since.pop(self.name, None)
        what = f"{call.token} {call.offer.key if call.offer else ''} {ref}".strip()
        self._trace.say(f"call   {self.name} {verb} {what} -> {answer or 'ok'}")

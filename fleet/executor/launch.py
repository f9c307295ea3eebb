"""From committed intents to instances: call, record what came back, fail over within the same tick."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from ...config.fleet import FleetConfig
from ...providers.base import (
    CloudInstance,
    InsufficientCapacity,
    LaunchRequest,
    LaunchResult,
    OfferKey,
    Provider,
    ProviderError,
    Unavailable,
)
from ..planning.model import Decision, InstanceState, OfferHealth
from ..store import health, instances
from ..store.ids import new_instance_id
from . import intents
from .effects import Effects, full_jitter_seconds
from .intents import LAUNCH_TOKEN_LIFETIME_SECONDS, Intent, Refused, Terms, Wanted

Place = tuple[str, str]
"""(provider, region): one account's way of launching there, right or wrong as a whole."""
Answer = LaunchResult | Exception
PROVE_NOTHING_BEGAN: Final = frozenset({"NO_CAPACITY", "QUOTA"})
"""To a repeated launch, only these say that the first try bought nothing: a cloud that looked at the token would have
answered with its instance. Throttling, credentials or a bad image are refused before anyone looks at a token."""


@dataclass
class Launched:
    """What one tick's launches came to."""

    instances: list[str] = field(default_factory=list)
    """Ids whose cloud said yes."""
    unconfirmed: list[str] = field(default_factory=list)
    """Ids whose answer was lost: replayed with the same token or found by their tag later."""
    failed: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    calls: int = 0


@dataclass
class Launcher:
    """Launches of one leader. `proven` outlives the tick: what went through once is asked in parallel after."""

    effects: Effects
    providers: Mapping[str, Provider]
    fleet: FleetConfig
    terms: Terms
    rng: random.Random
    proven: set[OfferKey | Place] = field(default_factory=set)

    def launch(self, wanted: Sequence[Wanted]) -> Launched:
        """Buy what is wanted, going from offer to offer until one can be had or none is left."""
        done = Launched()
        todo, open_intents = list(wanted), list[Intent]()
        while todo or open_intents:
            if todo:
                open_intents += self._write(todo, done)
                todo = []
            wave, open_intents = self._wave(open_intents)
            todo += self._call(wave, done)
            dropped, open_intents = self._drop_blocked(open_intents)
            todo += dropped
        return done

    def replay(self, rows: Sequence[Mapping[str, Any]]) -> Launched:
        """Send again what may or may not have arrived: same token, same bytes, so that it can only be one instance."""
        done = Launched()
        now = self.effects.clock()
        due = [row for row in rows if self._may_be_sent_again(row, now)]
        requests = [intents.request_of(row, self.terms.user_data(row["id"], row["provider"])) for row in due]
        same = [
            (row, request)
            for row, request in zip(due, requests, strict=True)
            if intents.spec_hash(request) == row["spec_hash"]
        ]
        replays = [self._intent_of(row) for row, _ in same]
        if replays:
            answers = self._ask(replays, [request for _, request in same], done)
            for intent, answer in zip(replays, answers, strict=True):
                self._settle(intent, answer, done, repeated=True)
        return done

    def _may_be_sent_again(self, row: Mapping[str, Any], now: float) -> bool:
        young = now - row["created_at"] < LAUNCH_TOKEN_LIFETIME_SECONDS
        due = row["next_call_at"] is None or row["next_call_at"] <= now
        return young and due and row["ref"] is None and row["provider"] in self.providers

    def _intent_of(self, row: Mapping[str, Any]) -> Intent:
        offer = instances.offer_from_dict(row["offer"])
        return Intent(row["id"], offer, Wanted(row["pool"], (offer,)), ())

    def _write(self, todo: Sequence[Wanted], done: Launched) -> list[Intent]:
        now = self.effects.clock()
        ids = [new_instance_id(self.rng) for _ in todo]
        user_data = {
            (instance_id, provider): self.terms.user_data(instance_id, provider)
            for one, instance_id in zip(todo, ids, strict=True)
            for provider in {offer.provider for offer in one.offers}
        }

        def work(conn: Connection) -> tuple[list[Intent], list[Refused]]:
            return intents.write(
                conn, todo, ids, user_data=user_data, terms=self.terms, fleet=self.fleet, now=now
            )

        written, refused = self.effects.write("intents", work)
        done.refused += refused
        for one in refused:
            done.decisions += _decisions(one.wanted, one.code, one.message)
        return written

    def _wave(self, open_intents: Sequence[Intent]) -> tuple[list[Intent], list[Intent]]:
        """Who is called now and who waits: one canary for a place or offer that has not worked yet, the rest after."""
        wave: list[Intent] = []
        later: list[Intent] = []
        tested: set[OfferKey | Place] = set()
        for intent in open_intents:
            both: set[OfferKey | Place] = {intent.offer.key, _place(intent.offer.key)}
            unproven = both - self.proven
            (later if unproven & tested else wave).append(intent)
            tested |= unproven
        return wave, later

    def _call(self, wave: Sequence[Intent], done: Launched) -> list[Wanted]:
        requests = self._mark_launching(wave)
        called = [intent for intent in wave if intent.instance_id in requests]
        answers = self._ask(called, [requests[intent.instance_id] for intent in called], done)
        again: list[Wanted] = []
        for intent, answer in zip(called, answers, strict=True):
            failover = self._settle(intent, answer, done)
            if failover is not None:
                again.append(failover)
        return again

    def _mark_launching(self, wave: Sequence[Intent]) -> dict[str, LaunchRequest]:
        """Commit that the call is about to go out: a row still `intended` after a crash was certainly never called."""
        now = self.effects.clock()

        def work(conn: Connection) -> list[dict[str, Any]]:
            going = []
            for intent in wave:
                if instances.advance(conn, intent.instance_id, InstanceState.LAUNCHING, now):
                    row = instances.get(conn, intent.instance_id)
                    going.append(row or {})
            return going

        rows = self.effects.write("launching", work) if wave else []
        return {
            row["id"]: intents.request_of(row, self.terms.user_data(row["id"], row["provider"]))
            for row in rows
        }

    def _ask(
        self, called: Sequence[Intent], requests: Sequence[LaunchRequest], done: Launched
    ) -> list[Answer]:
        done.calls += len(called)
        calls = [
            _Call(self.providers.get(intent.offer.provider), request)
            for intent, request in zip(called, requests, strict=True)
        ]
        return list(self.effects.call_all("launch", calls))

    def _settle(
        self, intent: Intent, answer: Answer, done: Launched, *, repeated: bool = False
    ) -> Wanted | None:
        """Record one answer. Returns what to try instead, if it was a definite no."""
        found = answer.instances if isinstance(answer, LaunchResult) else ()
        error = _error_of(answer)
        if found:
            self._record(intent, found[0])
            done.instances.append(intent.instance_id)
            done.decisions += _bought(intent)
        if error is None:
            self.proven.update((intent.offer.key, _place(intent.offer.key)))
            return None
        self.proven.discard(intent.offer.key)
        if error.code in health.MENDED_BY_PEOPLE:
            self.proven.discard(_place(intent.offer.key))
        is_open = error.maybe_created or (repeated and error.code not in PROVE_NOTHING_BEGAN)
        taught = self._learn(intent, error, definite=not found and not is_open)
        if found:
            return None
        if is_open:
            done.unconfirmed.append(intent.instance_id)
            return None
        done.failed.append(intent.instance_id)
        return self._failover(intent, error, taught, done)

    def _record(self, intent: Intent, found: CloudInstance) -> None:
        """The ref goes in before anything else is looked at."""
        now = self.effects.clock()

        def work(conn: Connection) -> None:
            adopt(conn, intent.instance_id, found, now)
            health.succeeded(conn, intent.offer.key)

        self.effects.write("launched", work)

    def _learn(self, intent: Intent, error: ProviderError, *, definite: bool) -> OfferHealth:
        now = self.effects.clock()

        def work(conn: Connection) -> OfferHealth:
            if definite:
                instances.advance(
                    conn,
                    intent.instance_id,
                    InstanceState.TERMINATED,
                    now,
                    expect=(InstanceState.LAUNCHING,),
                    reason=error.code,
                    message=f"{intent.offer.key}: {error.detail}",
                )
            taught = health.failed(conn, self.terms.workspace, intent.offer.key, error, now)
            if not definite:
                self._retry_later(conn, intent.instance_id, error, taught, now)
            return taught

        return self.effects.write("launch-failed", work)

    def _retry_later(
        self, conn: Connection, instance_id: str, error: ProviderError, taught: OfferHealth, now: float
    ) -> None:
        row = instances.get(conn, instance_id)
        calls = (row["launch_calls"] if row else 0) + 1
        wait = max(full_jitter_seconds(self.rng, calls), error.retry_after_seconds or 0.0)
        if error.code in health.MENDED_BY_PEOPLE:
            wait = max(wait, taught.blocked_until - now)
        instances.note(
            conn, instance_id, launch_calls=calls, next_call_at=now + wait, message=error.detail[:2_000]
        )

    def _failover(
        self, intent: Intent, error: ProviderError, taught: OfferHealth, done: Launched
    ) -> Wanted | None:
        tried = (*intent.wanted.tried, (str(intent.offer.key), error.code, error.detail))
        done.decisions.append(
            Decision(
                "offer", str(intent.offer.key), error.code, error.detail, taught.hint, taught.blocked_until
            )
        )
        rest = Wanted(intent.wanted.pool, intent.rest, intent.wanted.for_tasks, tried)
        if intent.rest:
            return rest
        done.decisions += _decisions(rest, error.code, error.detail, taught)
        return None

    def _drop_blocked(self, open_intents: Sequence[Intent]) -> tuple[list[Wanted], list[Intent]]:
        """Intents not called yet whose offer an answer has just spoiled: end them unbilled, ask for the next offer."""
        if not open_intents:
            return [], []
        now = self.effects.clock()

        def work(conn: Connection) -> dict[OfferKey, OfferHealth]:
            known = health.of_offers(conn, [intent.offer.key for intent in open_intents])
            blocked = {key: one for key, one in known.items() if one.blocked_until > now}
            for intent in open_intents:
                if intent.offer.key in blocked:
                    why = blocked[intent.offer.key]
                    drop(conn, intent.instance_id, why.code, f"not asked: {why.detail}", now)
            return blocked

        blocked = self.effects.write("drop-blocked", work)
        again: list[Wanted] = []
        kept: list[Intent] = []
        for intent in open_intents:
            why = blocked.get(intent.offer.key)
            if why is None:
                kept.append(intent)
                continue
            tried = (*intent.wanted.tried, (str(intent.offer.key), why.code, why.detail))
            # With no offer left the next transaction refuses it and says why.
            again.append(Wanted(intent.wanted.pool, intent.rest, intent.wanted.for_tasks, tried))
        return again, kept


@dataclass(frozen=True)
class _Call:
    """One launch, ready to run in another thread."""

    provider: Provider | None
    request: LaunchRequest

    def __call__(self) -> LaunchResult:
        if self.provider is None:
            raise InsufficientCapacity("its provider is no longer configured")
        return self.provider.launch(self.request)


def adopt(conn: Connection, instance_id: str, found: CloudInstance, now: float) -> bool:
    """Tie the cloud's instance to its row, whatever state the row is in by now. False if it has another ref."""
    row = instances.get(conn, instance_id)
    if row is None or (row["ref"] is not None and row["ref"] != found.ref):
        return False
    details: dict[str, Any] = {
        "ref": found.ref,
        "address": found.address or row["address"],
        "identity": found.identity or row["identity"],
        "next_call_at": None,
    }
    if not instances.advance(
        conn, instance_id, InstanceState.BOOTING, now, expect=(InstanceState.LAUNCHING,), **details
    ):
        instances.note(conn, instance_id, launched_at=row["launched_at"] or now, **details)
    return True


def drop(conn: Connection, instance_id: str, reason: str, message: str, now: float) -> bool:
    """End an intent whose call never went out."""
    return instances.advance(
        conn,
        instance_id,
        InstanceState.TERMINATED,
        now,
        expect=(InstanceState.INTENDED,),
        reason=reason,
        message=message,
    )


def _error_of(answer: Answer) -> ProviderError | None:
    """What to learn from an answer; one that is neither instance nor error leaves open whether there is one."""
    if isinstance(answer, ProviderError):
        return answer
    if isinstance(answer, Exception):
        detail = f"{type(answer).__name__}: {answer}"
        return Unavailable(
            detail, maybe_created=True, hint="the provider's adapter failed; see the daemon's log"
        )
    if answer.errors:
        return answer.errors[0]
    return None if answer.instances else Unavailable("the answer held no instance", maybe_created=True)


def _place(key: OfferKey) -> Place:
    return (key.provider, key.region)


def _bought(intent: Intent) -> list[Decision]:
    """Only a fail-over needs telling: the planner has said the rest."""
    if not intent.wanted.tried:
        return []
    return _decisions(intent.wanted, "LAUNCHING", f"bought {intent.offer.key} after others failed")


def _decisions(wanted: Wanted, code: str, message: str, taught: OfferHealth | None = None) -> list[Decision]:
    hint = taught.hint if taught else health.HINTS.get(code, "")
    next_at = taught.blocked_until if taught else None
    subjects = [("task", str(task_id)) for task_id in wanted.for_tasks] or [("pool", wanted.pool)]
    return [Decision(*subject, code, message, hint, next_at, wanted.tried) for subject in subjects]

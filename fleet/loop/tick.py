"""One tick: listings first, then rows; observe, expire, plan, write intents, call, record, say why.

Plain and synchronous: every effect goes through `context.effects`, every time is read from `context.clock`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from ...config.fleet import FleetConfig
from ...providers.base import (
    CloudInstance,
    Forewarned,
    Forewarning,
    Offer,
    OfferKey,
    ProviderError,
    Unavailable,
)
from ...tracking.server.database import DatabaseClosed, StorageFull
from ..executor import launch as launching
from ..executor import terminate as ending
from ..executor.intents import Wanted
from ..executor.launch import Launcher
from ..executor.terminate import Terminator
from ..observer import agents, clouds
from ..observer.clouds import Gone, Listing, Moment, Observed
from ..planning.model import Decision, InstanceState, OfferHealth, Plan, Snapshot, TaskState
from ..queue import Ended, came_due, demand, expire, requeue_of_instance
from ..store import decisions, health, instances, pools, snapshot
from ..store.leader import StaleEpoch
from ..store.policies import limits_of
from . import freeze, warm
from .context import Context

T = TypeVar("T")

FATAL = (StaleEpoch, StorageFull, DatabaseClosed)
"""Nothing else in this tick can go well after one of these."""

_log = logging.getLogger(__name__)


@dataclass
class TickReport:
    """What one tick saw and did. Times are epoch seconds."""

    started_at: float
    ended_at: float = 0.0
    unheard: dict[str, str] = field(default_factory=dict)
    """Providers that did not answer, with the error's code: nothing was asked of them in this tick."""
    launched: list[str] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    draining: list[str] = field(default_factory=list)
    terminating: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    requeued: dict[str, int] = field(default_factory=dict)
    """Tasks that went back, by queue."""
    calls: int = 0
    changes_of_mind: int = 0
    frozen: str = ""
    errors: list[str] = field(default_factory=list)


def tick(context: Context) -> TickReport:
    """Run one tick. Raises StaleEpoch, StorageFull, DatabaseClosed; other errors are in the report."""
    run = _Tick(context, context.fleet(), TickReport(started_at=context.clock()))
    listings = run.list_clouds()
    run.observe(listings)
    run.step("notices", run.notices)
    run.step("sweep", run.sweep)
    run.step("expire", run.expire)
    run.step("replay", run.replay)
    plan = run.step("plan", run.plan)
    if plan is not None:
        run.step("act", lambda: run.act(plan))
        run.step("launch", lambda: run.launch(plan))
    run.step("terminate", run.terminate)
    run.step("decisions", run.record_decisions)
    run.wake()
    run.report.ended_at = context.clock()
    return run.report


@dataclass
class _Tick:
    context: Context
    fleet: FleetConfig
    report: TickReport
    strays: list[CloudInstance] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    failures: dict[str, ProviderError] = field(default_factory=dict)

    @property
    def heard(self) -> list[str]:
        """Providers whose listing was taken in: only these are acted on."""
        return [name for name in sorted(self.context.providers) if name not in self.report.unheard]

    def step(self, name: str, work: Callable[[], T]) -> T | None:
        """Run one step; what goes wrong in it doesn't keep the later ones from running."""
        try:
            return work()
        except FATAL:
            raise
        except Exception as error:  # noqa: BLE001  it is logged and in the report
            _log.exception("the tick's step %s failed", name)
            self.report.errors.append(f"{name}: {type(error).__name__}: {error}")
            return None

    def list_clouds(self) -> list[Listing]:
        """Ask every provider for its instances, all at once."""
        names = sorted(self.context.providers)
        asked_at = self.context.clock()
        calls = [self.context.providers[name].instances for name in names]
        answers = self.context.effects.call_all("list", calls)
        return [
            Listing(name, asked_at, error=_as_provider_error(answer))
            if isinstance(answer, Exception)
            else Listing(name, asked_at, tuple(answer))
            for name, answer in zip(names, answers, strict=True)
        ]

    def observe(self, listings: Sequence[Listing]) -> None:
        """Take in each listing by itself: one provider's trouble stays its own."""
        for listing in listings:
            if listing.error is not None:
                self._unheard(listing.provider, listing.error)
                continue
            try:
                self._take_in(listing)
            except FATAL:
                raise
            except Exception as error:  # noqa: BLE001  it is logged and in the report
                _log.exception("the listing of %s could not be taken in", listing.provider)
                self.report.errors.append(f"observe {listing.provider}: {type(error).__name__}: {error}")
                self._unheard(listing.provider, _as_provider_error(error))
            else:
                self._note_answering(listing.provider)

    def notices(self) -> None:
        """Preemptions that clouds tell from outside count as if the machine's own agent had told them."""
        heard = {name: self.context.providers[name] for name in self.heard}
        asked = {name: one for name, one in heard.items() if isinstance(one, Forewarned)}
        answers = self.context.effects.call_all("notices", [one.notices for one in asked.values()])
        for (name, provider), answer in zip(asked.items(), answers, strict=True):
            topic = f"{name}'s interruption notices"
            if isinstance(answer, Exception):
                self._note_failing(topic, _as_provider_error(answer))
                continue
            if answer:
                self._take_notices(name, provider, answer)
            self._note_answering(topic)

    def sweep(self) -> None:
        """What time itself decides: intents never sent, boots too slow, agents silent, windows open."""
        moment, heard = self.context.moment(), self.heard

        def work(conn: Connection) -> list[str]:
            for row in instances.live(conn, states=(InstanceState.INTENDED,)):
                launching.drop(
                    conn, row["id"], "INTENT_DROPPED", "its launch was never asked for", moment.now
                )
            clouds.overdue_boots(conn, moment, heard)
            silent = clouds.silent_agents(conn, moment, heard)
            _count_failed_boots(conn, moment)
            warm.fire_due(conn, self.context.workspace, self.fleet, moment.now)
            freeze.thaw_when_compared(conn, self.fleet, self.context.workspace, moment.now)
            return silent

        self.report.draining += self.context.effects.write("sweep", work)

    def expire(self) -> None:
        """Leases nobody renewed go back to their queues."""
        now = self.context.clock()
        ttl, up_since = self.fleet.daemon.lease_ttl, self.context.started_at

        def work(conn: Connection) -> tuple[Sequence[Ended], Mapping[str, int]]:
            ended = expire(conn, now=now, ttl=ttl, up_since=up_since)
            since = self.context.memory.last_at
            return ended, {} if since is None else came_due(conn, since=since, now=now)

        ended, due = self.context.effects.write("expire", work)
        self._count_requeued(ended)
        for queue, number in due.items():
            self.report.requeued[queue] = self.report.requeued.get(queue, 0) + number
        self.context.memory.last_at = now

    def replay(self) -> None:
        """Launches whose answer was lost are sent again, unless a listing has brought them meanwhile."""
        with self.context.db.read() as conn:
            rows = instances.live(conn, states=(InstanceState.LAUNCHING,))
        heard = set(self.heard)
        self._took(self._launcher().replay([row for row in rows if row["provider"] in heard]))

    def plan(self) -> Plan:
        """Ask the pure planner, on one snapshot."""
        now = self.context.clock()
        offers = self.context.offers.current(self.context.providers, now)
        with self.context.db.read() as conn:
            present = snapshot.read(conn, self.fleet, now, workspace=self.context.workspace, offers=offers)
            wanted = demand(conn, self.fleet, now)
        self.report.frozen = present.frozen
        present = self._without_unheard(present, offers, now)
        plan = self.context.plan(wanted, present, offers, limits_of(self.fleet), now)
        self.decisions += plan.decisions
        return plan

    def act(self, plan: Plan) -> None:
        """Drains and terminations that need no call yet: states first, calls after."""
        now = self.context.clock()
        if not plan.drains and not plan.terminations:
            return

        def work(conn: Connection) -> tuple[list[str], list[str]]:
            return ending.drain(conn, plan.drains, now), ending.begin(conn, plan.terminations, now)

        draining, terminating = self.context.effects.write("act", work)
        self.report.draining += draining
        self.report.terminating += terminating

    def launch(self, plan: Plan) -> None:
        """Buy what was planned, with fail-over within this tick."""
        wanted = [Wanted(one.pool, (one.offer, *one.alternatives), one.for_tasks) for one in plan.launches]
        if wanted:
            self._took(self._launcher().launch(wanted))

    def terminate(self) -> None:
        """Ask for every end that is due."""
        context = self.context
        terminator = Terminator(context.effects, context.providers, context.rng, set(self.report.unheard))
        ended = terminator.run()
        strays = terminator.end_strays(self.strays, context.workspace)
        self.report.strays += strays.strays
        self.report.calls += ended.calls + strays.calls

    def record_decisions(self) -> None:
        """Say why; for a subject that several spoke of, the last word counts."""
        now, workspace = self.context.clock(), self.context.workspace
        if self.decisions:
            self.report.changes_of_mind = self.context.effects.write(
                "decisions", lambda conn: decisions.record(conn, workspace, self.decisions, now)
            )

    def wake(self) -> None:
        """Tell waiting agents what concerns them."""
        if self.report.draining:
            self.context.wake_agents(tuple(self.report.draining))
        if self.report.requeued:
            self.context.wake_queues(dict(self.report.requeued))

    def _take_in(self, listing: Listing) -> None:
        context, moment = self.context, self.context.moment()
        catalogue = _by_place(context.offers.current(context.providers, moment.now))

        def work(conn: Connection) -> tuple[Observed, list[str], list[Ended]]:
            observed = clouds.reconcile(conn, listing, moment, launching.adopt)
            taken = freeze.import_unknown(
                conn,
                listing.provider,
                observed.unknown,
                moment=moment,
                catalogue=catalogue,
                join_hash=context.terms.join_hash,
                epoch=context.epoch,
            )
            return observed, taken, _requeue(conn, observed.gone, moment.now)

        observed, taken, ended = context.effects.write(f"observe:{listing.provider}", work)
        self.report.draining += observed.draining
        self._count_requeued(ended)
        unknown = [one for one in observed.unknown if one.intent not in taken]
        self.strays += context.memory.sightings.due(
            listing.provider, unknown, grace_seconds=moment.grace_seconds, now=moment.now
        )

    def _take_notices(self, name: str, provider: Forewarned, told: Sequence[Forewarning]) -> None:
        now = self.context.clock()

        def work(conn: Connection) -> list[str]:
            rows = {row["ref"]: row["id"] for row in instances.live(conn, provider=name)}
            ours = [(rows[one.ref], one) for one in told if one.ref in rows]
            for instance_id, one in ours:
                left = one.seconds_left
                agents.notice(conn, instance_id=instance_id, source=one.source, seconds_left=left, now=now)
            return [instance_id for instance_id, _ in ours]

        self.report.draining += self.context.effects.write("notices", work)
        # Only now: a crash before this has them told again.
        (answer,) = self.context.effects.call_all("settle", [lambda: provider.settle(told)])
        if isinstance(answer, Exception):
            self.report.errors.append(f"settle {name}: {answer}")

    def _unheard(self, provider: str, error: ProviderError) -> None:
        self.report.unheard[provider] = error.code
        self.failures[provider] = error
        self._note_failing(provider, error)

    def _note_failing(self, topic: str, error: ProviderError) -> None:
        """Told once, and again when it fails in another way."""
        if self.context.memory.failing.get(topic) != error.code:
            self._tell(topic, error)
            self.context.memory.failing[topic] = error.code  # told: not before it is written

    def _note_answering(self, topic: str) -> None:
        if topic in self.context.memory.failing:
            self._tell(topic, None)
            del self.context.memory.failing[topic]

    def _tell(self, provider: str, error: ProviderError | None) -> None:
        now, workspace = self.context.clock(), self.context.workspace
        self.context.effects.write(
            "provider", lambda conn: clouds.tell_listing(conn, workspace, provider, error, now)
        )

    def _launcher(self) -> Launcher:
        context = self.context
        heard = {name: context.providers[name] for name in self.heard}
        return Launcher(context.effects, heard, self.fleet, context.terms, context.rng, context.memory.proven)

    def _took(self, done: launching.Launched) -> None:
        self.report.launched += done.instances
        self.report.unconfirmed += done.unconfirmed
        self.report.failed += done.failed
        self.report.calls += done.calls
        self.decisions += done.decisions

    def _count_requeued(self, ended: Iterable[Ended]) -> None:
        back = Counter(one.queue for one in ended if one.state is TaskState.QUEUED and one.not_before is None)
        for queue, number in back.items():
            self.report.requeued[queue] = self.report.requeued.get(queue, 0) + number

    def _without_unheard(self, present: Snapshot, offers: Sequence[Offer], now: float) -> Snapshot:
        """Nothing is bought where we can't even see what we have."""
        if not self.failures:
            return present
        until = now + self.fleet.daemon.tick
        held: dict[OfferKey, OfferHealth] = dict(present.health)
        for offer in offers:
            error = self.failures.get(offer.provider)
            known = held.get(offer.key)
            if error is not None and (known is None or known.blocked_until < until):
                hint = error.hint or health.HINTS.get(error.code, "")
                held[offer.key] = OfferHealth(error.code, error.detail, hint, until)
        return dataclasses.replace(present, health=held)


def _requeue(conn: Connection, gone: Iterable[Gone], now: float) -> list[Ended]:
    """In the transaction that closed the instance: its tasks go back with it or not at all."""
    return [
        ended
        for one in gone
        for ended in requeue_of_instance(conn, one.instance_id, one.outcome, now, one.message)
    ]


def _count_failed_boots(conn: Connection, moment: Moment) -> None:
    """Against the pool, which may become protected, and against the offering, which is held back for a while."""
    for row in pools.uncounted_failures(conn, moment.workspace):
        pools.count_failure(conn, row, moment.now)
        error = ProviderError(f"instance {row['id']} did not join: {row['message'] or row['reason']}")
        health.failed(conn, moment.workspace, instances.offer_from_dict(row["offer"]).key, error, moment.now)


def _by_place(offers: Iterable[Offer]) -> dict[tuple[str, str, str, str], Offer]:
    return {(offer.provider, offer.zone, offer.instance_type, offer.market.value): offer for offer in offers}


def _as_provider_error(error: Exception) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    return Unavailable(f"{type(error).__name__}: {error}")

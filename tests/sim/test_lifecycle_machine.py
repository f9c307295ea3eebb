"""An instance's life in any order of events, on the real store: forward only, told once, no lease overtaken."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hostler.config.task import Retry
from hostler.fleet.planning.lifecycle import LEGAL_INSTANCE
from hostler.fleet.planning.model import InstanceState, TaskState
from hostler.fleet.queue.budgets import Counts, Ending, verdict
from hostler.fleet.store import instances
from hostler.providers.base import Market, Offer
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.schema import events, tasks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Connection, delete, func, insert, select

ID = "h-aaaaaaaaaaaa"
OFFER = Offer("sky", "r", "r-a", "box", Market.SPOT, cpus=1, memory_bytes=1, usd_per_hour=1.0)
STATES = st.sampled_from(list(InstanceState))
FEW = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class InstanceLife(RuleBasedStateMachine):
    """Holds what it was told against the row after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000.0
        self.db = Database.open(f"sqlite:///{Path(self.folder.name) / 'state.db'}", lambda: self.now)
        self.state = InstanceState.INTENDED
        self.told = [InstanceState.INTENDED]
        self.leased = False

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    @initialize()
    def intend(self) -> None:
        self.db.write(
            lambda conn: instances.insert_intent(
                conn,
                instance_id=ID,
                workspace="default",
                pool="p",
                offer=OFFER,
                usd_per_hour=1.0,
                request={},
                spec_hash="",
                epoch=1,
                now=self.now,
            )
        )

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def takes_a_lease(self) -> None:
        if self.state is InstanceState.READY and not self.leased:
            self.db.write(self._lease)
            self.leased = True

    @rule()
    def gives_the_lease_back(self) -> None:
        self.db.write(lambda conn: conn.execute(delete(tasks)))
        self.leased = False

    @rule(to=STATES, expect=st.none() | st.sets(STATES, max_size=4), idle_only=st.booleans())
    def advances(self, to: InstanceState, expect: set[InstanceState] | None, idle_only: bool) -> None:
        moved = self.db.write(
            lambda conn: instances.advance(conn, ID, to, self.now, expect=expect, idle_only=idle_only)
        )
        legal = to in LEGAL_INSTANCE[self.state] and (expect is None or self.state in expect)
        assert moved == (legal and not (idle_only and self.leased))
        if moved:
            self.state = to
            self.told.append(to)

    @invariant()
    def the_row_is_where_it_was_moved(self) -> None:
        row = self._row()
        if row is not None:
            assert row["state"] == self.state.value
            assert row["version"] == len(self.told)

    @invariant()
    def each_step_was_told_once_and_in_order(self) -> None:
        with self.db.read() as conn:
            kinds = conn.execute(select(events.c.kind).order_by(events.c.id)).scalars().all()
        if kinds:
            assert list(kinds) == [f"instance.{state.value}" for state in self.told]

    @invariant()
    def what_is_over_bears_the_time_of_its_end_and_only_that(self) -> None:
        row = self._row()
        if row is not None:
            assert (row["terminated_at"] is not None) == (self.state is InstanceState.TERMINATED)
            stamps = [row[name] for name in ("created_at", "launched_at", "ready_at", "terminated_at")]
            given_at = [at for at in stamps if at is not None]
            assert given_at == sorted(given_at)

    @invariant()
    def it_is_alive_until_it_is_over(self) -> None:
        with self.db.read() as conn:
            live = instances.live(conn)
        if self._row() is not None:
            assert len(live) == (self.state is not InstanceState.TERMINATED)

    def _row(self) -> dict[str, Any] | None:
        with self.db.read() as conn:
            return instances.get(conn, ID)

    def _lease(self, conn: Connection) -> None:
        number = conn.execute(select(func.count()).select_from(tasks)).scalar_one()
        conn.execute(
            insert(tasks).values(
                workspace="default",
                uid=f"u{number}",
                project="p",
                name="n",
                queue="default",
                state=TaskState.LEASED.value,
                spec={},
                tags=[],
                actor="ann",
                created_at=self.now,
                instance_id=ID,
            )
        )


TestInstanceLife = InstanceLife.TestCase
TestInstanceLife.settings = FEW

RETRIED = (Ending.FAILED, Ending.PREEMPTED, Ending.INFRA, Ending.LOST, Ending.REQUEUE)


@given(
    st.lists(st.sampled_from(list(Ending)), max_size=80),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_no_order_of_failures_buys_more_attempts_than_the_budgets(
    endings: list[Ending], preempted: int, infra: int, error: int
) -> None:
    retry = Retry(preempted=preempted, infra=infra, error=error)
    counts, attempts, free = Counts(), 0, 0
    for ending in endings:
        attempts += 1
        judged = verdict(
            ending, Counts(attempts, counts.preempted, counts.infra, counts.errors, counts.requeues), retry
        )
        free += ending is Ending.REQUEUE
        if judged.state is not TaskState.QUEUED:
            break
        assert ending in RETRIED
        counts = judged.counts
    assert attempts <= 1 + preempted + infra + error + free


@given(st.sampled_from([Ending.FAILED, Ending.PREEMPTED, Ending.INFRA, Ending.LOST]), st.integers(0, 8))
def test_each_kind_of_failure_is_forgiven_as_often_as_its_own_budget_says(
    ending: Ending, allowed: int
) -> None:
    retry = Retry(preempted=allowed, infra=allowed, error=allowed)
    counts = Counts()
    for attempt in range(1, allowed + 1):
        judged = verdict(ending, Counts(attempt, counts.preempted, counts.infra, counts.errors, 0), retry)
        assert judged.state is TaskState.QUEUED
        counts = judged.counts
    last = verdict(ending, Counts(allowed + 1, counts.preempted, counts.infra, counts.errors, 0), retry)
    plainly_failed = ending is Ending.FAILED and not allowed
    assert last.state is (TaskState.FAILED if plainly_failed else TaskState.DEAD)

"""Any order of what may happen to queue and leases: the promises hold after each step."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.queue_world import TTL, World
from hostler.fleet.observer import agents
from hostler.fleet.planning.lifecycle import HOLDING_TASK, LEGAL_TASK, TERMINAL_TASK
from hostler.fleet.planning.model import TaskState
from hostler.fleet.queue import Claim, Ended, Stale, WrongState
from hostler.fleet.queue.budgets import REQUEUES_MAX
from hostler.fleet.queue.expire import LEASE_GRACE_SECONDS
from hostler.tracking.server.database import sqlite
from hostler.tracking.server.database.migrate import to_head
from hostler.tracking.server.database.schema import attempts, events, tasks
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from sqlalchemy import Connection, Engine, make_url, select

RETRY = {"preempted": 2, "infra": 1, "error": 1}
INSTANCES = ("h-a", "h-b")
TASKS_MAX = 4
"""Few, so that the same task meets many things."""
OVER = TTL + LEASE_GRACE_SECONDS + 1
OUTCOMES = ("completed", "failed", "preempted", "stopped", "requeue", "permanent", "infra", "timeout")

_engines: list[Engine] = []


def engine() -> Engine:
    """One migrated file for all runs; each works in a transaction of its own that is never committed."""
    if not _engines:
        folder = tempfile.TemporaryDirectory(prefix="queue-machine-")
        made = sqlite.writer_engine(make_url(f"sqlite:///{Path(folder.name) / 'state.db'}"))
        to_head(made)
        made.hostler_folder = folder  # type: ignore[attr-defined]  # lives as long as the engine
        _engines.append(made)
    return _engines[0]


class QueueMachine(RuleBasedStateMachine):
    submitted = Bundle("submitted")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.conn: Connection = engine().connect()
        self.transaction = self.conn.begin()
        self.world = World(self.run_in_savepoint)
        self.seen: dict[int, dict[str, Any]] = {}
        self.all_claims: dict[tuple[int, int], Claim] = {}
        self.requeued: set[int] = set()
        """Tasks a person requeued since the last look."""
        self.ends: Counter[int] = Counter()
        """Terminal outcomes we were told of, since the last requeue."""

    def run_in_savepoint(self, work: Callable[[Connection], Any]) -> Any:
        with self.conn.begin_nested():
            return work(self.conn)

    def teardown(self) -> None:
        self.transaction.rollback()
        self.conn.close()

    @initialize(target=submitted)
    def two_instances_and_a_task(self) -> int:
        for name in INSTANCES:
            self.world.instance(name)
        return self.world.submit(retry=RETRY)

    @precondition(lambda self: len(self.seen) < TASKS_MAX)
    @rule(target=submitted, priority=st.sampled_from([10, 50]), cpus=st.sampled_from([1, 8]))
    def submit(self, priority: int, cpus: int) -> int:
        return self.world.submit(priority=priority, resources={"cpus": cpus}, retry=RETRY)

    @rule(target=claims, name=st.sampled_from(INSTANCES), cpus=st.sampled_from([1, 8]))
    def claim(self, name: str, cpus: int) -> Any:
        demanded = self.world.demanded()
        claim = self.world.claim(name, cpus=cpus)
        if claim is None:
            return multiple()
        assert self.world.box(name)["state"] == "ready"
        assert claim.task_id in demanded
        self.all_claims[claim.task_id, claim.generation] = claim
        return (name, claim)

    @rule(held=claims)
    def start(self, held: tuple[str, Claim]) -> None:
        name, claim = held
        holds = self.holds(name, claim)
        try:
            self.world.started(claim, name)
        except Stale:
            assert not holds
        else:
            assert holds

    @rule(held=claims)
    def heartbeat(self, held: tuple[str, Claim]) -> None:
        name, claim = held
        holds = self.holds(name, claim)
        beat = self.world.heartbeat(claim, name=name)
        assert (claim.task_id in beat.renewed) is holds
        assert bool(beat.stale) is not holds

    @rule(held=claims, outcome=st.sampled_from(OUTCOMES))
    def finish(self, held: tuple[str, Claim], outcome: str) -> None:
        name, claim = held
        holds = self.holds(name, claim)
        before = self.world.task(claim.task_id)
        try:
            state = self.world.finish(claim, outcome, name=name)
        except Stale:
            assert not holds
            assert self.world.task(claim.task_id) == before
            return
        after = self.world.task(claim.task_id)
        assert state.value == after["state"]
        if not holds:
            assert after == before  # the same result once more: answered, not applied
            return
        # The reply is lost and the agent says it again.
        assert self.world.finish(claim, outcome, name=name) is state
        assert self.world.task(claim.task_id) == after

    @rule(seconds=st.sampled_from([1.0, 20.0, OVER, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.later(seconds)

    @rule()
    def expire(self) -> None:
        before = self.world.now - LEASE_GRACE_SECONDS
        self.check_ended(ended := self.world.expire())
        for one in ended:
            assert self.seen[one.task_id]["lease_until"] < before

    @rule()
    def the_server_was_down(self) -> None:
        self.world.later(OVER)
        self.world.up_since = self.world.now
        assert self.world.expire() == ()

    @rule(task_id=submitted)
    def stop(self, task_id: int) -> None:
        state = self.world.stop(task_id)
        assert state in TERMINAL_TASK or state is TaskState.STOPPING

    @rule(task_id=submitted)
    def requeue(self, task_id: int) -> None:
        before = TaskState(self.world.state(task_id))
        try:
            self.world.requeue(task_id)
        except WrongState:
            assert before in HOLDING_TASK
        else:
            if before in TERMINAL_TASK:
                self.requeued.add(task_id)

    @rule(name=st.just(INSTANCES[1]), seconds=st.sampled_from([0.0, 30.0]))
    def notice(self, name: str, seconds: float) -> None:
        self.world.do(
            lambda conn: agents.notice(
                conn, instance_id=name, source="local", seconds_left=seconds, now=self.world.now
            )
        )

    @rule(name=st.sampled_from(INSTANCES), outcome=st.sampled_from(["lost", "preempted", "infra"]))
    def vanish(self, name: str, outcome: str) -> None:
        self.check_ended(self.world.vanish(name, outcome))
        assert name not in {row["instance_id"] for row in self.tasks().values()}

    @rule(name=st.just(INSTANCES[1]))
    def the_instance_is_replaced(self, name: str) -> None:
        # Its successor has the same name: the old one's claims are those of a zombie.
        self.world.vanish(name)
        self.world.set_instance(name, state="ready", preempt_at=None, idle_since=self.world.now)

    @rule(task_id=submitted, outcome=st.sampled_from(OUTCOMES))
    def the_holder_speaks_of_its_earlier_lease(self, task_id: int, outcome: str) -> None:
        before = self.world.task(task_id)
        earlier = self.all_claims.get((task_id, before["generation"] - 1))
        if earlier is None or before["instance_id"] is None:
            return
        with pytest.raises(Stale):
            self.world.finish(earlier, outcome, name=before["instance_id"])
        with pytest.raises(Stale):
            self.world.started(earlier, before["instance_id"])
        assert self.world.heartbeat(earlier, name=before["instance_id"]).renewed == ()
        assert self.world.task(task_id) == before

    @rule(task_id=submitted)
    def the_agent_of_a_stopped_task_falls_silent(self, task_id: int) -> None:
        if self.world.state(task_id) in ("leased", "running", "stopping"):
            assert self.world.stop(task_id) is TaskState.STOPPING
            self.world.later(OVER + TTL)
            self.world.expire()
            assert self.world.state(task_id) == "stopped"

    @rule(held=claims, outcome=st.sampled_from(OUTCOMES))
    def another_instance_speaks_for_it(self, held: tuple[str, Claim], outcome: str) -> None:
        name, claim = held
        other = next(one for one in INSTANCES if one != name)
        if self.holds(other, claim):
            return
        before = self.world.task(claim.task_id)
        with pytest.raises(Stale):
            self.world.started(claim, other)
        with pytest.raises(Stale):
            self.world.finish(claim, outcome, name=other)
        assert self.world.heartbeat(claim, name=other).renewed == ()
        assert self.world.task(claim.task_id) == before

    @invariant()
    def a_task_only_moves_along_its_table(self) -> None:
        for task_id, row in self.tasks().items():
            old = self.seen.get(task_id)
            if old is None:
                continue
            before, after = TaskState(old["state"]), TaskState(row["state"])
            if before in TERMINAL_TASK and task_id not in self.requeued:
                assert row == old, "what has ended stays as it is"
            assert row["generation"] >= old["generation"]
            assert row["attempt"] >= old["attempt"]
            assert row["generation"] - old["generation"] == row["attempt"] - old["attempt"]
            if before is not after and row["attempt"] == old["attempt"]:
                assert after in LEGAL_TASK[before]

    @invariant()
    def a_lease_has_one_holder_and_the_rest_none(self) -> None:
        open_attempts = Counter(
            (row["task_id"], row["instance_id"]) for row in self.rows(attempts) if row["finished_at"] is None
        )
        for task_id, row in self.tasks().items():
            holding = TaskState(row["state"]) in HOLDING_TASK
            assert holding is (row["instance_id"] is not None) is (row["lease_until"] is not None)
            expected = {(task_id, row["instance_id"]): 1} if holding else {}
            assert {key: number for key, number in open_attempts.items() if key[0] == task_id} == expected

    @invariant()
    def attempts_stay_within_the_budgets(self) -> None:
        for row in self.tasks().values():
            used = row["attempt"] - row["attempt_base"]
            assert used <= 1 + sum(RETRY.values()) + REQUEUES_MAX
            assert row["preempted"] <= RETRY["preempted"] + 1
            assert row["infra"] <= RETRY["infra"] + 1
            assert row["errors"] <= RETRY["error"] + 1
            spent = row["preempted"] + row["infra"] + row["errors"] + row["requeues"]
            assert spent <= used <= spent + 1
            if row["state"] == "queued":
                assert row["preempted"] <= RETRY["preempted"]
                assert row["infra"] <= RETRY["infra"]
                assert row["errors"] <= RETRY["error"]
                assert used == spent, "each attempt was charged to exactly one budget"

    @invariant()
    def demand_is_what_is_queued_and_due(self) -> None:
        waiting = {
            task_id
            for task_id, row in self.tasks().items()
            if row["state"] == "queued" and (row["not_before"] or 0) <= self.world.now
        }
        assert set(self.world.demanded()) == waiting

    @invariant()
    def each_end_is_told_once(self) -> None:
        told = Counter(
            row["task_id"]
            for row in self.rows(events)
            if row["kind"].removeprefix("task.") in {state.value for state in TERMINAL_TASK}
        )
        for task_id in self.requeued:
            self.ends[task_id] += 1
        for task_id, row in self.tasks().items():
            over = TaskState(row["state"]) in TERMINAL_TASK
            assert told[task_id] == self.ends[task_id] + over

    @invariant()
    def an_instance_is_idle_when_it_holds_nothing(self) -> None:
        holders = {row["instance_id"] for row in self.tasks().values()}
        for name in INSTANCES:
            assert (self.world.box(name)["idle_since"] is None) is (name in holders)

    @invariant()
    def remember(self) -> None:
        self.seen = self.tasks()
        self.requeued.clear()

    def check_ended(self, ended: tuple[Ended, ...]) -> None:
        """No result came: a task somebody wanted stopped is stopped, the others run again or are dead."""
        for one in ended:
            expected = ("stopped",) if self.seen[one.task_id]["state"] == "stopping" else ("queued", "dead")
            assert self.world.state(one.task_id) == one.state.value
            assert one.state.value in expected

    def holds(self, name: str, claim: Claim) -> bool:
        row = self.world.task(claim.task_id)
        return (
            row["generation"] == claim.generation
            and row["instance_id"] == name
            and TaskState(row["state"]) in HOLDING_TASK
        )

    def tasks(self) -> dict[int, dict[str, Any]]:
        return {row["id"]: row for row in self.rows(tasks)}

    def rows(self, table: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in self.conn.execute(select(table)).mappings()]


QueueMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_promises_of_the_queue_hold_in_any_order = pytest.mark.slow(QueueMachine.TestCase)

"""Invariants about tasks and leases: 3, 11, 16, 17, 21, 22, 23."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..ledger import Accepted, Handed, Machine
from .books import ENDED, HOLDING, LIVE, Books

LEASE_GRACE_SECONDS = 1.0
REQUEUES_MAX = 1_000


def invariant_03_attempts_are_bounded_and_the_dead_buy_nothing(books: Books, handed: Handed) -> Iterator[str]:
    """A poison task is claimed no more often than its budgets allow together; after that it is no demand."""
    row = books.one("select spec, requeues from tasks where id = ?", handed.task_id)
    if row is None:
        return
    retry = json.loads(row["spec"]).get("retry") or {}
    free = sum(
        1 for one in books.ledger.accepted if one.task_id == handed.task_id and one.outcome == "requeue"
    )
    allowed = 1 + retry.get("preempted", 20) + retry.get("infra", 5) + retry.get("error", 1) + free
    allowed *= 1 + books.ledger.revived.get(handed.task_id, 0)
    claims = {one.generation for one in books.ledger.handed if one.task_id == handed.task_id}
    if len(claims) > allowed:
        yield f"task {handed.task_id} was claimed {len(claims)} times, its budgets allow {allowed}"


def invariant_11_at_most_one_commit_per_task(books: Books, done: Accepted) -> Iterator[str]:
    """A zombie's result is refused: only the newest lease may commit, and a task completes once."""
    newest = max(
        (one.generation for one in books.ledger.handed if one.task_id == done.task_id),
        default=done.generation,
    )
    if done.generation < newest:
        yield f"task {done.task_id}: a result of generation {done.generation} was taken, {newest} is out"
    completed = {
        one.generation
        for one in books.ledger.accepted
        if one.task_id == done.task_id and one.outcome == "completed"
    }
    allowed = 1 + books.ledger.revived.get(done.task_id, 0)
    if len(completed) > allowed:
        yield f"task {done.task_id} was completed by generations {sorted(completed)}"


def invariant_11_the_store_agrees(books: Books) -> Iterator[str]:
    """A task has no more completed attempts than runs were asked of it."""
    rows = books.rows(
        "select task_id, count(*) as n from attempts where outcome = 'completed' group by task_id having n > 1"
    )
    for row in rows:
        if row["n"] > 1 + books.ledger.revived.get(row["task_id"], 0):
            yield f"task {row['task_id']} has {row['n']} completed attempts"


def invariant_16_one_terminal_outcome(books: Books) -> Iterator[str]:
    """What raced for the end of an attempt or a task has one winner, and the end stays as it was."""
    # A little overlap: two writes at the same instant may fall to both sides of a look.
    since = books.looked_at_finish - 1.0
    for row in books.rows(
        "select task_id, number, outcome, finished_at, exit_code, exit_reason from attempts where finished_at >= ?",
        since,
    ):
        seen = (row["outcome"], row["finished_at"], row["exit_code"], row["exit_reason"])
        before = books.outcomes.setdefault((row["task_id"], row["number"]), seen)
        if before != seen:
            yield f"attempt {row['number']} of task {row['task_id']} ended as {before} and then as {seen}"
    for row in books.rows(
        f"select id, state, attempt from tasks where state in {ENDED} and finished_at >= ?", since
    ):
        seen_end = (row["state"], row["attempt"])
        before_end = books.ends.setdefault(row["id"], seen_end)
        if before_end != seen_end:
            yield f"task {row['id']} ended as {before_end} and then as {seen_end}"
    books.looked_at_finish = books.now


def invariant_16_ends_last(books: Books) -> Iterator[str]:
    """A task that has ended is not run again unless a person asks."""
    for row in books.rows("select id, state, attempt from tasks"):
        end = books.ends.get(row["id"])
        if end is not None and (row["state"], row["attempt"]) != end:
            yield f"task {row['id']} had ended as {end} and is now {row['state']} in attempt {row['attempt']}"
    for row in books.rows("select task_id, number, outcome from attempts"):
        before = books.outcomes.get((row["task_id"], row["number"]))
        if before is not None and before[0] != row["outcome"]:
            yield f"attempt {row['number']} of task {row['task_id']} was {before[0]} and is now {row['outcome']}"


def invariant_17_no_false_requeue(books: Books) -> Iterator[str]:
    """A lease ends for silence only after a TTL of silence, and never before the server was up for one TTL."""
    ttl = books.fleet.daemon.lease_ttl
    query = (
        "select task_id, number, generation, instance_id, finished_at, claimed_at from attempts "
        "where exit_reason = 'lease_expired' and finished_at >= ?"
    )
    since, books.looked_at_expiry = books.looked_at_expiry - 1.0, books.now
    for row in books.rows(query, since):
        at = row["finished_at"]
        last = books.ledger.renewed.get((row["task_id"], row["generation"]), row["claimed_at"])
        if at - last < ttl:
            yield f"the lease of task {row['task_id']} was ended {at - last:.0f} s after it was renewed"
        up_since = max(begun for begun in books.ledger.up_since if begun <= at)
        if at - up_since < ttl:
            yield f"the lease of task {row['task_id']} was ended {at - up_since:.0f} s after the server came up"


def invariant_21_a_cancelled_purchase_ends(books: Books) -> Iterator[str]:
    """When nothing is left to do, nothing is left running: no instance beyond what pools keep, no open row."""
    floors = books.floors()
    alive = books.ledger.ours_alive(books.server_id)
    if len(alive) > sum(floors.values()):
        refs = ", ".join(f"{one.ref} ({one.token})" for one in alive)
        yield f"{len(alive)} instances are left and pools keep {sum(floors.values())}: {refs}"
    rows = books.rows(f"select id, pool, state, ref, reason from instances where state in {LIVE}")
    for name in {row["pool"] for row in rows}:
        held = [
            f"{row['id']} {row['state']} {row['ref']} {row['reason']}" for row in rows if row["pool"] == name
        ]
        if len(held) > floors.get(name, 0):
            yield f"pool {name} keeps {floors.get(name, 0)}, open rows are: {'; '.join(held)}"


def invariant_22_all_work_gets_done(books: Books) -> Iterator[str]:
    """Whatever vanished under it, work that was asked for comes to an end once the clouds can be used."""
    query = f"select id, state, name, attempt, not_before from tasks where state not in {ENDED} and state != 'draft'"
    for row in books.rows(query):
        why = books.one(
            "select code, message from decisions where subject = 'task' and subject_id = ? order by id desc",
            str(row["id"]),
        )
        yield f"task {row['id']} ({row['name']}) is still {row['state']} after the calm: {why}"


def invariant_23_no_lease_is_killed(books: Books, ref: str) -> Iterator[str]:
    """Terminate is never called for a machine that holds a lease: the drain came first, and it won or lost."""
    machine = books.ledger.machines.get(ref)
    if machine is None:
        return
    held = books.rows(
        f"select id, state from tasks where instance_id = ? and state in {HOLDING}", machine.token
    )
    for task in held:
        yield f"terminate was called for {ref} while it holds task {task['id']} ({task['state']})"


def invariant_23_a_drained_instance_takes_nothing(
    books: Books, machine: Machine, handed: Handed
) -> Iterator[str]:
    """A lease goes to a ready instance only; one that is on its way out takes nothing new."""
    row = books.one("select state from instances where id = ?", machine.token)
    if row is None or (row["state"] != "ready" and not handed.again):
        yield f"task {handed.task_id} was leased to {machine.token}, which is {row and row['state']}"

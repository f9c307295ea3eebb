"""Invariants about errors, limits of rate, time and leadership: 10, 12 to 14, 18 to 20."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from ..ledger import Machine
from .books import Books

PROTECT_AFTER: Final = 3
BAD_CALLS_MAX: Final = 3
BAD_WINDOW_SECONDS: Final = 1_700.0
"""A little less than the shortest pause after an error that only people can mend."""
CAPACITY_PAUSE_SECONDS: Final = 59.0
TEXT_CHARACTERS_MAX: Final = 128 * 1024
TEXTS: Final = (
    ("instances", "message"),
    ("tasks", "message"),
    ("attempts", "message"),
    ("events", "message"),
    ("decisions", "message"),
    ("decisions", "rejected"),
    ("offer_health", "detail"),
)
ALERT_SECONDS: Final = 60.0


def invariant_10_no_write_at_a_stale_epoch(books: Books) -> Iterator[str]:
    """Once another leads, the old leader writes nothing: no intent bears an epoch that was over when it was made."""
    yield from books.ledger.stale_commits
    books.ledger.stale_commits.clear()
    for row in books.rows("select id, epoch, created_at from instances where created_at >= ?", books.now):
        if row["epoch"] < books.ledger.leads[-1] and row["created_at"] > books.ledger.led_since:
            yield f"intent {row['id']} was written at epoch {row['epoch']}, {books.ledger.leads[-1]} leads"


def invariant_12_failing_boots_are_bounded(books: Books) -> Iterator[str]:
    """A pool whose boots fail one after the other stops launching until a person re-arms it."""
    for name, pool in books.fleet.pools.items():
        since = max(
            [books.ledger.rearmed.get(name, 0.0)]
            + [
                one.joined_at
                for one in books.ledger.machines.values()
                if one.pool == name and one.joined_at is not None
            ]
        )
        timeout = books.fleet.daemon.bootstrap_timeout
        tried = [
            one
            for one in books.ledger.machines.values()
            if one.pool == name and one.server == books.server_id and one.created_at > since
        ]
        failed = [one for one in tried if not one.alive or books.now - one.created_at > timeout + 120.0]
        most = PROTECT_AFTER + (pool.instances.max or 0) + _ended_from_outside(failed)
        if len(failed) > most:
            yield f"{len(failed)} boots failed in pool {name} in a row, and it still launches"


def _ended_from_outside(machines: Iterable[Machine]) -> int:
    """Machines that their cloud took away before they could join: no fault of the boot."""
    return sum(one.detail in ("vanished", "reclaimed", "asked for") for one in machines)


def invariant_13_hopeless_calls_are_few(books: Books) -> Iterator[str]:
    """Quota zero or a missing image costs at most three calls, and the tasks that wait for it say why."""
    recent: Counter[tuple[str, str]] = Counter()
    for call in reversed(books.ledger.calls):
        if call.at < books.now - BAD_WINDOW_SECONDS:
            break
        if call.verb == "launch" and call.answer in ("INVALID_CONFIG", "QUOTA"):
            recent[call.cloud, call.answer] += 1
    for (cloud, code), number in recent.items():
        lives = sum(at > books.now - BAD_WINDOW_SECONDS for at in books.ledger.up_since) + sum(
            at > books.now - BAD_WINDOW_SECONDS for at in books.ledger.rearmed.values()
        )
        if number > BAD_CALLS_MAX * (1 + lives):
            yield f"{number} launches were refused by {cloud} with {code} within half an hour"


def invariant_13_the_reason_is_told(books: Books) -> Iterator[str]:
    """A task that waits has a decision that says why, in words."""
    tick = books.fleet.daemon.tick
    if not books.ledger.ticks_done or books.ledger.ticks_done[-1][0] != books.ledger.tick:
        return
    query = (
        "select t.id from tasks t where t.state = 'queued' and t.queued_at < ? "
        "and coalesce(t.not_before, 0) < ? and not exists (select 1 from decisions d "
        "where d.subject = 'task' and d.subject_id = cast(t.id as text) and d.code != '' and d.message != '')"
    )
    # Two ticks of patience: one may have been cut short after it had planned.
    for row in books.rows(query, books.now - 2 * tick, books.now - 2 * tick):
        yield f"task {row['id']} waits, and nothing says why"


def invariant_14_an_empty_offer_is_left_alone(books: Books) -> Iterator[str]:
    """After 'no capacity' an offer is not asked again in the next ticks: others are, in the same one."""
    refused: dict[str, tuple[int, float]] = {}
    for call in books.ledger.calls[-200:]:
        if call.verb != "launch" or call.offer is None:
            continue
        key = str(call.offer.key)
        before = refused.get(key)
        late = before is not None and call.tick != before[0] and call.at - before[1] < CAPACITY_PAUSE_SECONDS
        if late and call.tick == books.ledger.tick and not _is_replay(books, call.token, call.tick):
            yield f"{key} was asked again {call.at - (before or (0, 0.0))[1]:.0f} s after it had no capacity"
        if call.answer == "NO_CAPACITY":
            refused[key] = (call.tick, call.at)


def _is_replay(books: Books, token: str, tick: int) -> bool:
    return any(call.token == token and call.tick < tick for call in books.ledger.calls)


def invariant_18_each_slot_fires_once(books: Books) -> Iterator[str]:
    """A warm window opens once for each start, through clock changes and restarts."""
    fired: Counter[tuple[str, int, float]] = Counter()
    for row in books.rows("select data from events where kind = 'pool.warm'"):
        data = json.loads(row["data"])
        fired[data["pool"], data["window"], data["start"]] += 1
    for (pool, window, start), number in fired.items():
        if number > 1:
            yield f"window {window} of pool {pool} fired {number} times for its start at {start:.0f}"


def invariant_19_refused_credentials_are_told_at_once(books: Books) -> Iterator[str]:
    """When a cloud refuses us, people hear of it within a minute of the first refusal."""
    if not books.ledger.ticks_done or books.ledger.ticks_done[-1][0] != books.ledger.tick:
        return
    if not books.ledger.refused_since:
        return
    told: dict[str, float] = {}
    for row in books.rows("select data, at from events where kind = 'provider.failing' order by id"):
        told[json.loads(row["data"])["provider"]] = row["at"]
    for cloud, since in books.ledger.refused_since.items():
        if books.now - since > ALERT_SECONDS and told.get(cloud, -1.0) < since:
            yield f"{cloud} refuses our credentials since {books.now - since:.0f} s and nobody was told"


def invariant_20_strangers_texts_are_bounded(books: Books) -> Iterator[str]:
    """Nothing that a cloud or an agent says is stored without a cap on its length."""
    for table, column in TEXTS:
        row = books.one(f"select max(length({column})) as n from {table}")
        if row is not None and (row["n"] or 0) > TEXT_CHARACTERS_MAX:
            yield f"{table}.{column} holds a text of {row['n']} characters"

"""Which invariant is asked when, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..ledger import Accepted, Handed, Machine
from . import money, rules, work
from .books import Books

FOUND_MAX: Final = 50
"""A broken run finds the same thing over and over."""
EVERY_TICKS: Final = 20
"""Checks that read whole tables are made so often, and at the end."""

Check = Callable[..., Iterator[str]]

AT_BIRTH: Final[tuple[Check, ...]] = (
    money.invariant_01_instances_at_most_intents,
    money.invariant_02_every_instance_matches_an_intent_committed_earlier,
    money.invariant_04_worst_case_is_within_the_caps_before_launch,
    money.invariant_08_nothing_comes_to_life_after_its_end,
)
AT_TERMINATE: Final[tuple[Check, ...]] = (
    money.invariant_02_what_an_intent_stands_for_is_not_reaped,
    money.invariant_07_other_servers_instances_are_never_touched,
    work.invariant_23_no_lease_is_killed,
)
AT_LEASE: Final[tuple[Check, ...]] = (work.invariant_23_a_drained_instance_takes_nothing,)
AFTER_LEASE: Final[tuple[Check, ...]] = (work.invariant_03_attempts_are_bounded_and_the_dead_buy_nothing,)
AT_RESULT: Final[tuple[Check, ...]] = (work.invariant_11_at_most_one_commit_per_task,)
AFTER_TICK: Final[tuple[Check, ...]] = (
    money.invariant_05_terminal_only_when_the_cloud_says_so,
    money.invariant_06_absence_is_not_gone_within_the_grace,
    money.invariant_09_returned_ids_are_recorded,
    money.invariant_15_booting_capacity_counts_as_supply,
    rules.invariant_10_no_write_at_a_stale_epoch,
    rules.invariant_13_hopeless_calls_are_few,
    rules.invariant_14_an_empty_offer_is_left_alone,
    rules.invariant_19_refused_credentials_are_told_at_once,
    work.invariant_16_one_terminal_outcome,
    work.invariant_17_no_false_requeue,
)
NOW_AND_THEN: Final[tuple[Check, ...]] = (
    rules.invariant_12_failing_boots_are_bounded,
    rules.invariant_13_the_reason_is_told,
    rules.invariant_18_each_slot_fires_once,
    rules.invariant_20_strangers_texts_are_bounded,
    work.invariant_11_the_store_agrees,
    work.invariant_16_ends_last,
)
AT_END: Final[tuple[Check, ...]] = (
    work.invariant_21_a_cancelled_purchase_ends,
    work.invariant_22_all_work_gets_done,
)
EVERYONE: Final = (
    *AT_BIRTH, *AT_TERMINATE, *AT_LEASE, *AFTER_LEASE, *AT_RESULT, *AFTER_TICK, *NOW_AND_THEN, *AT_END,
)  # fmt: skip


def number_of(check: Check) -> int:
    return int(check.__name__.split("_")[1])


CATALOGUE: Final = {
    number: tuple(check for check in EVERYONE if number_of(check) == number) for number in range(1, 25)
}
"""Number -> its invariants. 24, a migration that crashes, is proved by itself: it has no part in a run."""


@dataclass(frozen=True, slots=True)
class Violation:
    number: int
    at: float
    text: str

    def __str__(self) -> str:
        return f"invariant {self.number}: {self.text}"


class Invariants:
    """Called by the world at the moments that matter; `tell` hears of each violation at once."""

    def __init__(self, books: Books, tell: Callable[[Violation], None]) -> None:
        self.books = books
        self.found: list[Violation] = []
        self._tell = tell

    def at_birth(self, machine: Machine, *, in_transaction: bool) -> None:
        self._no_call_inside(in_transaction, 2)
        self._ask(AT_BIRTH, machine)

    def at_terminate(self, ref: str, *, in_transaction: bool) -> None:
        self._no_call_inside(in_transaction, 5)
        self._ask(AT_TERMINATE, ref)

    def at_lease(self, machine: Machine, handed: Handed) -> None:
        self._ask(AT_LEASE, machine, handed)
        self._ask(AFTER_LEASE, handed)

    def at_result(self, done: Accepted) -> None:
        self._ask(AT_RESULT, done)

    def after_tick(self) -> None:
        self._ask(AFTER_TICK)
        if self.books.ledger.tick % EVERY_TICKS == 0:
            self._ask(NOW_AND_THEN)

    def at_end(self) -> None:
        self._ask((*AFTER_TICK, *NOW_AND_THEN, *AT_END))

    def forget_end_of(self, task_id: int) -> None:
        """A person asked for it to be run again."""
        self.books.ends.pop(task_id, None)

    def _no_call_inside(self, in_transaction: bool, number: int) -> None:
        if in_transaction:
            self._found(number, ["a cloud was called inside a database transaction"])

    def _ask(self, checks: Iterable[Check], *about: Any) -> None:
        for check in checks:
            self._found(number_of(check), check(self.books, *about))

    def _found(self, number: int, texts: Iterable[str]) -> None:
        for text in texts:
            violation = Violation(number, self.books.now, text)
            if len(self.found) < FOUND_MAX and text not in {one.text for one in self.found}:
                self.found.append(violation)
                self._tell(violation)

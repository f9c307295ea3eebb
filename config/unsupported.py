"""Keys whose feature is not in this release: refused by name, never read and ignored.

Each entry is a dotted pattern (``*`` stands for any one key or index) and a sentence. Delete an entry when
its feature arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Path = tuple[str | int, ...]


def _is_used(value: object) -> bool:
    """Nothing written, or nothing in it, asks for nothing."""
    return value not in (None, "", [], {}, ())


@dataclass(frozen=True)
class Refusal:
    """`sentence` is said of `pattern` where `when` holds for the value found there."""

    pattern: str
    sentence: str
    when: Callable[[object], bool] = _is_used


def _above_one(value: object) -> bool:
    try:
        return float(str(value)) > 1
    except ValueError:
        return False


FLEET = (
    Refusal(
        "budgets",
        "budgets are not in this release; remove the key (limits.usd_per_hour caps what is spent per hour)",
    ),
    Refusal("queues.*.budget", "budgets of a queue are not in this release; remove the key"),
    Refusal(
        "queues.*.preempts",
        "preempting other queues is not in this release; remove the key (priority decides who goes first)",
    ),
    Refusal("queues.*.target_wait", "target_wait is not in this release; remove the key"),
)
TASK = (
    Refusal(
        "nodes", "tasks on several nodes (gangs) are not in this release; write 1 or leave it out", _above_one
    ),
    Refusal("env", "preparing an environment is not in this release; remove the key and set it up in run"),
    Refusal("inputs", "inputs are not in this release; remove the key and fetch the data in run"),
    Refusal("secrets", "secrets are not in this release; remove the key"),
    Refusal("deadline", "deadlines are not in this release; remove the key (timeout bounds run and queue)"),
)


def refusals(data: object, table: tuple[Refusal, ...]) -> list[tuple[Path, str]]:
    """Where `data` (plain mappings and lists) uses what `table` refuses: (path, sentence), in table order."""
    return [
        (path, refusal.sentence)
        for refusal in table
        for path, value in _matches(data, tuple(refusal.pattern.split(".")))
        if refusal.when(value)
    ]


def _matches(data: object, pattern: tuple[str, ...], path: Path = ()) -> Iterator[tuple[Path, object]]:
    if not pattern:
        yield path, data
        return
    if not isinstance(data, Mapping):
        return
    keys = list(data) if pattern[0] == "*" else [pattern[0]]
    for key in keys:
        if key in data:
            yield from _matches(data[key], pattern[1:], (*path, key))

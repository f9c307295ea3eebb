"""What people read: quantities, tables, the layout of explain."""

from __future__ import annotations

import time

import pytest
from hostler.fleet.cli import explain, output, words
from hostler.fleet.cli.output import Column, Format
from hostler.fleet.cli.wait import exit_code_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (0.4, "0.4s"), (42, "42s"), (372, "6m12s"), (3900, "1h05m"), (183_600, "2d3h")],
)
def test_spans(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        (None, "-"),
        (0, "$0.00"),
        (0.00001, "<$0.0001"),
        (0.003, "$0.0030"),
        (0.01, "$0.01"),
        (1234.5, "$1,234.50"),
    ],
)
def test_money(dollars: float | None, text: str) -> None:
    assert words.usd(dollars) == text


def test_times_are_told_from_now_and_on_the_clock() -> None:
    now = time.mktime((2026, 3, 4, 14, 2, 5, 0, 0, -1))
    assert words.ago(now - 200, now) == "3m ago"
    assert words.ago(now + 7300, now) == "in 2h"
    assert words.clock(now - 5, now) == "14:02:00"
    assert words.clock(now - 86_400, now) == "2026-03-03 14:02:05"


def test_sizes_and_values() -> None:
    assert [words.size(n) for n in (None, 12, 1536, 5 << 30)] == ["-", "12 B", "1.5 KiB", "5.0 GiB"]
    assert [words.number(n) for n in (None, 3.0, 0.123456789, 1e-9, "nan")] == [
        "-",
        "3",
        "0.12346",
        "1e-09",
        "nan",
    ]


def test_a_table_is_aligned_and_never_cut_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    columns = (Column("NAME", lambda one: one["name"]), Column("N", lambda one: str(one["n"]), right=True))
    items = [{"name": "x" * 300, "n": 1}, {"name": "evil\x1b[31m\nname", "n": 1000}]
    output.rows(items, columns, Format.TABLE, empty="")
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "x" * 300 + "     1"
    assert second.startswith("evil [31m name ")
    assert head.startswith("NAME ")
    assert head.endswith("   N")


def test_wide_columns_are_shown_with_wide_only() -> None:
    columns = (Column("A", str), Column("B", str, wide=True))
    assert len(output.grid([], columns, Format.TABLE)[0]) == 1
    assert len(output.grid([], columns, Format.WIDE)[0]) == 2


def test_an_empty_list_is_told_on_stderr_and_is_a_list_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.rows([], (), Format.TABLE, empty="no tasks")
    assert capsys.readouterr() == ("", "no tasks\n")
    output.rows([], (), Format.JSON, empty="no tasks")
    assert capsys.readouterr() == ("[]\n", "")


def test_a_tasks_exit_code_is_passed_on_and_signals_as_shells_do() -> None:
    assert exit_code_of({"state": "completed", "exit_code": 0}) == 0
    assert exit_code_of({"state": "failed", "exit_code": 7}) == 7
    assert exit_code_of({"state": "failed", "exit_code": -9}) == 137
    assert exit_code_of({"state": "dead", "exit_code": None}) == 1
    assert exit_code_of({"state": "stopped", "exit_code": 0}) == 1


def test_explain_has_its_layout() -> None:
    now = time.mktime((2026, 3, 4, 14, 2, 5, 0, 0, -1))
    decision = {
        "code": "NO_SPOT_CAPACITY",
        "message": "2 offer(s) looked at",
        "hint": "hostler submit --market on_demand",
        "next_at": now + 600,
        "rejected": [
            ["gpu-spot/aws us-east-1a g5.xlarge", "CAPACITY", "14:02, next probe 14:07"],
            ["gpu-spot/gcp", "LIMIT", "max_instances 8/8"],
        ],
    }
    row = {"id": 81, "state": "queued", "queued_at": now - 372, "created_at": now - 400, "finished_at": None}
    found = {"task": row, "decision": decision, "history": [], "attempts": []}
    assert explain.task_lines(found, now, False) == [
        "task 81 QUEUED 6m12s [NO_SPOT_CAPACITY]",
        "  gpu-spot/aws us-east-1a g5.xlarge  CAPACITY 14:02, next probe 14:07",
        "  gpu-spot/gcp                       LIMIT max_instances 8/8",
        "  2 offer(s) looked at",
        "  next: 14:12:05 (in 10m)",
        "  hint: hostler submit --market on_demand",
    ]
    assert explain.task_lines({**found, "decision": None}, now, False)[1].startswith("  no tick")

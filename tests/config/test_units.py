"""Quantities: what people write is read, what is printed reads back, and a slip says what to write."""

from __future__ import annotations

import pytest
from hostler.config import units
from hostler.config.units import Range
from hypothesis import given
from hypothesis import strategies as st

whole_seconds = st.integers(0, int(units.MAX_DURATION_SECONDS)).map(float)
milliseconds = st.integers(0, 10_000_000).map(lambda number: number / 1000)
sizes = st.integers(0, units.MAX_SIZE_BYTES)
ranges = st.tuples(st.integers(0, 10**6), st.none() | st.integers(0, 10**6)).map(
    lambda ends: Range(ends[0], None if ends[1] is None else ends[0] + ends[1])
)
size_ranges = st.tuples(st.integers(0, 10**14), st.none() | st.integers(0, 10**14)).map(
    lambda ends: Range(ends[0], None if ends[1] is None else ends[0] + ends[1])
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        ("200ms", 0.2),
        ("1.5h", 5400),
        (0, 0),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@given(whole_seconds | milliseconds)
def test_a_printed_duration_reads_back(seconds: float) -> None:
    assert units.parse_duration(units.print_duration(seconds)) == seconds


@pytest.mark.parametrize("number", [10, 1.5, "10", -3])
def test_a_duration_without_a_unit_is_refused_with_the_unit_to_add(number: object) -> None:
    with pytest.raises(ValueError, match=f"has no unit; write {number}s" if number != -3 else "has no unit"):
        units.parse_duration(number)


@pytest.mark.parametrize(
    "text", ["", "abc", "10x", "-5s", "5m1h", "1h1h", "1e3s", "inf", "1h 30m", "99999d", True, None, []]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration|not text|longer than ten years|unit"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("200GB", 200 * 10**9), ("32GiB", 32 * 2**30), ("1.5 KiB", 1536), ("0B", 0), ("7b", 7), (0, 0)],
)
def test_a_size_is_bytes(text: object, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@given(sizes)
def test_a_printed_size_reads_back(size_bytes: int) -> None:
    assert units.parse_size(units.print_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    "text", ["200", 200, "200G", "GB", "-1GB", "1.3B", "9999999TiB", "1" * 100 + "GB", False]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"unit|size|bytes|longer|larger|not text"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1..4", Range(1, 4)), ("4..", Range(4)), ("0..20", Range(0, 20)), (8, Range(8, 8)), ("3", Range(3, 3))],
)
def test_a_range_has_both_its_ends(text: object, expected: Range) -> None:
    assert units.parse_range(text) == expected


@given(ranges)
def test_a_printed_range_reads_back(numbers: Range) -> None:
    assert units.parse_range(units.print_range(numbers)) == numbers
    assert units.parse_range(str(numbers)) == numbers


@given(size_ranges)
def test_a_printed_size_range_reads_back(numbers: Range) -> None:
    assert units.parse_size_range(units.print_size_range(numbers)) == numbers


@given(ranges, st.integers(0, 3 * 10**6))
def test_a_number_is_in_a_range_between_its_ends(numbers: Range, number: int) -> None:
    expected = number >= numbers.min and (numbers.max is None or number <= numbers.max)
    assert (number in numbers) == expected


@pytest.mark.parametrize("text", ["4..1", "..4", "1...4", "1-4", "a..b", -1, 1.5, True, None])
def test_what_is_no_range_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"range|below 0|not text"):
        units.parse_range(text)


@pytest.mark.parametrize(
    ("text", "share"), [("25%", 0.25), (0.25, 0.25), ("0.5", 0.5), ("100%", 1.0), (0, 0.0)]
)
def test_a_share_is_a_fraction(text: object, share: float) -> None:
    assert units.parse_share(text) == share


@given(st.integers(0, 10_000).map(lambda number: number / 10_000))
def test_a_printed_share_reads_back(share: float) -> None:
    assert units.parse_share(units.print_share(share)) == share


@pytest.mark.parametrize("text", ["101%", 2, "-1%", "half", float("nan"), True])
def test_what_is_no_share_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"share"):
        units.parse_share(text)


@pytest.mark.parametrize(("text", "dollars"), [(120, 120.0), (0.35, 0.35), ("$1.50", 1.5), ("20 USD", 20.0)])
def test_money_is_dollars(text: object, dollars: float) -> None:
    assert units.parse_money(text) == dollars


@given(st.floats(0, 1e9))
def test_printed_money_reads_back(dollars: float) -> None:
    text = units.print_money(dollars)
    assert len(text) > units.MAX_QUANTITY_CHARACTERS or units.parse_money(text) == dollars


@pytest.mark.parametrize("text", ["12 EUR", "-5", -5, float("inf"), float("nan"), "lots", True])
def test_what_is_no_money_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"money|not text"):
        units.parse_money(text)

"""GPU expressions: one spelling for each GPU, and the nearest one for a slip."""

from __future__ import annotations

import pytest
from hostler.config.gpus import ALIASES, KNOWN_GPUS, GpuWish, normalise_gpu, parse_gpus, print_gpus
from hypothesis import given
from hypothesis import strategies as st

counts = st.integers(1, 64).map(float) | st.integers(1, 99).map(lambda number: number / 100)
wishes = st.lists(
    st.builds(GpuWish, st.sampled_from(KNOWN_GPUS), counts), max_size=6, unique_by=lambda wish: wish.name
).map(tuple)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A10G:1|L4:1", (GpuWish("A10G", 1.0), GpuWish("L4", 1.0))),
        ("A10G|L4", (GpuWish("A10G", 1.0), GpuWish("L4", 1.0))),
        ("RTX4090:2", (GpuWish("RTX4090", 2.0),)),
        ("A10G:0.5", (GpuWish("A10G", 0.5),)),
        ("none", ()),
        (None, ()),
    ],
)
def test_an_expression_lists_alternatives(text: object, expected: tuple[GpuWish, ...]) -> None:
    assert parse_gpus(text) == expected


@given(wishes)
def test_a_printed_expression_reads_back(expected: tuple[GpuWish, ...]) -> None:
    assert parse_gpus(print_gpus(expected)) == expected


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("nvidia tesla t4", "T4"),
        ("NVIDIA-A10G", "A10G"),
        ("a100", "A100-40GB"),
        ("A100-80", "A100-80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("rtx 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 3090", "RTX3090"),
        ("RTX A6000", "A6000"),
        ("AMD Instinct MI300X", "MI300X"),
        ("NVIDIA H100 80GB HBM3", "H100"),
    ],
)
def test_spellings_of_one_gpu_become_one_name(written: str, name: str) -> None:
    assert normalise_gpu(written) == name


@pytest.mark.parametrize("name", KNOWN_GPUS)
def test_every_known_name_is_its_own_spelling(name: str) -> None:
    assert normalise_gpu(name) == normalise_gpu(name.lower()) == name


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_leads_to_a_known_name(alias: str) -> None:
    assert normalise_gpu(alias) in KNOWN_GPUS


@pytest.mark.parametrize(
    ("typo", "nearest"), [("A10H", "A10"), ("H10O", "H100"), ("RTX409O", "RTX4090"), ("V10", "V100")]
)
def test_a_mistyped_name_says_the_nearest(typo: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"'{typo}' is not a GPU we know \(did you mean '{nearest}"):
        parse_gpus(typo)


def test_a_name_near_nothing_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"known names: A10, A10G"):
        parse_gpus("zzzzzz")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A10G:0", "asks for nothing"),
        ("A10G:1.5", "whole"),
        ("A10G:-1", "not a number of GPUs"),
        ("A10G:", "not a number of GPUs"),
        ("A10G:65", "no more than 64"),
        ("A10G|A10G:2", "A10G is listed twice"),
        ("A10G|", "names no GPU"),
        (":2", "names no GPU"),
        ("none|A10G", "write it alone"),
        ("", "not a GPU expression"),
        (4, "not a GPU expression"),
        ("|".join(["A10G"] * 40), "more than 32 alternatives"),
    ],
)
def test_what_asks_for_no_gpu_is_refused(text: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_gpus(text)

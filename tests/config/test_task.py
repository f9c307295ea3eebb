"""task.yaml and the body of a submit: one model, one set of names, one kind of complaint."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostler.config import ConfigError, GpuWish, Range, TaskSpec, parse_task
from hypothesis import given
from hypothesis import strategies as st

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
words = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)
durations = st.integers(1, 10**6).map(lambda seconds: f"{seconds}s")
bodies = st.fixed_dictionaries(
    {
        "run": st.lists(words.filter(str.strip), min_size=1, max_size=5).filter(
            lambda run: run[:2] != ["sh", "-c"]
        )
    },
    optional={
        "name": names,
        "project": names,
        "queue": names,
        "environ": st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,9}", fullmatch=True), words, max_size=3),
        "tags": st.lists(words, max_size=4, unique=True),
        "priority": st.integers(0, 100),
        "market": st.sampled_from(["spot", "on_demand", "spot_first"]),
        "code": st.fixed_dictionaries({"git": st.just("."), "include": st.just(["configs/**"])}),
        "resources": st.fixed_dictionaries(
            {},
            optional={
                "gpu": st.sampled_from(["A10G:1|L4:1", "A10G:0.5", "none", "nvidia h100:8"]),
                "cpus": st.sampled_from([4, "4..", "2..8", "1..1"]),
                "memory": st.sampled_from(["32GB..", "1GiB", "1GB..2GB"]),
                "disk": st.sampled_from(["200GB", 0]),
            },
        ),
        "timeout": st.fixed_dictionaries({}, optional={"run": durations, "queue": durations}),
        "retry": st.fixed_dictionaries({}, optional={"error": st.integers(0, 1000)}),
        "preempt": st.fixed_dictionaries({"grace": durations}),
    },
)


@given(bodies)
def test_a_task_survives_the_trip_through_json(body: dict[str, Any]) -> None:
    spec = TaskSpec.from_dict(body)
    text = json.dumps(spec.to_dict())
    assert TaskSpec.from_dict(json.loads(text)) == spec
    assert json.dumps(TaskSpec.from_dict(json.loads(text)).to_dict()) == text


def test_a_task_needs_nothing_but_a_command() -> None:
    spec = TaskSpec.from_dict({"run": "python train.py"})
    assert spec.run == ("sh", "-c", "python train.py")
    assert (spec.project, spec.queue, spec.code, spec.priority) == ("default", "default", None, None)
    assert (spec.retry.preempted, spec.retry.infra, spec.retry.error) == (20, 5, 1)
    assert spec.preempt.grace == 90.0
    assert (spec.timeout.run, spec.timeout.queue) == (None, None)
    assert spec.resources.cpus == Range(1)


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (["python", "train.py", "--lr", "0.1"], "train"),
        (["python", "-m", "trainer"], "python"),
        ("cd x && python src/fit_model.py", "fit_model"),
        (["./run.sh"], "run"),
        (["/usr/bin/true"], "true"),
        (["../(weird).py"], "weird"),
        (["火"], "task"),
    ],
)
def test_a_task_without_a_name_takes_that_of_its_script(run: Any, name: str) -> None:
    assert TaskSpec.from_dict({"run": run}).name == name


def test_numbers_in_a_command_are_words() -> None:
    spec = parse_task(
        "run: [train, --epochs, 3, --lr, 0.1, --eps, 1e-3, --tag, 007, --v, 1.10]", variables={}
    )
    assert spec.run == (
        "train",
        "--epochs",
        "3",
        "--lr",
        "0.1",
        "--eps",
        "1e-3",
        "--tag",
        "007",
        "--v",
        "1.10",
    )


def test_numbers_in_the_environment_are_text() -> None:
    assert parse_task("run: x\nenviron: {N: 3, V: 3.10}", variables={}).environ == {"N": "3", "V": "3.10"}


def test_a_plain_number_of_cpus_is_the_least_that_will_do() -> None:
    resources = TaskSpec.from_dict(
        {"run": "x", "resources": {"cpus": 4, "memory": "8GB", "gpu": "L4"}}
    ).resources
    assert resources.cpus == Range(4)
    assert resources.memory == Range(8 * 10**9)
    assert resources.gpu == (GpuWish("L4", 1.0),)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "body: run: is missing; add it"),
        ({"run": ""}, "body: run: is empty; write a command"),
        ({"run": []}, "body: run: is empty; write a command"),
        ({"run": ["", "x"]}, "body: run: is empty"),
        ({"run": ["x\0y"]}, "NUL character"),
        ({"run": None}, "body: run: must be a list, not nothing"),
        ({"run": ["x", True]}, r"body: run\[1\]: true must be in quotes"),
        ({"run": ["x", {"a": 1}]}, r"body: run\[1\]: must be text, not a mapping"),
        ({"run": ["x" * 140_000]}, "put it in a script"),
        ({"run": ["x"] * 5000}, "more than 4096 entries"),
        ({"run": "x", "nme": "y"}, r"nme: is not a known key \(did you mean 'name'"),
        ({"run": "x", "name": "a b"}, "'a b' is not a name"),
        ({"run": "x", "name": "a" * 64}, "longer than 63"),
        ({"run": "x", "priority": 101}, "priority: must be at most 100, not 101"),
        ({"run": "x", "priority": "high"}, "priority: must be a whole number, not 'high'"),
        ({"run": "x", "market": "spots"}, r"market: 'spots' is not one of .* \(did you mean 'spot'"),
        ({"run": "x", "retry": {"error": -1}}, "retry.error: must be at least 0"),
        ({"run": "x", "retry": 3}, "retry: must be a mapping of keys, not 3"),
        ({"run": "x", "timeout": {"run": 60}}, "timeout.run: 60 has no unit; write 60s"),
        ({"run": "x", "timeout": {"run": 0}}, "0 leaves no time at all"),
        ({"run": "x", "environ": {"A B": "x"}}, "'A B' is not a variable name"),
        ({"run": "x", "environ": {"A": "x\0"}}, "NUL character"),
        ({"run": "x", "environ": {f"V{n}": "" for n in range(501)}}, "environ: has more than 500 entries"),
        ({"run": "x", "tags": ["a", "a"]}, "'a' is listed twice"),
        ({"run": "x", "code": {"include": ["../secrets"]}}, "leaves the folder of the code"),
        ({"run": "x", "code": {"include": ["/etc/*"]}}, "leaves the folder of the code"),
        (
            {"run": "x", "resources": {"gpu": "A10H"}},
            r"resources.gpu: 'A10H' is not a GPU we know \(did you mean",
        ),
        ({"run": "x", "resources": {"memory": 32}}, "resources.memory"),
        ([], "body: must be a mapping of keys, not a list"),
        ("x", "body: must be a mapping of keys, not 'x'"),
        (None, "body: must be a mapping of keys, not nothing"),
    ],
)
def test_a_bad_body_is_refused_with_the_way_out(body: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TaskSpec.from_dict(body)


def test_the_values_of_the_environment_are_not_repeated_in_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        TaskSpec.from_dict({"run": "x", "environ": {"HF_TOKEN": ["hunter2"]}})
    assert "hunter2" not in str(caught.value)
    assert "environ.HF_TOKEN: must be text" in str(caught.value)


def test_very_many_problems_are_counted_not_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        TaskSpec.from_dict({"run": "x", **{f"key{n}": 1 for n in range(500)}})
    assert len(caught.value.problems) == 101
    assert "and 400 more problems" in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*TaskSpec.model_fields, "other"]), json_values) | json_values)
def test_any_json_gives_a_task_or_a_config_error(body: Any) -> None:
    try:
        TaskSpec.from_dict(body)
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize(
    "body",
    [{"run": "x", "a\nb": 1}, {"run": "x", "\ud800": 1}, {"run": "\ud800"}, {"run": "x", "name": "\x1b[31m"}],
)
def test_a_problem_is_one_line_that_can_be_printed(body: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TaskSpec.from_dict(body)
    (line,) = str(caught.value).splitlines()
    assert line.encode()
    assert line.isprintable()

"""A file is read whole or refused whole: every problem at once, each with its place and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostler.config import ConfigError, FleetConfig, Range, load_fleet, load_task, parse_fleet, parse_task
from hostler.config.document import MAX_NODES
from hostler.config.loader import MAX_FILE_BYTES
from hypothesis import given
from hypothesis import strategies as st

SMALL = """\
version: 1
providers:
  here: {type: local, max_instances: 4}
pools:
  work:
    providers: [here]
    market: spot
    instances: 0..2
queues:
  default: {pools: [work]}
"""


def problems(text: str, variables: dict[str, str] | None = None) -> list[str]:
    """What is said of a fleet.yaml, a line each; empty when it is accepted."""
    try:
        parse_fleet(text, "fleet.yaml", variables or {})
    except ConfigError as error:
        assert str(error).splitlines() == [str(problem) for problem in error.problems]
        return str(error).splitlines()
    return []


def test_a_small_fleet_is_read() -> None:
    fleet = parse_fleet(SMALL)
    assert fleet.pools["work"].instances.max == 2
    assert fleet.queues["default"].pools == ("work",)


def test_a_typo_in_a_value_says_where_and_what_was_meant() -> None:
    assert problems(SMALL.replace("market: spot", "market: spto")) == [
        "fleet.yaml:7:5: pools.work.market: 'spto' is not one of spot, on_demand, spot_first (did you mean 'spot'?)"
    ]


def test_a_typo_in_a_key_says_where_and_what_was_meant() -> None:
    assert problems(SMALL.replace("market: spot", "markt: spot")) == [
        "fleet.yaml:7:5: pools.work.markt: is not a known key (did you mean 'market'?)"
    ]


def test_a_key_of_another_provider_type_is_not_suggested() -> None:
    (said,) = problems(SMALL.replace("max_instances: 4", "max_instnces: 4, region: x"))[:1]
    assert (
        said
        == "fleet.yaml:3:23: providers.here.max_instnces: is not a known key (did you mean 'max_instances'?)"
    )
    (said,) = problems(SMALL.replace("max_instances: 4", "zzz: x"))
    assert "known keys: type, root, max_instances, cpus, memory, gpus, offers" in said


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = SMALL.replace("version: 1", "version: 2\nbudgets: [{name: a, usd: 1, per: day}]")
    text = text.replace("0..2", "2..0").replace("pools: [work]}", "pools: [wrok], priority: 101}")
    said = problems(text)
    assert [line.split(": ")[0] for line in said] == [
        "fleet.yaml:1:1",
        "fleet.yaml:2:1",
        "fleet.yaml:9:5",
        "fleet.yaml:11:28",
    ]
    assert "1" in said[0]
    assert "budgets are not in this release" in said[1]
    assert "2..0 is empty" in said[2]
    assert "priority: must be at most 100, not 101" in said[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "fleet.yaml:1:1: is empty"),
        ("# only a comment\n", "fleet.yaml:1:1: is empty"),
        ("---\n", "is empty; write keys at its top, such as providers:"),
        ("- a\n- b\n", "fleet.yaml:1:1: is not a mapping"),
        ("just text", "fleet.yaml:1:1: is not a mapping"),
        ("version: 1\n\tpools: {}\n", "fleet.yaml:2:1: a tab indents this line; YAML wants spaces"),
        ("version: [1\npools: {}\n", "fleet.yaml:2:6: not valid YAML"),
        ("version: 'abc\n", "not valid YAML"),
        ("a: b: c\n", "fleet.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("version: 1\n---\nversion: 1\n", "fleet.yaml:2:1: a second document starts here"),
        ("? [a, b]\n: 1\n", "a key must be a word"),
        (
            "version: !!python/object:os.system {}\n",
            "the tag tag:yaml.org,2002:python/object:os.system is not used",
        ),
        ("version: !secret x\n", "the tag !secret is not used here"),
        ("version: *nothing\n", "names nothing above it"),
        ("version: \x01\n", "fleet.yaml:1:10: a character that YAML can't hold"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 40 levels"),
        ("a: " + "[" * 100_000, "nested deeper than 40 levels"),
        ("#" * (MAX_FILE_BYTES + 1), "fleet.yaml:1:1: is larger than 512 KiB"),
    ],
)
def test_what_is_no_usable_yaml_is_refused_at_its_place(text: str, said: str) -> None:
    assert said in problems(text)[0]


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (said,) = problems("\n".join(lines))
    assert f"more than {MAX_NODES} values once its aliases are written out" in said


def test_a_value_inside_itself_is_refused() -> None:
    assert "names nothing above it" in problems("a: &a [*a]")[0]


def test_a_duplicate_key_names_both_lines() -> None:
    said = problems(SMALL + "pools: {}\n")
    assert said == ["fleet.yaml:11:1: pools: is there twice (first in line 4)"]


def test_anchors_and_merge_keys_share_settings() -> None:
    text = SMALL.replace("  work:\n", "  work: &base\n").replace(
        "queues:", "  more:\n    <<: *base\n    instances: 0..1\nqueues:"
    )
    fleet = parse_fleet(text)
    assert fleet.pools["more"].providers == ("here",)
    assert fleet.pools["more"].instances.max == 1
    assert fleet.pools["work"].instances.max == 2


def test_words_that_old_yaml_took_for_booleans_stay_words() -> None:
    fleet = parse_fleet(SMALL.replace("work", "on").replace("here", "no"))
    assert list(fleet.pools) == ["on"]
    assert fleet.pools["on"].providers == ("no",)


def test_true_where_text_belongs_asks_for_quotes() -> None:
    (said,) = problems(SMALL.replace("pools: [work]", "pools: [true]"))
    assert "true must be in quotes to be text: 'true'" in said


def test_variables_are_filled_in_with_the_type_of_what_they_hold() -> None:
    text = SMALL.replace("max_instances: 4", "max_instances: '${MOST}', root: '${ROOT:-/tmp/x}'")
    fleet = parse_fleet(text.replace("0..2", "${COUNT}"), variables={"MOST": "7", "COUNT": "3"})
    provider = fleet.providers["here"].model_dump()
    assert (provider["max_instances"], provider["root"]) == (7, Path("/tmp/x"))
    assert fleet.pools["work"].instances == Range(3, 3)


def test_an_unquoted_variable_between_braces_asks_for_quotes() -> None:
    (said,) = problems(SMALL.replace("max_instances: 4", "max_instances: ${MOST}"))
    assert said.endswith("inside {...} and [...] write variables in quotes, as in '${NAME}'")


def test_a_missing_variable_is_a_problem_at_its_place() -> None:
    assert problems(SMALL.replace("market: spot", "market: ${MARKT}"), {"MARKET": "spot"}) == [
        (
            "fleet.yaml:7:13: pools.work.market: the environment variable MARKT is not set "
            "(did you mean 'MARKET'?); set it or write ${MARKT:-default}"
        )
    ]


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${1A}", "${A-b}", "${A:?x}"])
def test_what_looks_like_a_variable_and_is_none_is_refused(text: str) -> None:
    assert "is not a variable" in problems(SMALL.replace("market: spot", f"market: '{text}'"), {"A": "x"})[0]


def test_a_doubled_dollar_keeps_the_reference_as_text() -> None:
    spec = parse_task("run: x\nenviron: {A: '$${HOME} ${B}'}", variables={"B": "b"})
    assert spec.environ["A"] == "${HOME} b"


def test_the_command_is_left_to_the_shell_of_the_task() -> None:
    spec = parse_task("run: echo ${HOME} ${NOT_SET}\nname: x", variables={"HOME": "/here"})
    assert spec.run == ("sh", "-c", "echo ${HOME} ${NOT_SET}")


def test_secrets_are_not_repeated_in_problems() -> None:
    text = "providers: {a: {type: aws, regions: [us-east-1], auth: {access_key_env: 'AKIA SECRET'}}}"
    said = "\n".join(problems(text))
    assert "access_key_env" in said
    (said,) = problems(SMALL + "daemon: {state: 'mysql://user:hunter2@db/x'}")
    assert "hunter2" not in said
    (said,) = problems(SMALL + "daemon: {url: 'http://user:hunter2@host'}")
    assert "hunter2" not in said


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    with pytest.raises(ConfigError, match=r"fleet\.yaml: no such file"):
        load_fleet(path)
    with pytest.raises(ConfigError, match=r"is a folder, not a file"):
        load_task(tmp_path)


def test_a_file_that_is_no_text_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(b"version: 1\npools: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"fleet\.yaml:2:8: is not UTF-8 text"):
        load_fleet(path)


def test_an_endless_file_is_not_read_whole() -> None:
    with pytest.raises(ConfigError, match=r"is larger than 512 KiB"):
        load_fleet("/dev/zero")


def test_a_file_of_an_editor_that_writes_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(SMALL, encoding="utf-8-sig")
    assert isinstance(load_fleet(path), FleetConfig)


@given(st.text(max_size=200) | st.text(alphabet="abc:-[]{}&*<!'\"\n\t $#|>%@0.", max_size=80))
def test_any_text_gives_a_fleet_or_a_config_error(text: str) -> None:
    try:
        parse_fleet(text, variables={})
    except ConfigError as error:
        assert error.problems

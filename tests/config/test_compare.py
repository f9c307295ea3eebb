"""What `apply` shows: one line for each change, none where nothing changes."""

from __future__ import annotations

from hostler.config import FleetConfig, differences, needs_restart, parse_fleet

SMALL = """\
providers: {here: {type: local}}
pools: {work: {providers: [here], instances: 0..2}}
queues: {default: {pools: [work]}}
"""


def fleet(old: str = "", new: str = "") -> FleetConfig:
    return parse_fleet(SMALL.replace(old, new) if old else SMALL, variables={})


def test_equal_fleets_have_no_differences() -> None:
    assert differences(fleet(), fleet("0..2", "'0..2'")) == []


def test_a_changed_value_shows_both_sides_as_they_are_written() -> None:
    assert differences(fleet(), fleet("0..2", "0..4, idle_timeout: 90s")) == [
        "~ pools.work.instances: 0..2 -> 0..4",
        "~ pools.work.idle_timeout: 10m -> 1m30s",
    ]


def test_what_comes_and_what_goes_are_told_apart() -> None:
    more = fleet("[work]}", "[work]}, urgent: {pools: [work], priority: 90}")
    assert differences(fleet(), more) == ["+ queues.urgent: {pools: [work], priority: 90, preempts: []}"]
    assert differences(more, fleet()) == ["- queues.urgent: {pools: [work], priority: 90, preempts: []}"]


def test_a_limit_that_is_lifted_is_a_loss() -> None:
    capped = parse_fleet(SMALL + "limits: {instances: 5}\n", variables={})
    assert differences(capped, fleet()) == ["- limits.instances: 5"]


def test_what_is_read_at_start_only_needs_a_restart() -> None:
    moved = parse_fleet(SMALL + "daemon: {listen: '127.0.0.1:9000', tick: 5s}\n", variables={})
    assert needs_restart(fleet(), moved) == ["daemon.listen"]
    assert needs_restart(fleet(), fleet("0..2", "0..4")) == []


def test_a_changed_state_is_told_without_its_password() -> None:
    state = 'daemon: {state: "postgresql+psycopg://me:${PW}@db/hostler"}\n'
    shared = parse_fleet(state + SMALL, variables={"PW": "hunter2"})
    said = "\n".join(differences(fleet(), shared))
    assert "postgresql+psycopg://me:***@db/hostler" in said
    assert "hunter2" not in said
    assert needs_restart(fleet(), shared) == ["daemon.state"]

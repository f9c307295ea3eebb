"""What is designed but not in this release is refused by name, never read and ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hostler.config import ConfigError, parse_fleet, parse_task
from hostler.config.task import TaskSpec
from hostler.config.unsupported import FLEET, TASK

WHOLE = """\
version: 1
daemon: {tick: 10s, state: "sqlite:////var/lib/hostler/state.db", listen: "127.0.0.1:8480", url: "https://h.example.org"}
limits: {instances: 40, gpus: 64, usd_per_hour: 120}
budgets:
  - {name: org, usd: 20000, per: month, soft: 0.8, on_soft: notify, on_hard: no_new_instances}
providers:
  aws: {type: aws, auth: {profile: gpu}, regions: [us-east-1, us-east-2]}
  gcp: {type: gcp, project: acme-ml, regions: [us-central1], max_instances: 8}
  azure: {type: azure, subscription: 0b1f6471-1bf0-4dda-aec3-cb9272f09590, resource_group: ml, regions: [eastus],
          subnets: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/a}
  lab: {type: static, hosts: [{ssh: "gpu@lab-1", gpus: "RTX4090:2"}]}
  k8s: {type: kubernetes, context: prod, namespace: ml, sizes: [{name: a, cpus: 4, memory: 16GiB, usd_per_hour: 0.2}]}
pools:
  gpu-spot:
    providers: [lab, aws, gcp]
    offers: [{gpu: "A10G|L4", count: 1..4}, {gpu: A100-80GB, count: 8}]
    market: spot            # spot | on_demand | spot_first
    fallback: {to: on_demand, after: 10m, max_share: 25%}
    instances: 0..20
    idle_timeout: 10m
    max_age: 24h
    spread: {zones: 3, types: 2}
    disk: 200GB
    warm: [{cron: "0 9 * * mon-fri", until: "0 18 * * mon-fri", tz: America/New_York, min: 2}]
queues:
  default: {pools: [gpu-spot], priority: 50, target_wait: 5m}
  urgent:  {pools: [gpu-spot], priority: 90, preempts: [default], market: on_demand, budget: {usd: 500, per: week}}
"""
TASK_YAML = """\
name: resnet
env: {python: "3.12", sync: uv.lock}
nodes: 2
run: [python, train.py, --lr, "0.1"]
inputs: {data: "dataset://cifar10@latest"}
secrets: [HF_TOKEN]
deadline: 2026-12-01T09:00:00Z
"""


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text, variables={})
    return [f"{problem.line}:{'.'.join(map(str, problem.path))}" for problem in caught.value.problems]


def test_the_whole_fleet_is_refused_for_what_is_not_in_this_release_and_nothing_else() -> None:
    assert refused(WHOLE) == [
        "4:budgets",
        "26:queues.default.target_wait",
        "27:queues.urgent.preempts",
        "27:queues.urgent.budget",
    ]


def test_the_whole_fleet_is_accepted_without_them() -> None:
    kept = [line for line in WHOLE.splitlines() if not any(word in line for word in ("budgets", "name: org"))]
    text = "\n".join(kept).replace("[lab, aws, gcp]", "[lab, aws]").replace(", target_wait: 5m", "")
    text = text.replace(", preempts: [default]", "").replace(", budget: {usd: 500, per: week}", "")
    fleet = parse_fleet(text, variables={})
    assert fleet.limits.usd_per_hour == 120
    assert fleet.queues["urgent"].market == "on_demand"


def test_a_typo_inside_a_refused_key_is_told_too() -> None:
    text = WHOLE.replace("per: month", "per: mnth").replace("project: acme-ml", "projct: acme-ml")
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text, variables={})
    said = str(caught.value)
    assert "budgets[0].per: 'mnth' is not one of day, week, month (did you mean 'month'?)" in said
    assert "providers.gcp.projct: is not a known key (did you mean 'project'?)" in said
    assert "budgets are not in this release" in said


def test_a_preempted_queue_must_exist_and_be_lower_even_if_refused() -> None:
    text = WHOLE.replace("preempts: [default]", "preempts: [defalt]")
    with pytest.raises(ConfigError, match=r"preempts\[0\]: 'defalt' is not one of default, urgent"):
        parse_fleet(text, variables={})


def test_empty_refused_keys_ask_for_nothing() -> None:
    text = WHOLE.replace(
        "\n  - {name: org, usd: 20000, per: month, soft: 0.8, on_soft: notify, on_hard: no_new_instances}", ""
    )
    assert "4:budgets" not in refused(text)


def test_a_task_is_refused_for_what_is_not_in_this_release() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_task(TASK_YAML)
    assert [problem.path[0] for problem in caught.value.problems] == [
        "env",
        "nodes",
        "inputs",
        "secrets",
        "deadline",
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", 2),
        ("nodes", "2"),
        ("nodes", 2.0),
        ("env", {"docker": "image"}),
        ("inputs", {"data": "dataset://cifar10"}),
        ("secrets", ["A"]),
        ("secrets", "A"),
        ("deadline", "2026-12-01T09:00:00Z"),
    ],
)
def test_a_body_of_json_is_refused_as_a_file_is(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^body: {key}: .*not in this release"):
        TaskSpec.from_dict({"run": "x", key: value})
    with pytest.raises(ValueError, match="not in this release"):
        TaskSpec.model_validate({"run": "x", key: value})


def test_one_node_is_the_same_as_none_said() -> None:
    assert TaskSpec.from_dict({"run": "x", "nodes": 1}) == TaskSpec.from_dict({"run": "x"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"env": {"docker": "a", "conda": "b"}}, "found conda and docker"),
        ({"env": {"pyton": "3.12"}}, "did you mean 'python'"),
        ({"env": {"python": "2.7", "sync": "uv.lock"}}, "doesn't have the form"),
        ({"inputs": {"data": "cifar10"}}, "doesn't have the form"),
        ({"deadline": "tomorrow"}, "must be a time such as"),
        ({"deadline": "2026-12-01T09:00:00"}, "needs a time zone"),
        ({"nodes": 0}, "must be at least 1"),
    ],
)
def test_the_shape_of_refused_task_keys_is_checked(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TaskSpec.from_dict({"run": "x", **value})


def test_every_refusal_says_what_to_do() -> None:
    assert all("not in this release; " in entry.sentence for entry in (*FLEET, *TASK))

"""Sections of type kubernetes: what is read, what is refused, and the documentation's own example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hostler.config import ConfigError, parse_fleet
from hostler.config.kubernetes import KubernetesProvider
from pydantic import ValidationError

SIZE = {"name": "small", "cpus": 1, "memory": "1GiB", "usd_per_hour": 0.02}
DOCUMENT = Path(__file__).parents[2] / "docs" / "providers" / "kubernetes.md"


def section(**changes: Any) -> KubernetesProvider:
    return KubernetesProvider.model_validate(
        {"type": "kubernetes", "namespace": "ml", "sizes": [SIZE], **changes}
    )


def test_what_is_left_out_has_defaults_that_work() -> None:
    read = section()
    assert (read.context, read.kubeconfig, read.image) == (None, None, "python:3.12-slim")
    assert (read.schedule_timeout, read.termination_grace) == (300.0, 60.0)
    (size,) = read.sizes
    assert (size.market, size.gpu_resource, size.zones) == ("on_demand", "nvidia.com/gpu", ())


def test_it_is_written_back_as_it_was_read() -> None:
    read = section(
        template={"nodeSelector": {"pool": "ml"}, "volumes": [{"name": "a", "emptyDir": {}}], "priority": 5},
        sizes=[{**SIZE, "gpu": "L4:2", "zones": ["a", "b"], "tolerations": [{"operator": "Exists"}]}],
        labels={"team": "vision"},
        schedule_timeout="90s",
    )
    assert KubernetesProvider.model_validate(read.to_dict()) == read


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"namespace": "Not A Name"}, "should match pattern"),
        ({"sizes": []}, "at least 1 item"),
        ({"sizes": [SIZE, SIZE]}, "'small' is there twice in market on_demand"),
        ({"sizes": [{**SIZE, "usd_per_hour": 0}]}, "a zero price is no price"),
        ({"sizes": [{**SIZE, "memory": 0}]}, "memory must be above 0"),
        ({"sizes": [{**SIZE, "cpus": 0}]}, "greater than 0"),
        ({"sizes": [{**SIZE, "gpu": "L4:0.5"}]}, "whole GPUs"),
        ({"sizes": [{**SIZE, "gpu": "L4:1|T4:1"}]}, "one kind of GPU"),
        ({"sizes": [{**SIZE, "gpu_resource": "gpu"}]}, "should match pattern"),
        ({"sizes": [{**SIZE, "market": "spot"}]}, "nothing says which nodes are"),
        ({"sizes": [{**SIZE, "zones": ["a", "a"]}]}, "listed twice"),
        ({"spot_nodes": "gkee"}, "'gke', 'eks', 'aks' or 'karpenter'"),
        ({"template": {"containers": []}}, "containers can't be set here; write container"),
        ({"template": {"restartPolicy": "Always"}}, "restartPolicy can't be set here"),
        ({"template": {"terminationGracePeriodSeconds": 9}}, "write termination_grace"),
        ({"container": {"image": "x"}}, "image can't be set here; write image"),
        ({"container": {"resources": {}}}, "write sizes"),
        ({"labels": {"hostler.dev/server": "x"}}, "set by hostler itself"),
        ({"labels": {"a b": "x"}}, "is not a key for labels"),
        ({"labels": {"team": "two words"}}, "is not a label's value"),
        ({"queue_name": "x" * 64}, "is not a label's value"),
        ({"termination_grace": "5s"}, "at least 10s"),
        ({"schedule_timeout": 0}, "above 0"),
        ({"naemspace": "x"}, "Extra inputs"),
    ],
)
def test_what_can_not_work_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        section(**change)


def test_spot_nodes_may_be_named_by_the_size_itself() -> None:
    read = section(sizes=[{**SIZE, "market": "spot", "node_selector": {"capacity": "spot"}}])
    assert read.sizes[0].node_selector == {"capacity": "spot"}


def test_a_mistake_in_a_file_is_told_with_its_line() -> None:
    broken = "k8s: {type: kubernetes, namespace: ml, sizes: [{name: a}]}"
    text = f"version: 1\nproviders:\n  {broken}\npools: {{p: {{providers: [k8s]}}}}\n"
    with pytest.raises(ConfigError, match=r"fleet.yaml:3:.*providers\.k8s\.sizes\[0\]\.cpus: is missing"):
        parse_fleet(text, variables={})


def test_the_example_of_the_documentation_is_valid_as_it_stands() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    fleet = parse_fleet(text, str(DOCUMENT), {})
    provider = fleet.providers["k8s"]
    assert isinstance(provider, KubernetesProvider)
    assert [size.market for size in provider.sizes] == ["spot", "on_demand"]


def test_every_key_is_in_the_documentation() -> None:
    text = DOCUMENT.read_text()
    keys = {*KubernetesProvider.model_fields, *type(section().sizes[0]).model_fields} - {"type"}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []

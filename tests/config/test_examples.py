"""Example files load, fit the published JSON Schema, and stay in step with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hostler.config
import pytest
from hostler.config import load_fleet, load_task
from hostler.config.schema import fleet_schema, schema_files, task_schema
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

CONFIG = Path(hostler.config.__file__).parent
EXAMPLES = CONFIG / "examples"
FLEETS = sorted(EXAMPLES.glob("fleet.*.yaml"))


def plain(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def complaints(schema: dict[str, Any], data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(data)]


def test_there_are_examples_for_local_and_aws() -> None:
    assert {path.name for path in FLEETS} == {"fleet.aws.yaml", "fleet.local.yaml"}


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.name)
def test_an_example_fleet_loads_and_fits_the_schema(path: Path) -> None:
    fleet = load_fleet(path, variables={})
    assert fleet.pools
    assert complaints(fleet_schema(), plain(path)) == []


def test_the_local_example_can_scale_from_nothing_to_three() -> None:
    fleet = load_fleet(EXAMPLES / "fleet.local.yaml")
    (pool,) = fleet.pools.values()
    assert (pool.instances.min, pool.instances.max) == (0, 3)
    assert fleet.daemon.listen == "127.0.0.1:8480"


def test_the_example_task_loads_and_fits_the_schema() -> None:
    task = load_task(EXAMPLES / "task.yaml")
    assert task.run == ("python", "train.py", "--lr", "0.1")
    assert complaints(task_schema(), plain(EXAMPLES / "task.yaml")) == []


@pytest.mark.parametrize("path", [*FLEETS, EXAMPLES / "task.yaml"], ids=lambda path: path.name)
def test_what_was_loaded_fits_the_schema_when_written_out(path: Path) -> None:
    if path.name == "task.yaml":
        assert complaints(task_schema(), load_task(path).to_dict()) == []
    else:
        assert complaints(fleet_schema(), load_fleet(path, variables={}).to_dict()) == []


@pytest.mark.parametrize("path", schema_files(), ids=lambda path: path.name)
def test_the_committed_schema_is_fresh(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == schema_files()[path], "run: python -m hostler.config.schema"


@pytest.mark.parametrize("schema", [fleet_schema(), task_schema()], ids=["fleet", "task"])
def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def changed(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    data = copy.deepcopy(data)
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("daemn",), {}),
        (("daemon", "tick"), 10),
        (("daemon", "tick"), "10 parsecs"),
        (("limits", "instances"), -1),
        (("limits", "instances"), "many"),
        (("providers",), {}),
        (("providers", "here", "type"), "lokal"),
        (("providers", "here", "max_instnces"), 3),
        (("providers", "here", "offers", 0, "memory"), "1Gigabyte"),
        (("pools", "local", "instances"), "0-3"),
        (("pools", "local", "market"), "spto"),
        (("pools", "local", "providers"), []),
        (("queues", "default", "priority"), 101),
    ],
)
def test_the_fleet_schema_refuses_what_the_loader_refuses(path: tuple[Any, ...], value: Any) -> None:
    assert complaints(fleet_schema(), changed(plain(EXAMPLES / "fleet.local.yaml"), path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("run",), []),
        (("run",), ""),
        (("run",), {"a": "b"}),
        (("name",), "a b"),
        (("nodes",), 0),
        (("market",), "spto"),
        (("timeout", "run"), 60),
        (("timeout", "runn"), "60s"),
        (("resources", "memory"), 32),
        (("environ",), ["A=1"]),
        (("deadline",), 5),
    ],
)
def test_the_task_schema_refuses_what_the_loader_refuses(path: tuple[Any, ...], value: Any) -> None:
    assert complaints(task_schema(), changed(plain(EXAMPLES / "task.yaml"), path, value))

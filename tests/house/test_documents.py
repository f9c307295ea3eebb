"""The documents say what is so: links lead somewhere, examples are valid, the licence is whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hostler.config import load_fleet, load_task, parse_fleet
from house import checkout

DOCUMENTS = [path for path in checkout.files() if path.suffix == ".md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    text = (checkout.ROOT / document).read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (checkout.ROOT / document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_make_target_it_names_exists(document: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)\b", (checkout.ROOT / document).read_text(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (checkout.ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets


def test_the_license_is_the_whole_of_apache_2() -> None:
    text = (checkout.ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_ci_script_is_executable_and_parses() -> None:
    script = checkout.ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_lock_pins_plain_versions_of_everything_that_development_names() -> None:
    lines = (checkout.ROOT / "requirements-dev.lock").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line)] == []
    names = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pinned}
    extras = checkout.pyproject()["project"]["optional-dependencies"]
    asked = {
        re.sub(r"[-_.]+", "-", re.split(r"[\[<>=; ]", line)[0]).lower()
        for extra in ("daemon", "aws", "gcp", "kubernetes", "demo", "dev")
        for line in extras[extra]
    }
    assert asked - names == set()


def test_the_fleet_yaml_of_the_readme_is_valid_as_it_stands() -> None:
    (text,) = re.findall(
        r"<<'YAML'\n(.*?)^YAML$", (checkout.ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert set(parse_fleet(text, "README.md", {}).providers) == {"aws"}


def test_make_up_starts_on_a_valid_fleet_yaml() -> None:
    (path,) = re.findall(r"^CONFIG \?= (\S+)$", (checkout.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert load_fleet(checkout.ROOT / path, {}).pools


@pytest.mark.parametrize(
    "path", sorted((checkout.ROOT / "examples").glob("*.task.yaml")), ids=lambda path: path.name
)
def test_an_example_task_runs_the_program_it_is_named_after(path: Path) -> None:
    program = path.name.replace(".task.yaml", ".py")
    assert load_task(path, {}).run[:2] == ("python", program)
    assert (path.parent / program).is_file()

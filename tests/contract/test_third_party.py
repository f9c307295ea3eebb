"""A provider type of another package: installed by pip, named in fleet.yaml, checked by its own model and our suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
from hostler.config import ConfigError, FleetConfig, differences, parse_fleet
from hostler.config import fleet as fleet_module
from hostler.config.third_party import BUILT_IN, ThirdPartyProvider
from hostler.providers import registry
from hostler.providers.base import InvalidConfig, Provider, ProviderContext

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).with_name("acme")
HERE = ProviderContext("server", "/nonexistent")
FLEET = """\
version: 1
daemon: {url: "https://hostler.example.org"}
limits: {instances: 4}
providers:
  rented: {type: acme, site: lab-7, machines: 3}
pools:
  work: {providers: [rented], market: on_demand}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip has installed the package that it has built."""
    folder = tmp_path_factory.mktemp("acme")
    source = shutil.copytree(SOURCE, folder / "source")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    done = subprocess.run(
        [*command, "--target", str(folder / "site"), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture
def acme(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("hostler_acme", None)


@pytest.mark.usefixtures("acme")
def test_a_type_of_an_installed_package_is_read_and_makes_its_provider() -> None:
    fleet = parse_fleet(FLEET, variables={})
    section = fleet.providers["rented"]
    assert isinstance(section, ThirdPartyProvider)
    assert section.settings == {"site": "lab-7", "machines": 3}
    made = registry.create("rented", section, HERE)
    assert isinstance(made, Provider)
    assert [offer.zone for offer in made.offers()] == ["lab-7"]
    assert "acme" in registry.known_types()


@pytest.mark.usefixtures("acme")
def test_its_section_is_kept_written_and_compared_as_any_other() -> None:
    fleet = parse_fleet(FLEET, variables={})
    assert FleetConfig.from_dict(fleet.to_dict()) == fleet
    other = parse_fleet(FLEET.replace("lab-7", "lab-8"), variables={})
    assert differences(fleet, other) == ["~ providers.rented.site: lab-7 -> lab-8"]


@pytest.mark.usefixtures("acme")
def test_a_mistake_in_its_keys_is_told_at_its_line_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fleet(FLEET.replace("site: lab-7, machines: 3", "siet: lab-7, machines: -3"), variables={})
    said = str(caught.value).splitlines()
    assert "fleet.yaml:5:3: providers.rented.site: is missing; add it" in said
    assert any(
        "5:24: providers.rented.siet: is not a known key (did you mean 'site'?)" in one for one in said
    )
    assert any("providers.rented.machines: must be at least 0, not -3" in one for one in said)


@pytest.mark.usefixtures("acme")
def test_a_section_that_skipped_the_reading_is_checked_all_the_same() -> None:
    with pytest.raises(InvalidConfig, match="site"):
        registry.create("rented", ThirdPartyProvider.model_validate({"type": "acme"}), HERE)


def test_without_the_package_the_type_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"providers\.rented: type: 'acme' is not one of local, aws"):
        parse_fleet(FLEET, variables={})


def test_a_package_that_cannot_be_loaded_is_named_when_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_cloud.py").write_text("raise RuntimeError('no licence')\n")
    about = tmp_path / "broken_cloud-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-cloud\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\nacme = broken_cloud:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"rented.type: 'acme' of broken-cloud can't be loaded.*no licence"):
        parse_fleet(FLEET, variables={})


def test_no_package_can_take_over_a_type_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "sly-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sly\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\nlocal = sly:make\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "local" in [point.name for point in metadata.entry_points(group=registry.GROUP)]
    with pytest.raises(ConfigError, match="max_instancs: is not a known key"):
        parse_fleet(FLEET.replace("{type: acme, site: lab-7, machines: 3}", "{type: local, max_instancs: 1}"))


def test_the_names_that_are_ours_are_those_of_the_models() -> None:
    members = get_args(get_args(fleet_module.BuiltInProvider)[0])
    names = [get_args(member.model_fields["type"].annotation)[0] for member in members]
    assert sorted(names) == sorted(BUILT_IN)


def test_the_doctor_looks_at_it_without_a_daemon(site: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FLEET)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hostler")), "doctor", "--config", "fleet.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lab-7" in done.stdout


def test_its_author_runs_the_contract_suite_against_it(site: Path, tmp_path: Path) -> None:
    shutil.copy(SOURCE / "contract_of_acme.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "contract_of_acme.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "failed" not in done.stdout

"""The root is the package: what ships, what doesn't, and that the SDK brings nothing with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from house import checkout

FASTER_IF_INSTALLED = {"orjson"}
"""Libraries that the SDK uses when the environment has them anyway; nothing asks for them."""


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and a wheel that was made from that sdist, of a clone called my-clone."""
    clone = checkout.copy_to(tmp_path_factory.mktemp("built") / "my-clone")
    out = clone.parent / "dist"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(clone)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_folder_with_source_is_listed_as_a_package() -> None:
    folders = {path.parent for path in checkout.shipped_files() if path.suffix == ".py"}
    tree = {".".join(["hostler", *folder.parts]) for folder in folders}
    assert sorted(checkout.pyproject()["tool"]["setuptools"]["packages"]) == sorted(tree)


def test_no_other_python_file_lies_at_the_root() -> None:
    assert [path.name for path in checkout.ROOT.glob("*.py")] == ["__init__.py"]


def test_the_type_checkers_links_show_the_package_and_nothing_else() -> None:
    links = {path.name: path.resolve() for path in (checkout.ROOT / ".types" / "hostler").iterdir()}
    assert links == {name: checkout.ROOT / name for name in ("__init__.py", *checkout.FOLDERS)}


def test_every_dependency_has_a_lower_bound_and_a_capped_major_version() -> None:
    extras = checkout.pyproject()["project"]["optional-dependencies"]
    names = [line for name, lines in extras.items() if name != "all" for line in lines]
    loose = [line for line in names if not line.startswith("tzdata>=") and not (">=" in line and "<" in line)]
    assert loose == []


def test_the_version_is_the_same_for_pip_and_for_the_program() -> None:
    assert (
        python("import hostler; print(hostler.__version__)").strip()
        == checkout.pyproject()["project"]["version"]
    )


def test_the_sdk_is_found_without_loading_anything_but_the_standard_library() -> None:
    code = """if True:
        import json, sys
        before = set(sys.modules)
        import hostler
        hostler.init
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    loaded = json.loads(python(code))
    ours = {name for name in loaded if name.split(".")[0] == "hostler"}
    others = {name.split(".")[0] for name in set(loaded) - ours}
    assert others - FASTER_IF_INSTALLED <= sys.stdlib_module_names
    assert {name.split(".")[1] for name in ours if "." in name} == {"tracking"}
    assert not {name for name in ours if name.startswith("hostler.tracking.server")}


def test_every_name_of_the_sdk_can_be_had_and_a_wrong_one_is_an_attribute_error() -> None:
    assert (
        python("import hostler; print(all(hasattr(hostler, n) for n in hostler.__all__))").strip() == "True"
    )
    assert python("import hostler; print(hasattr(hostler, 'intit'))").strip() == "False"


def test_a_training_program_with_its_own_config_and_tracking_modules_keeps_them(tmp_path: Path) -> None:
    for name in checkout.FOLDERS:
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    code = "import hostler, config, tracking; hostler.init; print(config.mine and tracking.mine)"
    assert python(code, PYTHONPATH=str(tmp_path)).strip() == "True"


def test_a_clone_may_bear_any_name(tmp_path: Path) -> None:
    clone = checkout.copy_to(tmp_path / "my-clone")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "hostler").symlink_to(clone)
    probe = clone / "tests" / "test_probe.py"
    probe.write_text(
        "import hostler\n\n\ndef test_this_clone_is_imported():\n"
        f"    assert hostler.__file__.startswith({str(tmp_path)!r})\n    assert callable(hostler.init)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(probe)],
        check=False,
        capture_output=True,
        text=True,
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wheel_made_from_the_sdist_holds_the_five_folders_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {
        f"hostler/{path.as_posix()}" for path in checkout.shipped_files(built.parent / "my-clone")
    }


@pytest.mark.slow
def test_the_sdist_holds_the_license_and_no_leftovers(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [
        name for name in names if name.startswith((".venv", "build/", "dist/")) or "__pycache__" in name
    ]

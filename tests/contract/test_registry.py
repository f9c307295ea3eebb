"""From a type in fleet.yaml to a provider object."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostler.config.aws import AwsProvider as AwsSection
from hostler.config.local import LocalProvider as LocalSection
from hostler.providers import registry
from hostler.providers.base import AuthFailed, InvalidConfig, Provider, ProviderContext, Reclaimable, Scope

HERE = ProviderContext("server", "/nonexistent")


def test_local_is_a_provider_that_can_reclaim() -> None:
    made = registry.create("lab", LocalSection(type="local"), HERE)
    assert isinstance(made, Provider)
    assert isinstance(made, Reclaimable)
    assert made.name == "lab"


def test_aws_is_a_provider_and_calls_nobody_when_it_is_made() -> None:
    made = registry.create("cloud", AwsSection(type="aws", regions=("us-east-1",)), HERE)
    assert isinstance(made, Provider)


def test_an_unknown_type_lists_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match=r"'asw' is not known; known types: aws, .*local") as caught:
        registry.create("x", SimpleNamespace(type="asw"), HERE)
    assert caught.value.scope is Scope.PROVIDER


def test_a_missing_library_says_what_to_install() -> None:
    code = """if True:
        import sys
        sys.modules["boto3"] = None
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("boto3", "botocore"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Absent())
        del sys.modules["boto3"]
        from hostler.providers import registry
        from hostler.providers.base import InvalidConfig
        try:
            registry.factory("aws")
        except InvalidConfig as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "provider 'aws' needs: pip install 'hostler[aws]'", done.stderr


def test_a_module_of_ours_that_is_missing_is_not_blamed_on_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = registry.BuiltIn(".aws.unwritten", "Provider", "aws", frozenset({"boto3"}))
    monkeypatch.setattr(registry, "BUILT_IN", {"aws": broken})
    with pytest.raises(ModuleNotFoundError):
        registry.factory("aws")


def test_importing_the_registry_imports_no_cloud_library() -> None:
    code = "import sys, hostler.providers.registry; print(sorted({'boto3', 'botocore', 'moto'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_adds_a_type_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        tmp_path, monkeypatch, "def make(name, section, context):\n    return (name, section.type, context)\n"
    )
    made: Any = registry.create("lab", SimpleNamespace(type="other"), HERE)
    assert made == ("lab", "other", HERE)
    assert registry.known_types() == tuple(sorted({*registry.BUILT_IN, "other"}))


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "raise RuntimeError('no licence')\n")
    with pytest.raises(
        InvalidConfig, match=r"'other' of other-cloud can't be loaded from other_cloud:make.*no licence"
    ):
        registry.create("lab", SimpleNamespace(type="other"), HERE)


def test_an_unknown_region_is_told_with_the_nearest() -> None:
    with pytest.raises(InvalidConfig, match="has no region eu-centrl-1") as caught:
        registry.create("cloud", AwsSection(type="aws", regions=("eu-centrl-1",)), HERE)
    assert "did you mean eu-central-1?" in caught.value.hint
    assert caught.value.scope is Scope.REGION


def test_an_empty_key_variable_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPU_KEY", raising=False)
    auth = {"access_key_env": "GPU_KEY", "secret_key_env": "GPU_SECRET"}
    section = AwsSection.model_validate({"type": "aws", "regions": ["us-east-1"], "auth": auth})
    with pytest.raises(AuthFailed, match="GPU_KEY is empty"):
        registry.create("cloud", section, HERE)


def test_a_profile_that_is_not_there_is_an_auth_failure() -> None:
    section = AwsSection.model_validate(
        {"type": "aws", "regions": ["us-east-1"], "auth": {"profile": "gone"}}
    )
    with pytest.raises(AuthFailed, match="gone"):
        registry.create("cloud", section, HERE)


def install(folder: Path, patch: pytest.MonkeyPatch, source: str) -> None:
    """A package `other-cloud` with one entry point, as pip would leave it."""
    (folder / "other_cloud.py").write_text(source)
    about = folder / "other_cloud-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-cloud\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\nother = other_cloud:make\n")
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, "other_cloud", raising=False)
    assert [point.name for point in metadata.entry_points(group=registry.GROUP)] == ["other"]

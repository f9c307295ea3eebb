"""The code that is sent along: which files, and always the same bytes for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from hostler.agent_bootstrap.agent.snapshot import unpack
from hostler.fleet.cli.code_files import code_files
from hostler.fleet.cli.failures import ExitCode, Failure
from hostler.fleet.cli.snapshot import snapshot_of


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(root: Path, *words: str) -> None:
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True, env=environ)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "-q")
    write(
        root, train_dot_py="1", lib__part_dot_py="2", data__big_dot_bin="3", _dot_gitignore="*.bin\nsecret/\n"
    )
    write(root, secret__key_dot_txt="4")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def digest_of(root: Path, *include: str) -> str:
    with snapshot_of(root, include) as packed:
        return packed.digest


def test_tracked_and_new_files_go_and_ignored_and_deleted_ones_stay(checkout: Path) -> None:
    write(checkout, new_dot_py="5")
    (checkout / "lib/part.py").unlink()
    assert code_files(checkout) == [".gitignore", "new.py", "train.py"]


def test_a_folder_inside_a_checkout_sends_what_lies_in_it(checkout: Path) -> None:
    assert code_files(checkout / "lib") == ["part.py"]


def test_globs_add_ignored_files_and_whole_folders(checkout: Path) -> None:
    assert "data/big.bin" in code_files(checkout, ["data/*.bin"])
    assert "secret/key.txt" in code_files(checkout, ["secret"])
    assert "secret/key.txt" in code_files(checkout, ["secret/**"])
    with pytest.raises(Failure, match="leaves the folder"):
        code_files(checkout, ["../*"])


def test_a_glob_without_a_match_is_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code_files(checkout, ["*.nothing"])
    assert "'*.nothing' matches no file" in capsys.readouterr().err


def test_a_repository_inside_brings_its_own_files(checkout: Path) -> None:
    inner = checkout / "vendored"
    inner.mkdir()
    git(inner, "init", "-q")
    write(inner, code_dot_py="6", junk_dot_log="7", _dot_gitignore="*.log\n")
    assert "vendored/code.py" in code_files(checkout)
    assert "vendored/junk.log" not in code_files(checkout)


def test_outside_git_hidden_files_caches_and_environments_stay(tmp_path: Path) -> None:
    write(tmp_path, a_dot_py="1", sub__b_dot_py="2", _dot_env="SECRET", __pycache____a_dot_pyc="3")
    write(tmp_path, node_modules__x_dot_js="4", myenv__pyvenv_dot_cfg="5", myenv__bin__python="6")
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    assert code_files(tmp_path) == ["a.py", "sub/b.py"]


def test_the_same_files_are_the_same_bytes_wherever_and_whenever(checkout: Path, tmp_path: Path) -> None:
    first = digest_of(checkout)
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    for path in copy.rglob("*"):
        os.utime(path, (time.time() - 1e6, time.time() - 1e6))
    (copy / "train.py").chmod(0o600)
    assert digest_of(copy) == first
    (copy / "train.py").chmod(0o755)
    assert digest_of(copy) != first


def test_what_is_packed_is_what_the_agent_unpacks(checkout: Path, tmp_path: Path) -> None:
    (checkout / "run.sh").write_text("#!/bin/sh\n")
    (checkout / "run.sh").chmod(0o700)
    (checkout / "link").symlink_to("lib/part.py")
    (checkout / "away").symlink_to("/etc/passwd")
    (checkout / "ünï").write_text("name")
    with snapshot_of(checkout) as packed:
        (tmp_path / "code.tar.gz").write_bytes(packed.file.read())
        assert (tmp_path / "code.tar.gz").stat().st_size == packed.size
    with tarfile.open(tmp_path / "code.tar.gz") as tar:
        members = tar.getmembers()
    assert {(one.mtime, one.uid, one.gid, one.uname) for one in members} == {(0, 0, 0, "")}
    target = tmp_path / "work"
    target.mkdir()
    unpack(tmp_path / "code.tar.gz", target)
    assert (target / "link").read_text() == "2"
    assert (target / "ünï").read_text() == "name"
    assert os.access(target / "run.sh", os.X_OK)
    assert not os.path.lexists(target / "away")


def test_too_much_code_names_the_largest_files(checkout: Path) -> None:
    (checkout / "weights.pt").write_bytes(os.urandom(200_000))
    with pytest.raises(Failure) as failed, snapshot_of(checkout, bytes_max=100_000):
        pass
    assert failed.value.exit_code is ExitCode.USAGE
    assert "195.3 KiB  weights.pt" in failed.value.detail
    assert ".gitignore" in failed.value.hint


def test_no_code_at_all_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no code to send"), snapshot_of(tmp_path):
        pass
    with pytest.raises(Failure, match="there is no folder"), snapshot_of(tmp_path / "missing"):
        pass

"""Which files of a folder are its code: what git would commit, or all but the usual rubbish."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from .failures import ExitCode, Failure, usage
from .output import note

FILES_MAX: Final = 200_000
"""What an agent unpacks at most."""
LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "venv", "env", "site-packages"})
"""Folders that are never code; those with a `pyvenv.cfg` and hidden ones are left out too."""
GIT_SECONDS_MAX: Final = 120


def code_files(root: Path, include: Sequence[str] = ()) -> list[str]:
    """Paths in `root`, sorted, with slashes. Raises Failure.

    In a git checkout: tracked files and untracked ones that git does not ignore. Elsewhere: all files but
    hidden ones, virtual environments and caches. `include` are globs that add ignored ones.
    """
    if not root.is_dir():
        raise usage(f"there is no folder {root} with code to send", hint="--code DIR, or `code: {git: DIR}`")
    of_git = _of_git(root)
    found = set(_walked(root) if of_git is None else of_git)
    for pattern in include:
        added = set(_matching(root, pattern))
        if not added:
            note(f"note: include {pattern!r} matches no file in {root}")
        found |= added
    if len(found) > FILES_MAX:
        raise Failure(
            ExitCode.USAGE,
            f"{root} has more than {FILES_MAX} files",
            hint="name a smaller folder with --code, or ignore some in .gitignore",
        )
    return sorted(found, key=os.fsencode)


def _of_git(root: Path) -> Iterable[str] | None:
    """What git lists below `root`; None where it is no checkout."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ["LC_ALL"] = "C"
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environ, timeout=GIT_SECONDS_MAX)
    except FileNotFoundError:
        if any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents)):
            note("note: git is not installed; every file is sent that is not hidden")
        return None
    except subprocess.TimeoutExpired:
        raise Failure(ExitCode.FAILED, f"git did not list the files of {root}", "it took too long") from None
    if done.returncode:
        said = os.fsdecode(done.stderr).strip()
        if "not a git repository" in said:
            return None
        raise Failure(ExitCode.FAILED, f"git can't list the files of {root}", said)
    return _present(root, filter(None, done.stdout.split(b"\0")))


def _present(root: Path, names: Iterable[bytes]) -> Iterator[str]:
    """Those that are there (a tracked file may be deleted), and in place of a repository inside what is in it."""
    for name in map(os.fsdecode, names):
        path = root / name
        if path.is_dir() and not path.is_symlink():
            inner = _of_git(path) if (path / ".git").exists() else _walked(path)
            yield from (f"{name.rstrip('/')}/{one}" for one in inner or ())
        elif os.path.lexists(path):
            yield name


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in linked and not _is_rubbish(here / name)]
        for name in (*files, *(one for one in linked if one not in LEFT_OUT)):
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield (here / name).relative_to(root).as_posix()


def _is_rubbish(folder: Path) -> bool:
    name = folder.name
    return name.startswith(".") or name in LEFT_OUT or (folder / "pyvenv.cfg").exists()


def _matching(root: Path, pattern: str) -> Iterator[str]:
    """Files that the glob names, and all in the folders it names."""
    if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
        raise usage(f"include {pattern!r} leaves the folder of the code", hint="write a path inside it")
    for path in root.glob(pattern):
        if path.is_dir() and not path.is_symlink():
            yield from (f.relative_to(root).as_posix() for f in path.rglob("*") if _is_code(f, root))
        elif _is_code(path, root):
            yield path.relative_to(root).as_posix()


def _is_code(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts
    return (path.is_symlink() or path.is_file()) and ".git" not in inside and "__pycache__" not in inside

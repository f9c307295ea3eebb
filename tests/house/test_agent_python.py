"""The SDK and the agent run on Python 3.9 with nothing installed: stock machine images carry no more."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import checkout

FILES = checkout.old_python_files()
OLDEST = (3, 9)
RUFF = [
    sys.executable,
    "-m",
    "ruff",
    "check",
    "--isolated",
    "--no-cache",
    "--target-version",
    "py39",
    "--select",
    "E9",
]


def oldest_python() -> str | None:
    """An interpreter of that very version, from the path or from pyenv; None where there is none."""
    version = ".".join(map(str, OLDEST))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for candidate in filter(None, candidates):
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if done.returncode == 0 and done.stdout.strip() == str(OLDEST):
            return candidate
    return None


def modules() -> list[str]:
    """Import names of the files above; a `__main__` would run when imported."""
    parts = [("hostler", *path.relative_to(checkout.ROOT).with_suffix("").parts) for path in FILES]
    return [".".join(part).removesuffix(".__init__") for part in parts if part[-1] != "__main__"]


def imports_at_load(body: list[ast.stmt]) -> Iterator[str]:
    """Top-level names that loading the module imports; what a function imports on demand may be missing."""
    for node in body:
        match node:
            case ast.Import():
                yield from (name.name.split(".")[0] for name in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module.split(".")[0]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from imports_at_load(node.orelse)
            case ast.Try(handlers=[ast.ExceptHandler(type=ast.Name(id="ImportError"), body=instead)]):
                yield from imports_at_load(instead)  # used where it happens to be installed, never required
            case ast.If() | ast.Try() | ast.With() | ast.ClassDef():
                for part in ("body", "orelse", "handlers", "finalbody"):
                    for inner in getattr(node, part, []):
                        yield from imports_at_load(
                            inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
                        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(checkout.ROOT)))
def test_it_parses_as_the_oldest_python(path: Path) -> None:
    ast.parse(path.read_text(), str(path), feature_version=OLDEST)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(checkout.ROOT)))
def test_it_loads_the_standard_library_only(path: Path) -> None:
    assert set(imports_at_load(ast.parse(path.read_text()).body)) <= sys.stdlib_module_names


def test_ruff_sees_no_newer_syntax() -> None:
    done = subprocess.run([*RUFF, *map(str, FILES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_syntax_check_refuses_a_file_that_is_too_new(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("match 1:\n    case 1:\n        x = 1\n")
    assert subprocess.run([*RUFF, str(bad)], check=False, capture_output=True).returncode != 0


def test_vermin_sees_no_newer_library_function() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    command = [str(vermin), "--target=3.9-", "--violations", "--no-tips", "--no-parse-comments"]
    done = subprocess.run([*command, *map(str, FILES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(oldest_python() is None, reason="no Python 3.9 on this machine")
def test_the_oldest_python_imports_every_module(tmp_path: Path) -> None:
    (tmp_path / "hostler").symlink_to(checkout.ROOT)
    interpreter = oldest_python()
    assert interpreter is not None
    code = f"""if True:
        import importlib, sys
        sys.path.insert(0, {str(tmp_path)!r})
        for name in sys.argv[1:]:
            importlib.import_module(name)
    """
    command = [interpreter, "-I", "-B", "-c", code, *modules()]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

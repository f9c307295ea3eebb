"""The text that is sent to a host's Python: the modules of `on_host` joined into one."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("on_host")
PARTS = ("places", "processes", "life", "machine", "starting", "keeper", "questions")
"""In the order in which they use each other."""
PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9")
NO_PYTHON = "hostler: no python3 of version 3.9 or newer"
NO_PYTHON_CODE = 127
_CHOICE = "import sys; sys.exit(sys.version_info < (3, 9))"
COMMAND = (
    f"exec sh -c 'for p in {' '.join(PYTHONS)}; do "
    f'"$p" -ISc "{_CHOICE}" >/dev/null 2>&1 && exec "$p" -IS -; done; '
    f"echo {NO_PYTHON} >&2; exit {NO_PYTHON_CODE}'"
)
"""Takes the program from its input: nothing of it, and no secret, is ever an argument that others could list."""


@lru_cache(maxsize=1)
def text() -> str:
    """All that a host needs, without what the modules import from each other."""
    trees = [ast.parse((FOLDER / f"{part}.py").read_text("utf-8")) for part in PARTS]
    joined = ast.Module(
        body=[node for tree in trees for node in tree.body if not _is_seam(node)], type_ignores=[]
    )
    return f"from __future__ import annotations\n{ast.unparse(joined)}\n"


def asking(request: Mapping[str, Any]) -> bytes:
    """The program with one question at its end."""
    return f"{text()}\nsys.exit(main(json.loads({json.dumps(json.dumps(request))})))\n".encode()


def _is_seam(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.level > 0 or node.module == "__future__")

"""Where our own code lies: unpacked once beside the zipapp, so that Python may cache what it compiles."""

from __future__ import annotations

import hashlib
import shutil
import stat
import sys
import tempfile
import zipfile
from pathlib import Path

DIGEST_CHARACTERS = 16
PYTHON_WRAPPER = "#!/bin/sh\nexec '{python}' \"$@\"\n"


def library(home: Path) -> Path | None:
    """A folder to put on PYTHONPATH for `import hostler`; None where we don't run from a zipapp."""
    archive = Path(__file__).parents[3]
    if not archive.is_file():
        return None
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:DIGEST_CHARACTERS]
    target = home / f"lib-{digest}"
    if not target.is_dir():
        _unpack(archive, target)
    return target


def commands(home: Path) -> Path:
    """A folder for the end of PATH with `python`: many images only have `python3`."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    wrapper = folder / "python"
    # A script, not a link: an interpreter reached by a link doesn't find its virtual environment.
    text = PYTHON_WRAPPER.format(python=sys.executable.replace("'", "'\\''"))
    if not wrapper.exists() or wrapper.read_text() != text:
        wrapper.write_text(text)
        wrapper.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    return folder


def _unpack(archive: Path, target: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=".lib-", dir=str(target.parent)))
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(aside)
        aside.chmod(0o755)
        aside.replace(target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not target.is_dir():
            raise

"""A folder's code as one tar.gz: the same files give the same bytes, so that they are sent once."""

from __future__ import annotations

import gzip
import hashlib
import heapq
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from ...tracking.wire import CODE_BYTES_MAX
from .code_files import code_files
from .failures import ExitCode, Failure, usage
from .output import note
from .words import size

UNPACKED_BYTES_MAX: Final = 4 * 1024**3
"""What an agent unpacks at most."""
BIGGEST_SHOWN: Final = 5
MEMORY_BYTES_MAX: Final = 16 * 1024**2
"""Larger snapshots are written to a temporary file."""
GZIP_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The archive (open, to be read from its beginning), its sha256 and size in bytes."""

    file: BinaryIO
    digest: str
    size: int
    files: int


@contextmanager
def snapshot_of(
    root: Path, include: Sequence[str] = (), *, bytes_max: int = CODE_BYTES_MAX
) -> Iterator[Snapshot]:
    """Pack the code of `root`. Raises Failure for none at all, too much, or what can't be read."""
    names = code_files(root, include)
    if not names:
        raise usage(
            f"there is no code to send in {root}",
            hint="git may ignore all of it: add --include, or name another",
        )
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX) as file:
        try:
            packed = _pack(file, root, names, bytes_max)  # type: ignore[arg-type]  # it is one in all but name
        except OSError as error:
            where = error.filename or root
            raise Failure(ExitCode.FAILED, f"{where} can't be read", error.strerror or str(error)) from None
        length = file.tell()
        file.seek(0)
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        file.seek(0)
        yield Snapshot(file, digest.hexdigest(), length, packed)  # type: ignore[arg-type]  # as above


def _pack(file: BinaryIO, root: Path, names: Sequence[str], bytes_max: int) -> int:
    """Write the archive; how many files are in it. Nothing of it depends on time, owner or order of the disk."""
    sizes = {name: os.lstat(root / name).st_size for name in names}
    if sum(sizes.values()) > UNPACKED_BYTES_MAX:
        raise _too_large(root, sizes, UNPACKED_BYTES_MAX, "unpacked")
    count = 0
    with (
        gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            count += _add(tar, root / name, name)
            if file.tell() > bytes_max:
                raise _too_large(root, sizes, bytes_max, "packed")
    if file.tell() > bytes_max:
        raise _too_large(root, sizes, bytes_max, "packed")
    return count


def _add(tar: tarfile.TarFile, path: Path, name: str) -> int:
    status = path.lstat()
    member = tarfile.TarInfo(name)
    member.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISLNK(status.st_mode):
        member.type, member.mode = tarfile.SYMTYPE, 0o777
        member.linkname = path.readlink().as_posix()
        if not _stays_inside(member.linkname, depth=len(PurePosixPath(name).parts) - 1):
            note(f"note: {name} is left out, its link leads out of the folder ({member.linkname})")
            return 0
        tar.addfile(member)
        return 1
    if not stat.S_ISREG(status.st_mode):
        note(f"note: {name} is left out, it is neither file nor link")
        return 0
    with path.open("rb") as content:
        member.size = os.fstat(content.fileno()).st_size
        tar.addfile(member, content)
    return 1


def _stays_inside(link: str, depth: int) -> bool:
    """The agent's rule: it may climb only at its beginning, and no higher than the root, `depth` folders up."""
    parts = PurePosixPath(link).parts
    climbs = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    return not PurePosixPath(link).is_absolute() and ".." not in parts[climbs:] and climbs <= depth


def _too_large(root: Path, sizes: dict[str, int], limit_bytes: int, form: str) -> Failure:
    biggest = heapq.nlargest(BIGGEST_SHOWN, sizes.items(), key=lambda one: one[1])
    return Failure(
        ExitCode.USAGE,
        f"the code in {root} is over {size(limit_bytes)} {form}",
        "the largest files:\n" + "\n".join(f"{size(length):>10}  {name}" for name, length in biggest),
        "name data files in .gitignore and fetch them in the task, or choose a smaller folder with --code",
    )

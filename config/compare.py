"""What changes between two fleets, one readable line a change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .daemon import without_password
from .fleet import FleetConfig
from .problems import print_path

Path = tuple[str | int, ...]
RESTART_KEYS = ("state", "listen", "tls", "data_dir")
_ABSENT: Any = object()


def differences(old: FleetConfig, new: FleetConfig) -> list[str]:
    """``~ pools.gpu.instances: 0..2 -> 0..4``, ``+`` for new, ``-`` for what goes; empty if equal."""
    return list(_changes(old.to_dict(), new.to_dict(), ()))


def needs_restart(old: FleetConfig, new: FleetConfig) -> list[str]:
    """Dotted keys that differ and are read at start only: a running daemon can't take them over."""
    return [
        f"daemon.{key}"
        for key in RESTART_KEYS
        if not _same(getattr(old.daemon, key), getattr(new.daemon, key))
    ]


def _changes(old: Any, new: Any, path: Path) -> Iterator[str]:
    if _same(old, new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, key))
    elif old is _ABSENT:
        yield f"+ {print_path(path)}: {_shown(new)}"
    elif new is _ABSENT:
        yield f"- {print_path(path)}: {_shown(old)}"
    else:
        yield f"~ {print_path(path)}: {_shown(old)} -> {_shown(new)}"


def _same(old: Any, new: Any) -> bool:
    """Equal, or a URL and the same URL as a daemon shows it, its password blotted out."""
    if old == new:
        return True
    blotted = isinstance(old, str) and isinstance(new, str) and ":***@" in old
    return blotted and without_password(new) == old


def _shown(value: Any) -> str:
    """`value` as YAML would hold it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else without_password(str(value))

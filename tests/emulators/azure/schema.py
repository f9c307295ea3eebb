"""Bodies against the SDK's own TypedDicts: unknown keys, missing ones, wrong types and unknown words are told."""

from __future__ import annotations

import datetime as dt
import enum
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import typing_extensions
from azure.mgmt.compute import models as compute_models
from azure.mgmt.compute import types as compute_types
from azure.mgmt.network import models as network_models
from azure.mgmt.network import types as network_types

VIRTUAL_MACHINE: Any = compute_types.VirtualMachine
DISK: Any = compute_types.Disk
INTERFACE: Any = network_types.NetworkInterface
ADDRESS: Any = network_types.PublicIPAddress
SUBNET: Any = network_types.Subnet
OPEN_WORDS = frozenset({"VirtualMachineSizeTypes"})
"""Lists of words that the SDK itself calls out of date; the emulator's catalogue knows the sizes."""


def problems(value: object, shape: Any, path: str = "") -> list[str]:
    """Everything about `value` that `shape` (a TypedDict of the SDK) does not allow."""
    return list(_problems(value, shape, path or "body"))


@cache
def _fields(shape: Any) -> dict[str, Any]:
    ours = network_types if shape.__module__.startswith(network_types.__name__) else compute_types
    models = network_models if ours is network_types else compute_models
    names = {**vars(typing), **vars(models), **vars(ours)}
    return typing_extensions.get_type_hints(shape, globalns=names, include_extras=True)


def _required(shape: Any) -> set[str]:
    """Those marked so. What the class itself says is wrong: the SDK's subclasses forget ``total=False``."""
    return {
        key for key, kind in _fields(shape).items() if typing.get_origin(kind) is typing_extensions.Required
    }


def _problems(value: object, shape: Any, path: str) -> Iterator[str]:
    origin = typing.get_origin(shape)
    if origin is typing_extensions.Required:
        (shape,) = typing.get_args(shape)
        origin = typing.get_origin(shape)
    if hasattr(shape, "__required_keys__"):
        yield from _of_mapping(value, shape, path)
    elif origin in (typing.Union, types.UnionType):
        yield from _of_union(value, typing.get_args(shape), path)
    elif origin is list:
        yield from _of_list(value, shape, path)
    elif origin is dict:
        yield from _of_dict(value, shape, path)
    elif not _fits(value, shape):
        yield f"{path}: {value!r} is not {getattr(shape, '__name__', shape)}"


def _of_mapping(value: object, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is not {shape.__name__}"
        return
    fields = _fields(shape)
    yield from (f"{path}.{key}: is missing" for key in sorted(_required(shape) - set(value)))
    for key, item in value.items():
        if key not in fields:
            yield f"{path}.{key}: {shape.__name__} has no such key"
        else:
            yield from _problems(item, fields[key], f"{path}.{key}")


def _of_union(value: object, choices: tuple[Any, ...], path: str) -> Iterator[str]:
    words = [one for one in choices if isinstance(one, type) and issubclass(one, enum.Enum)]
    if words and words[0].__name__ in OPEN_WORDS and isinstance(value, str):
        return
    if words and isinstance(value, str):
        known = {member.value for word in words for member in word}
        if value not in known:
            yield f"{path}: '{value}' is not one of {', '.join(sorted(known))}"
        return
    tries = [list(_problems(value, choice, path)) for choice in choices]
    if all(tries):
        yield from min(tries, key=len)


def _of_list(value: object, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: {value!r} is not a list"
        return
    for index, item in enumerate(value):
        yield from _problems(item, typing.get_args(shape)[0], f"{path}[{index}]")


def _of_dict(value: object, shape: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is not an object"
        return
    for key, item in value.items():
        yield from _problems(item, typing.get_args(shape)[1], f"{path}.{key}")


def _fits(value: object, shape: Any) -> bool:
    if shape is Any:
        return True
    if shape is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if shape in (dt.datetime, bytes):
        return isinstance(value, str)
    return isinstance(value, shape)

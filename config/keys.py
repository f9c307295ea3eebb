"""Which keys a model allows at a place: what a mistyped key is compared with."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def keys_allowed_at(model: type[BaseModel], path: Sequence[str | int], data: object) -> list[str]:
    """Keys allowed in the mapping at `path` of a document for `model`.

    Of several provider types, the keys of the one that `data` names.
    """
    places: list[Any] = [model]
    for part in path:
        places = [inner for place in places for inner in _step(place, part)]
        data = _descend(data, part)
    models = [place for place in places if isinstance(place, type) and issubclass(place, BaseModel)]
    tag = data.get("type") if isinstance(data, Mapping) else None
    tagged = [place for place in models if "type" in place.model_fields and tag in _literals(place)]
    return [name for place in tagged or models for name in place.model_fields]


def _descend(data: object, part: str | int) -> object:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, Sequence) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _literals(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["type"].annotation)


def _step(place: Any, part: str | int) -> Iterator[Any]:
    """The types of what lies under `part` of a value of type `place`."""
    if isinstance(place, type) and issubclass(place, BaseModel):
        field = place.model_fields.get(str(part))
        if field is not None:
            yield from _members(field.annotation)
        return
    arguments = get_args(place)
    if get_origin(place) in (dict, Mapping) and len(arguments) == 2:
        yield from _members(arguments[1])
    elif get_origin(place) in (tuple, list) and arguments:
        yield from _members(arguments[0])


def _members(annotation: Any) -> Iterator[Any]:
    """`annotation` without Annotated and unions: each type it may be."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is Union or origin is types.UnionType:
        for member in get_args(annotation):
            yield from _members(member)
    elif isinstance(annotation, typing.TypeVar) or annotation is type(None):
        return
    else:
        yield annotation

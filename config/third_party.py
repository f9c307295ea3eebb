"""Provider types of installed packages: found by entry point, their own keys checked by the package's own model.

Nothing is imported until a fleet.yaml names such a type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .fields import Settings, Text, Whole
from .problems import problems_of

GROUP = "hostler.providers"
"""The entry-point group: ``mycloud = "package.module:factory"`` adds the type ``mycloud``."""
SECTION_MODEL = "section_model"
"""Attribute of the factory: a pydantic model for the section. Without it any keys are accepted."""
BUILT_IN = ("aws", "azure", "gcp", "kubernetes", "local", "static")
OURS = "ours"
THIRD_PARTY = "third-party"
Path = tuple[str | int, ...]


class ThirdPartyProvider(Settings):
    """A section as it was written; its keys beside these are the package's business and lie in `settings`."""

    model_config = ConfigDict(extra="allow")

    type: Text
    max_instances: Whole | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """The package's own keys, as plain values."""
        return dict(self.__pydantic_extra__ or {})


def announced() -> dict[str, metadata.EntryPoint]:
    """The entry point of each type that an installed package adds."""
    return {point.name: point for point in metadata.entry_points(group=GROUP)}


def owner(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an installed package"


def model_of(factory: object) -> type[BaseModel] | None:
    """The factory's model of its section, if it brings one."""
    model = getattr(factory, SECTION_MODEL, None)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def disagreements(section: ThirdPartyProvider) -> Iterator[tuple[Path, str]]:
    """(path within the section, sentence) for each thing that the package's own model refuses."""
    point = announced().get(section.type)
    if point is None:  # removed since the file was read
        return
    try:
        model = model_of(point.load())
    except Exception as error:  # noqa: BLE001 - somebody else's code: whatever it raises is told as its fault
        yield (
            ("type",),
            f"'{section.type}' of {owner(point)} can't be loaded: {error!r}; mend or remove {owner(point)}",
        )
        return
    if model is None:
        return
    data = section.to_dict()
    try:
        model.model_validate(data)
    except ValidationError as error:
        for problem in problems_of(error, model, data, ""):
            yield problem.path, problem.message


def kind_of(value: object) -> str:
    """`THIRD_PARTY` for a section whose type an installed package adds, else `OURS`: a name of ours stays ours."""
    written = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    added = isinstance(written, str) and written not in BUILT_IN and written in announced()
    return THIRD_PARTY if added else OURS

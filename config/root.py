"""Base of the two documents: shape, agreement between keys, and refusal by name, all told at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from .fields import Settings
from .problems import ConfigError, problems_of
from .unsupported import Path, Refusal, refusals


class Document(Settings):
    """A whole file or body. A subclass names what it refuses and where its keys contradict each other."""

    refused: ClassVar[tuple[Refusal, ...]] = ()

    def disagreements(self) -> Iterable[tuple[Path, str]]:
        """(path, sentence) for each contradiction between keys that are well formed alone."""
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _tell_everything(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        found: list[InitErrorDetails] = []
        document = None
        try:
            document = handler(data)
        except ValidationError as error:
            found += [_kept(one) for one in error.errors(include_url=False)]
        if isinstance(data, dict):
            found += [_detail(path, sentence, data) for path, sentence in refusals(data, cls.refused)]
        if document is not None:
            found += [_detail(path, sentence, data) for path, sentence in document.disagreements()]
        if document is None or found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return document

    @classmethod
    def from_dict(cls, data: object, name: str = "body") -> Self:
        """Read plain JSON values. Raises ConfigError with every problem; `name` stands before each."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(problems_of(error, cls, data, name)) from None


def _detail(path: Path, sentence: str, data: object) -> InitErrorDetails:
    # The sentence is handed over as a value: braces in it must not be read as a template.
    told = PydanticCustomError("disagreement", "{sentence}", {"sentence": sentence})
    return InitErrorDetails(type=told, loc=path, input=data)


def _kept(error: Any) -> InitErrorDetails:
    """An error pydantic told, in the form in which it can be told again."""
    context = error.get("ctx", {})
    if error["type"] == "disagreement":
        return _detail(error["loc"], context["sentence"], error.get("input"))
    return InitErrorDetails(type=error["type"], loc=error["loc"], input=error.get("input"), ctx=context)

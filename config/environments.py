"""`env:` of task.yaml - how the environment of a task is prepared. Its shape; refused by name for now."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from .fields import Settings, Text


class Environment(Settings):
    """One way: `docker`, `conda`, `requirements` or `sync` (a lock file), the last two with a `python`."""

    python: Annotated[Text, Field(pattern=r"^3\.\d{1,2}(\.\d{1,2})?$")] | None = None
    sync: Text | None = None
    requirements: Text | None = None
    conda: Text | None = None
    docker: Text | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> Environment:
        given = [
            name for name in ("sync", "requirements", "conda", "docker") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"write one of sync, requirements, conda, docker; found {' and '.join(given)}")
        if self.python is not None and given and given[0] in ("conda", "docker"):
            raise ValueError(f"python is chosen by {given[0]} itself; remove one of them")
        return self

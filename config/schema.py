"""JSON Schema of both documents, for editors and checks; ``python -m hostler.config.schema`` writes the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .fleet import FleetConfig
from .task import TaskSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent / "schemas"
_KEYS_OF_SCHEMAS = ("properties", "$defs")
"""Under these, keys are names given by us or by people, not words of JSON Schema."""


def fleet_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of fleet.yaml: its shape; agreement between keys is checked on loading."""
    return _schema(FleetConfig, "fleet.yaml")


def task_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of task.yaml and of the body of a submit."""
    return _schema(TaskSpec, "task.yaml")


def schema_files() -> dict[Path, str]:
    """The text of each committed schema file."""
    schemas = {"fleet.schema.json": fleet_schema(), "task.schema.json": task_schema()}
    return {FOLDER / name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    return {"$schema": DIALECT, **_without_titles(model.model_json_schema()), "title": title}


def _without_titles(schema: Any, *, are_names: bool = False) -> Any:
    """`schema` without the titles pydantic derives from names: editors would show each name twice."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value, are_names=key in _KEYS_OF_SCHEMAS and not are_names)
        for key, value in schema.items()
        if are_names or key != "title"
    }


def main() -> None:
    """Write the schema files."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in schema_files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Google's own description of its APIs (discovery documents) as a judge of every request and every answer."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

INTEGER_TEXT = {"int64": r"^-?\d{1,19}$", "uint64": r"^\d{1,20}$"}
INTEGER_RANGE = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1)}
EVERYWHERE = frozenset({"alt", "$alt", "prettyPrint", "fields", "key", "quotaUser"})
"""Query parameters that every method takes."""
OUTPUT_ONLY = re.compile(r"^\s*(\[Output Only\]|Output only\.)", re.IGNORECASE)
PATHLESS = re.compile(r"\{\+?(\w+)\}")


class Violation(Exception):
    """A request or an answer that is not as the discovery document says."""


@dataclass(frozen=True)
class Call:
    """A request that was recognised: the method's id without the API's name, and its parameters (all text)."""

    method: str
    parameters: dict[str, str]
    body: dict[str, Any]


class Api:
    """One discovery document. `name` is the API's with its version (``compute.v1``)."""

    def __init__(self, name: str) -> None:
        folder = resources.files("googleapiclient.discovery_cache") / "documents"
        self._document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self._methods = {method["id"].partition(".")[2]: method for method in _methods(self._document)}
        self._routes = [(_route(self._document, method), name) for name, method in self._methods.items()]

    def find(self, verb: str, path: str) -> tuple[str, dict[str, str]] | None:
        """(method, path parameters) of a request, None if this API has no such method."""
        for pattern, name in self._routes:
            found = pattern.fullmatch(path) if self._methods[name]["httpMethod"] == verb else None
            if found is not None:
                return name, found.groupdict()
        return None

    def judge(
        self, method: str, parameters: dict[str, str], query: list[tuple[str, str]], body: bytes
    ) -> Call:
        """The call. Raises Violation with what is wrong with it."""
        about = self._methods[method]
        asked = dict(query)
        if len(asked) != len(query):
            raise Violation(f"{method}: a query parameter is there twice")
        for name, value in {**parameters, **asked}.items():
            _judge_parameter(method, name, value, about.get("parameters", {}))
        missing = [
            name
            for name, rule in about.get("parameters", {}).items()
            if rule.get("required") and name not in {**parameters, **asked}
        ]
        if missing:
            raise Violation(f"{method}: parameter {missing[0]} is missing")
        return Call(method, {**parameters, **asked}, self._judged_body(method, about, body))

    def judge_answer(self, method: str, answer: dict[str, Any]) -> None:
        """Raises Violation if `answer` isn't what `method` answers."""
        self._judge(
            self._methods[method]["response"]["$ref"], answer, request="", where=f"answer of {method}"
        )

    def _judged_body(self, method: str, about: dict[str, Any], body: bytes) -> dict[str, Any]:
        if "request" not in about:
            if body:
                raise Violation(f"{method} takes no body")
            return {}
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError as error:
            raise Violation(f"{method}: the body is not JSON: {error}") from error
        self._judge(about["request"]["$ref"], found, request=about["id"], where=method)
        return found

    def _judge(self, schema: str, value: Any, *, request: str, where: str) -> None:
        error = best_match(self._validator(schema, request).iter_errors(value))
        if error is not None:
            raise Violation(f"{where}: {error.json_path}: {error.message}")

    @functools.cache  # noqa: B019  # an Api lives as long as the tests
    def _validator(self, schema: str, request: str) -> Draft202012Validator:
        definitions = {name: _converted(one, request) for name, one in self._document["schemas"].items()}
        return Draft202012Validator({"$ref": f"#/$defs/{schema}", "$defs": definitions})


def _methods(part: dict[str, Any]) -> list[dict[str, Any]]:
    own = list(part.get("methods", {}).values())
    return own + [method for inner in part.get("resources", {}).values() for method in _methods(inner)]


def _route(document: dict[str, Any], method: dict[str, Any]) -> re.Pattern[str]:
    rules = method.get("parameters", {})

    def group(found: re.Match[str]) -> str:
        given = rules.get(found[1], {}).get("pattern")
        inner = given.removeprefix("^").removesuffix("$") if found[0].startswith("{+") and given else "[^/:]+"
        return f"(?P<{found[1]}>{inner})"

    return re.compile("/" + document["servicePath"] + PATHLESS.sub(group, method["path"]))


def _judge_parameter(method: str, name: str, value: str, rules: dict[str, Any]) -> None:
    if name in EVERYWHERE:
        return
    rule = rules.get(name)
    if rule is None:
        raise Violation(f"{method} has no parameter {name}")
    kind = rule["type"]
    if kind == "integer" and not re.fullmatch(r"-?\d+", value):
        raise Violation(f"{method}: {name}={value!r} is not an integer")
    if kind == "integer" and not int(rule.get("minimum", value)) <= int(value) <= int(
        rule.get("maximum", value)
    ):
        raise Violation(f"{method}: {name}={value} is out of range")
    if kind == "boolean" and value not in ("true", "false"):
        raise Violation(f"{method}: {name}={value!r} is not true or false")
    if "pattern" in rule and not re.fullmatch(rule["pattern"], value):
        raise Violation(f"{method}: {name}={value!r} does not match {rule['pattern']}")
    if "enum" in rule and value not in rule["enum"]:
        raise Violation(f"{method}: {name}={value!r} is not one of {rule['enum']}")


def _converted(one: Any, request: str) -> dict[str, Any]:
    """A discovery schema as JSON Schema. In a request, what only answers hold is refused."""
    if "$ref" in one:
        return {"$ref": f"#/$defs/{one['$ref']}"}
    kind, form = one.get("type"), one.get("format")
    if kind == "any":
        return {}
    found: dict[str, Any] = {"type": kind}
    if kind == "object":
        properties = one.get("properties", {})
        found["properties"] = {
            name: False if request and _is_output_only(inner) else _converted(inner, request)
            for name, inner in properties.items()
        }
        more = one.get("additionalProperties")
        found["additionalProperties"] = _converted(more, request) if more is not None else False
        needed = [
            name
            for name, inner in properties.items()
            if request in inner.get("annotations", {}).get("required", ())
        ]
        if request and needed:
            found["required"] = needed
    if kind == "array":
        found["items"] = _converted(one["items"], request)
    if "enum" in one:
        found["enum"] = one["enum"]
    if "pattern" in one:
        found["pattern"] = f"^(?:{one['pattern']})$"
    if form in INTEGER_TEXT and kind == "string":
        found["pattern"] = INTEGER_TEXT[form]
    if form in INTEGER_RANGE and kind == "integer":
        found["minimum"], found["maximum"] = INTEGER_RANGE[form]
    return found


def _is_output_only(one: dict[str, Any]) -> bool:
    return bool(one.get("readOnly")) or bool(OUTPUT_ONLY.match(one.get("description", "")))

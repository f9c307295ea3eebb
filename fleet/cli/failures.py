"""What went wrong, in the words it is printed in and with the code the process ends with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final


class ExitCode(IntEnum):
    """The process's exit codes; scripts may rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    AUTH = 4
    CONFLICT = 5
    BUDGET = 6
    UNREACHABLE = 7
    TIMED_OUT = 8
    INTERRUPTED = 130


OF_STATUS: Final[Mapping[int, ExitCode]] = {
    HTTPStatus.BAD_REQUEST: ExitCode.USAGE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ExitCode.USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: ExitCode.USAGE,
    HTTPStatus.NOT_FOUND: ExitCode.NOT_FOUND,
    HTTPStatus.UNAUTHORIZED: ExitCode.AUTH,
    HTTPStatus.FORBIDDEN: ExitCode.AUTH,
    HTTPStatus.CONFLICT: ExitCode.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED: ExitCode.CONFLICT,
    HTTPStatus.PAYMENT_REQUIRED: ExitCode.BUDGET,
    HTTPStatus.BAD_GATEWAY: ExitCode.UNREACHABLE,
    HTTPStatus.GATEWAY_TIMEOUT: ExitCode.UNREACHABLE,
}
BUDGET_CODES: Final = ("BUDGET", "QUOTA")
"""A problem whose code begins so is about money or an account's quota, whatever its status."""
_COMMAND_OF: Final = (
    (re.compile(r"GET /api/v1/tasks lists"), "`hostler ps --all` lists"),
    (re.compile(r"GET /api/v1/instances\?state=ready"), "`hostler instances`"),
    (re.compile(r"GET /api/v1/instances lists"), "`hostler instances --all` lists"),
    (re.compile(r"GET \.\.\./(metrics|artifacts) lists"), r"`hostler \1 ID` lists"),
    (re.compile(r"POST /api/v1/pools/([^/\s]+)/rearm"), r"`hostler pools rearm \1`"),
)
NO_DAEMON_HINT: Final = "is it running? hostler up --config fleet.yaml"
WHICH_ONE: Final = (
    "`hostler token path` says which token is used; name another with --token-file or HOSTLER_TOKEN"
)


class Failure(Exception):
    """Ends the command: `error: title`, the detail, and a hint that says what to do, on stderr."""

    def __init__(
        self,
        exit_code: ExitCode,
        title: str,
        detail: str = "",
        hint: str = "",
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(title)
        self.exit_code = exit_code
        self.title = title
        self.detail = detail
        self.hint = hint
        self.problem = problem
        """The server's own words, where it was the server."""

    def lines(self) -> list[str]:
        """As printed for a person."""
        told = [f"error: {self.title}"]
        told += [f"  {line}" for line in self.detail.splitlines()]
        return told + ([f"hint: {self.hint}"] if self.hint else [])

    def body(self) -> dict[str, Any]:
        """As printed with `-o json`: the server's problem, or one of the same form."""
        own = {"title": self.title, "detail": self.detail, "hint": self.hint, "code": self.exit_code.name}
        return {**own, **(self.problem or {}), "exit_code": int(self.exit_code)}


def in_commands(text: str) -> str:
    """The server speaks of requests, people here type commands."""
    for request, command in _COMMAND_OF:
        text = request.sub(command, text)
    return text


def of_problem(status: int, problem: Mapping[str, Any]) -> Failure:
    """What a refusal (problem+json) means here."""
    code = OF_STATUS.get(status, ExitCode.FAILED)
    if str(problem.get("code", "")).startswith(BUDGET_CODES):
        code = ExitCode.BUDGET
    title = str(problem.get("title") or f"the server answered {status}")
    hint = in_commands(str(problem.get("hint", "")))
    if code is ExitCode.AUTH and status == HTTPStatus.UNAUTHORIZED:
        hint = WHICH_ONE
    return Failure(code, title, _detail(problem), hint, problem)


def _detail(problem: Mapping[str, Any]) -> str:
    """The detail, or each mistake on its line where several are told."""
    errors = problem.get("errors")
    if isinstance(errors, list) and errors:
        return "\n".join(f"{one.get('at')}: {one.get('message')}" for one in errors if isinstance(one, dict))
    return str(problem.get("detail", ""))


def usage(title: str, detail: str = "", hint: str = "") -> Failure:
    """An option, a value or a file that can't be used."""
    return Failure(ExitCode.USAGE, title, detail, hint)


def unreachable(url: str, why: str) -> Failure:
    return Failure(ExitCode.UNREACHABLE, f"no answer from the daemon at {url}", why, NO_DAEMON_HINT)

"""The one place that decides what a token's holder may do."""

from __future__ import annotations

from dataclasses import dataclass

from ..problems import Problem

READS = frozenset({"tasks:read", "fleet:read", "events:read"})
MEMBER = READS | {"tasks:write", "blobs:write"}
ADMIN = MEMBER | {"fleet:write", "config:write", "admin"}
BY_ROLE = {"viewer": READS, "member": MEMBER, "admin": ADMIN}
AGENT = frozenset({"agent:act", "record:read", "record:write"})
TASK = frozenset({"record:read", "record:write", "tasks:read"})
ACTIONS = ADMIN | AGENT | TASK


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token stands for. `kind` is user, agent or task; agents and tasks reach their own rows only."""

    workspace: str
    kind: str
    actor: str
    role: str
    instance_id: str | None = None
    task_id: int | None = None
    generation: int | None = None
    expires_at: float | None = None


class Forbidden(Problem):
    """The token is good, but not for this."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(403, "FORBIDDEN", "this token may not do that", detail, hint)


def authorise(
    principal: Principal,
    action: str,
    *,
    workspace: str | None = None,
    instance_id: str | None = None,
    task_id: int | None = None,
    generation: int | None = None,
) -> None:
    """Return where `principal` may do `action` on what is named; raise Forbidden otherwise.

    A task token needs `task_id` (and, where one is named, its generation), an agent credential its own
    `instance_id` where one is named. Whether an agent holds a task now is a matter of the task's row, not of its token.
    """
    if action not in ACTIONS:
        raise ValueError(f"unknown action {action!r}")
    if workspace is not None and workspace != principal.workspace:
        raise Forbidden(f"the token belongs to workspace {principal.workspace!r}")
    if principal.kind == "user":
        _authorise_user(principal, action)
    elif principal.kind == "agent":
        _authorise_agent(principal, action, instance_id)
    elif principal.kind == "task":
        _authorise_task(principal, action, task_id, generation)
    else:
        raise Forbidden(f"tokens of kind {principal.kind!r} may do nothing here")


def _authorise_user(principal: Principal, action: str) -> None:
    if action not in BY_ROLE.get(principal.role, frozenset()):
        raise Forbidden(
            f"role {principal.role!r} does not include {action}",
            "ask an administrator for a token with that role",
        )


def _authorise_agent(principal: Principal, action: str, instance_id: str | None) -> None:
    if action not in AGENT:
        raise Forbidden(f"an agent's credential does not include {action}")
    if instance_id is not None and instance_id != principal.instance_id:
        raise Forbidden("an agent's credential reaches its own instance only")


def _authorise_task(principal: Principal, action: str, task_id: int | None, generation: int | None) -> None:
    if action not in TASK:
        raise Forbidden(f"a task's token does not include {action}")
    if task_id is None or task_id != principal.task_id:
        raise Forbidden("a task's token reaches its own task only")
    if generation is not None and generation != principal.generation:
        raise Forbidden("a task's token reaches the attempt it was made for only")

"""Tokens, what they reach, and the first one in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostler.tracking import wire
from hostler.tracking.server.access import Forbidden, Principal, admin_token_file, authorise, tokens
from hostler.tracking.server.access.bearer import CACHE_SECONDS, PrincipalCache
from hostler.tracking.server.database import Database
from hostler.tracking.server.database import schema as tables
from record.world import Clock, World
from sqlalchemy import select


def who(world: World, secret: str) -> Principal | None:
    with world.database.read() as conn:
        return tokens.authenticate(conn, secret, world.clock())


def test_a_token_stands_for_whom_it_was_issued_to(world: World) -> None:
    secret = world.token(actor="bob", role="viewer")
    assert who(world, secret) == Principal("default", "user", "bob", "viewer")
    assert who(world, secret + "x") is None
    assert who(world, "") is None
    assert who(world, "x" * 100_000) is None


def test_the_database_holds_no_secret(world: World) -> None:
    secret = world.token()
    with world.database.read() as conn:
        stored = [str(value) for row in conn.execute(select(tables.tokens)) for value in row]
    assert secret not in " ".join(stored)


def test_a_token_ends_when_it_expires(world: World) -> None:
    secret = world.token(expires_at=world.clock.now + 10)
    assert who(world, secret) is not None
    world.clock.now += 10
    assert who(world, secret) is None


def test_tokens_of_an_instance_or_a_task_are_revoked_together(world: World) -> None:
    of_instance = [world.token(kind="agent", role="agent", instance_id="h-1") for _ in range(2)]
    other = world.token(kind="agent", role="agent", instance_id="h-2")
    count = world.database.write(lambda conn: tokens.revoke(conn, now=world.clock(), instance_id="h-1"))
    assert count == 2
    assert [who(world, secret) for secret in of_instance] == [None, None]
    assert who(world, other) is not None


def test_revoking_nothing_in_particular_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="name a secret"):
        world.database.write(lambda conn: tokens.revoke(conn, now=world.clock()))


def test_old_tokens_are_pruned_and_living_ones_stay(world: World) -> None:
    expired = world.token(expires_at=world.clock.now - 100)
    living = world.token()
    assert world.database.write(lambda conn: tokens.prune(conn, world.clock())) == 1
    assert who(world, expired) is None
    assert who(world, living) is not None


def test_unknown_kinds_and_roles_are_refused(world: World) -> None:
    for fields in ({"kind": "robot"}, {"role": "emperor"}):
        with pytest.raises(ValueError, match="is none of"):
            world.token(**fields)


MEMBER = Principal("default", "user", "ann", "member")
VIEWER = Principal("default", "user", "ann", "viewer")
ADMIN = Principal("default", "user", "ann", "admin")
AGENT = Principal("default", "agent", "h-1", "agent", instance_id="h-1")
TASK = Principal("default", "task", "ann", "task", task_id=7, generation=3)


@pytest.mark.parametrize(
    ("principal", "action", "named"),
    [
        (VIEWER, "tasks:read", {}),
        (MEMBER, "tasks:write", {"workspace": "default"}),
        (ADMIN, "fleet:write", {}),
        (ADMIN, "admin", {}),
        (AGENT, "agent:act", {"instance_id": "h-1"}),
        (AGENT, "record:write", {"task_id": 9, "generation": 1}),
        (TASK, "record:write", {"task_id": 7, "generation": 3}),
        (TASK, "tasks:read", {"task_id": 7}),
    ],
)
def test_what_a_token_may_do(principal: Principal, action: str, named: dict[str, object]) -> None:
    authorise(principal, action, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("principal", "action", "named"),
    [
        (VIEWER, "tasks:write", {}),
        (MEMBER, "fleet:write", {}),
        (MEMBER, "agent:act", {"instance_id": "h-1"}),
        (ADMIN, "tasks:read", {"workspace": "other"}),
        (ADMIN, "record:write", {"task_id": 7, "generation": 3}),
        (AGENT, "agent:act", {"instance_id": "h-2"}),
        (AGENT, "tasks:write", {}),
        (TASK, "record:write", {"task_id": 8, "generation": 3}),
        (TASK, "record:write", {"task_id": 7, "generation": 2}),
        (TASK, "tasks:read", {}),
        (TASK, "agent:act", {}),
        (Principal("default", "user", "ann", "emperor"), "tasks:read", {}),
        (Principal("default", "robot", "ann", "admin"), "tasks:read", {}),
    ],
)
def test_what_a_token_may_not_do(principal: Principal, action: str, named: dict[str, object]) -> None:
    with pytest.raises(Forbidden):
        authorise(principal, action, **named)  # type: ignore[arg-type]


def test_an_action_nobody_knows_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="unknown action"):
        authorise(ADMIN, "tasks:reed")


def test_no_route_answers_without_a_good_token(world: World) -> None:
    run = world.run()
    routes = list(world.app.openapi()["paths"].items())
    assert len(routes) > 10
    digest = "a" * 64
    for path, methods in routes:
        url = path.format(task_id=run.task_id, generation=1, digest=digest, name="x")
        for method in methods:
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
                answer = world.client.request(method.upper(), url, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_token_stops_working_within_seconds(world: World) -> None:
    run = world.run()
    secret = world.token(role="viewer")
    path = f"/api/v1/tasks/{run.task_id}/params"
    assert world.get(path, secret=secret).status_code == 200
    world.database.write(lambda conn: tokens.revoke(conn, now=world.clock(), secret=secret))
    world.clock.now += CACHE_SECONDS
    assert world.get(path, secret=secret).status_code == 401


def test_an_expired_token_is_refused_even_while_it_is_remembered(world: World) -> None:
    run = world.run()
    secret = world.token(role="viewer", expires_at=world.clock.now + 1)
    path = f"/api/v1/tasks/{run.task_id}/params"
    assert world.get(path, secret=secret).status_code == 200
    world.clock.now += 1
    assert world.get(path, secret=secret).status_code == 401


def test_the_memory_of_tokens_is_bounded_and_forgets_the_oldest() -> None:
    cache = PrincipalCache(entries_max=2)
    for key in ("a", "b", "c"):
        cache.put(key, ADMIN, 0.0)
    assert [cache.get(key, 1.0) for key in ("a", "b", "c")] == [None, ADMIN, ADMIN]


def test_another_workspace_sees_nothing_of_a_task(world: World) -> None:
    run = world.run()
    run.journal(b"")
    stranger = world.token(workspace="other", role="admin")
    for what in ("params", "metrics", "logs", "artifacts", "attempts", "environment", "journal"):
        answer = world.get(f"/api/v1/tasks/{run.task_id}/{what}", secret=stranger)
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), what
    intruder = world.token(
        workspace="other", kind="task", role="task", task_id=run.task_id, generation=run.generation
    )
    run.token = intruder
    assert run.log(b"x").json()["code"] == "STALE_GENERATION"


def test_a_viewer_cannot_begin_a_run(world: World) -> None:
    answer = world.create(secret=world.token(role="viewer"))
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


def test_a_record_is_not_written_with_a_persons_token(world: World) -> None:
    run = world.run()
    run.token = world.secret
    answer = run.log(b"x")
    assert answer.status_code == 403
    assert wire.CREATE in answer.json()["hint"]


def test_the_first_token_lies_in_a_file_only_its_owner_can_read(world: World) -> None:
    path = world.folder / "admin.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().strip() == world.secret
    found = who(world, world.secret)
    assert found is not None
    assert found.role == "admin"


def test_later_starts_keep_the_first_token(world: World) -> None:
    path = world.folder / "admin.token"
    assert admin_token_file(path, world.database, world.clock) == world.secret


def test_a_token_file_that_others_could_read_is_closed_to_them(world: World) -> None:
    path = world.folder / "admin.token"
    path.chmod(0o644)
    assert admin_token_file(path, world.database, world.clock) == world.secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_database_takes_up_the_token_that_clients_already_have(tmp_path: Path) -> None:
    clock = Clock()
    secrets = []
    for name in ("old", "new"):
        database = Database.open(f"sqlite:///{tmp_path}/{name}.db", clock)
        secrets.append(admin_token_file(tmp_path / "admin.token", database, clock))
        with database.read() as conn:
            assert tokens.authenticate(conn, secrets[-1], clock()) is not None
        database.close()
    assert secrets[0] == secrets[1]


@pytest.mark.parametrize("content", ["", "garbage\n", "\x00\x01"])
def test_a_damaged_token_file_is_made_anew(world: World, content: str) -> None:
    path = world.folder / "admin.token"
    path.write_text(content)
    fresh = admin_token_file(path, world.database, world.clock)
    assert fresh != world.secret
    assert path.read_text().strip() == fresh
    assert who(world, fresh) is not None


def test_a_revoked_first_token_is_replaced_at_the_next_start(world: World) -> None:
    world.database.write(lambda conn: tokens.revoke(conn, now=world.clock(), secret=world.secret))
    fresh = admin_token_file(world.folder / "admin.token", world.database, world.clock)
    assert fresh != world.secret
    assert who(world, fresh) is not None

"""Who gets an answer at all."""

from __future__ import annotations

import pytest
from api.serving import Served, free
from hostler.agent_bootstrap import wire


def test_only_the_health_routes_answer_without_a_token(served: Served) -> None:
    with served.client(None) as stranger:
        assert stranger.get("/livez").status_code == 200
        assert stranger.get("/readyz").status_code == 503  # no loop ticks here, but it answers
        for path in ("/metrics", "/api/v1/openapi.json", "/api/v1/tasks", "/nowhere", "/docs", "/"):
            answer = stranger.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_documented_route_refuses_a_stranger(served: Served) -> None:
    with served.client() as admin:
        document = admin.get("/api/v1/openapi.json").json()
    with served.client(None) as stranger:
        for path, methods in document["paths"].items():
            if path in ("/livez", "/readyz"):
                continue
            for method in methods:
                concrete = path.replace("{", "").replace("}", "")
                answer = stranger.request(method.upper(), concrete)
                assert answer.status_code == 401, (method, path)


def test_routes_of_agents_refuse_a_stranger_and_an_unknown_join_token(served: Served) -> None:
    body: dict[str, dict[str, str]] = {"inventory": {}, "identity": {}}
    with served.client(None) as stranger:
        assert stranger.get(wire.ZIPAPP).status_code == 401
        assert stranger.post(wire.LEASE, json={}).status_code == 401
        assert stranger.post(wire.JOIN, json=body).status_code in (401, 422)
    with served.client("guessed") as guesser:
        assert guesser.get(wire.ZIPAPP).status_code == 401
        assert guesser.post(wire.LEASE, json={}).status_code == 401


def test_an_agents_credential_opens_nothing_of_the_admins(served: Served) -> None:
    with served.joined("h-aaaaaaaaaaaa") as agent:
        for path in ("/api/v1/tasks", "/api/v1/instances", "/api/v1/config", "/metrics", "/api/v1/doctor"):
            assert agent.get(path).status_code == 403, path


def test_a_tasks_token_reads_its_own_task_and_no_other(served: Served) -> None:
    with served.client() as admin, served.joined("h-aaaaaaaaaaaa") as agent:
        mine = served.submit(admin)
        other = served.submit(admin)
        lease = agent.post(wire.LEASE, json=free()).json()["lease"]
        assert lease["task_id"] == mine["id"]
    with served.client(lease["task_token"]) as task:
        assert task.get(f"/api/v1/tasks/{mine['id']}").status_code == 200
        assert task.get(f"/api/v1/tasks/{other['id']}").status_code == 403
        assert task.post(f"/api/v1/tasks/{mine['id']}/stop").status_code == 403


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Token x", "bearer\tx"])
def test_a_malformed_authorization_header_is_a_401(served: Served, header: str) -> None:
    with served.client(None) as stranger:
        answer = stranger.get("/api/v1/tasks", headers={"Authorization": header})
        assert answer.status_code == 401


def test_an_unknown_route_is_a_404_problem_for_who_has_a_token(served: Served) -> None:
    with served.client() as admin:
        answer = admin.get("/api/v1/nothing")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "NOT_FOUND"
        assert admin.delete("/api/v1/tasks").json()["code"] == "METHOD_NOT_ALLOWED"

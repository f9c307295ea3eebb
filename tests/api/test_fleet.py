"""Instances, pools, queues, configuration, status, doctor and metrics over HTTP."""

from __future__ import annotations

import httpx
from api.serving import OFFER, Served, free
from hostler.agent_bootstrap import wire
from hostler.fleet.store import offers, pools
from hostler.providers.base import Check

ID = "h-aaaaaaaaaaaa"


def test_an_instance_can_be_drained_and_ended_but_never_brought_back(
    served: Served, client: httpx.Client
) -> None:
    served.joined(ID).close()
    path = f"/api/v1/instances/{ID}"
    etag = client.get(path).headers["ETag"]
    assert client.post(f"{path}/drain", headers={"If-Match": etag}).json()["state"] == "draining"
    assert client.post(f"{path}/drain", headers={"If-Match": etag}).status_code == 412
    assert client.post(f"{path}/drain").json()["state"] == "draining"
    assert client.post(f"{path}/terminate").json()["state"] == "terminating"
    assert client.post(f"{path}/drain").json()["state"] == "terminating"
    assert served.wakes


def test_an_intent_that_was_never_launched_cannot_be_drained_yet(
    served: Served, client: httpx.Client
) -> None:
    assert client.post("/api/v1/instances/h-zzzzzzzzzzzz/drain").status_code == 404


def test_a_reclaim_reaches_the_provider_with_its_notice(served: Served, client: httpx.Client) -> None:
    served.joined(ID).close()
    answer = client.post(f"/api/v1/instances/{ID}/reclaim", json={"notice_seconds": 3})
    assert answer.status_code == 200
    assert served.cloud.reclaimed == [(f"ref-{ID}", 3.0)]
    assert client.post(f"/api/v1/instances/{ID}/reclaim", json={"notice_seconds": -1}).status_code == 422


def test_instances_are_listed_with_what_they_hold_and_cost(served: Served, client: httpx.Client) -> None:
    with served.joined(ID) as agent:
        task = served.submit(client)

        agent.post(wire.LEASE, json=free())
    shown = client.get("/api/v1/instances", params={"live": True, "state": "ready"}).json()["items"]
    assert [(one["id"], one["tasks"]) for one in shown] == [(ID, [task["id"]])]
    assert shown[0]["usd"] >= 0.0
    assert client.get("/api/v1/instances", params={"state": "terminated"}).json()["items"] == []


def test_a_protected_pool_is_shown_and_rearmed(served: Served, client: httpx.Client) -> None:
    served.database.write(lambda conn: pools.protect(conn, "default", "main", "three boots failed", 5.0))
    assert client.get("/api/v1/pools/main").json()["protected_reason"] == "three boots failed"
    status = client.get("/api/v1/status").json()
    assert status["protected_pools"] == ["main"]
    assert any("rearm" in warning for warning in status["warnings"])
    assert client.post("/api/v1/pools/main/rearm").json()["was_protected"] is True
    assert client.get("/api/v1/pools/main").json()["protected_since"] is None
    assert client.post("/api/v1/pools/mian/rearm").status_code == 404


def test_queues_tell_what_waits(served: Served, client: httpx.Client) -> None:
    served.submit(client, queue="urgent")
    shown = {queue["name"]: queue for queue in client.get("/api/v1/queues").json()["items"]}
    assert shown["urgent"]["tasks"] == {"queued": 1}
    assert shown["urgent"]["oldest_queued_at"] is not None
    assert shown["default"]["tasks"] == {}
    assert client.get("/api/v1/queues/nowhere").status_code == 404


def test_a_valid_configuration_is_swapped_in_and_the_differences_told(
    served: Served, client: httpx.Client
) -> None:
    text = (
        served.fleet_file.read_text().replace("instances: 0..3", "instances: 0..5").replace(':0"', ':9999"')
    )
    answer = client.post("/api/v1/config", content=text, headers={"Content-Type": "text/yaml"})
    assert answer.status_code == 200, answer.text
    assert any("pools.main.instances" in line for line in answer.json()["differences"])
    assert any("daemon.listen" in line for line in answer.json()["needs_restart"])
    assert served.settings.fleet.pools["main"].instances.max == 5
    assert client.get("/api/v1/config").json()["source"] == "applied by admin"


def test_an_invalid_configuration_is_refused_with_its_places_and_the_old_one_stays(
    served: Served, client: httpx.Client
) -> None:
    before = served.settings.fleet
    text = served.fleet_file.read_text().replace("idle_timeout: 30s", "idle_timeout: soon")
    answer = client.post("/api/v1/config", content=text)
    assert answer.status_code == 422
    problem = answer.json()["problems"][0]
    assert problem["line"] is not None
    assert "idle_timeout" in problem["text"]
    assert served.settings.fleet is before
    assert client.post("/api/v1/config", content=b"\xff\xff").status_code == 422


def test_a_provider_with_running_instances_cannot_be_taken_out(served: Served, client: httpx.Client) -> None:
    served.joined(ID).close()
    text = served.fleet_file.read_text().replace("here", "there")
    answer = client.post("/api/v1/config", content=text)
    assert answer.status_code == 422
    assert "drain them first" in answer.json()["detail"]


def test_doctor_reports_each_providers_checks_and_fails_when_one_does(
    served: Served, client: httpx.Client
) -> None:
    assert client.get("/api/v1/doctor").json()["ok"] is True
    served.cloud.checks = [Check("quota", False, "0 of 0", "ask for more")]
    body = client.get("/api/v1/doctor", params={"provider": "here"}).json()
    assert body["ok"] is False
    assert body["checks"] == [
        {"subject": "here", "name": "quota", "ok": False, "detail": "0 of 0", "hint": "ask for more"}
    ]
    assert client.get("/api/v1/doctor", params={"provider": "nobody"}).status_code == 404


def test_readiness_needs_a_recent_tick(served: Served, client: httpx.Client) -> None:
    assert client.get("/readyz").json() == {
        "status": "not ready",
        "database": True,
        "loop": False,
        "stopping": False,
    }
    served.state.pulse.beat(0.01)
    assert client.get("/readyz").status_code == 200


def test_metrics_tell_the_fleet_without_task_ids(served: Served, client: httpx.Client) -> None:
    with served.joined(ID) as agent:
        served.submit(client)

        agent.post(wire.LEASE, json=free())
    served.state.metrics.reconcile.observe(0.2)
    text = client.get("/metrics").text
    assert 'hostler_tasks{queue="default",state="leased"} 1.0' in text
    assert 'hostler_instances{market="on_demand",pool="main",provider="here",state="ready"} 1.0' in text
    assert 'hostler_queue_wait_seconds_count{queue="default"} 1.0' in text
    assert 'hostler_provision_seconds_count{pool="main",provider="here"} 1.0' in text
    assert "hostler_reconcile_seconds_count 1.0" in text
    for name in ("hostler_preemptions_total", "hostler_cost_usd_total", "hostler_provider_errors_total"):
        assert f"# TYPE {name} counter" in text
    assert "hostler_budget_remaining_usd" in text
    assert "task_id" not in text


def test_offers_are_shown_by_page(served: Served, client: httpx.Client) -> None:
    served.database.write(lambda conn: offers.save(conn, "here", [OFFER], 5.0))
    body = client.get("/api/v1/offers").json()
    assert [(one["instance_type"], one["usd_per_hour"]) for one in body["items"]] == [("local", 0.36)]
    assert client.get("/api/v1/offers", params={"provider": "other"}).json()["items"] == []


def test_openapi_holds_the_keys_of_a_task_and_the_token(client: httpx.Client) -> None:
    document = client.get("/api/v1/openapi.json").json()
    assert "resources" in document["components"]["schemas"]["TaskSpec"]["properties"]
    assert document["security"] == [{"token": []}]
    for path in ("tasks", "queues", "pools", "instances", "events", "decisions"):
        assert f"/api/v1/{path}" in document["paths"]

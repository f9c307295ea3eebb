"""The emulator of Compute Engine judges as Google does: bad requests and bad answers are caught, good ones pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract.gcp_harness import ZONE, GcpHarness
from contract.harness import running
from emulators.gcp.schema import Api, Violation

PLACE = {"project": "acme-ml", "zone": ZONE}
GOOD: dict[str, Any] = {
    "name": "h-good",
    "machineType": f"zones/{ZONE}/machineTypes/e2-standard-4",
    "labels": {"team": "ml"},
    "disks": [
        {
            "boot": True,
            "autoDelete": True,
            "initializeParams": {
                "sourceImage": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
                "diskSizeGb": "20",
                "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
            },
        }
    ],
    "networkInterfaces": [{"network": "global/networks/default"}],
}
SPOT = {"provisioningModel": "SPOT", "automaticRestart": False, "onHostMaintenance": "TERMINATE"}


@pytest.fixture(scope="module")
def api() -> Api:
    return Api("compute.v1")


def judge(api: Api, body: dict[str, Any], *query: tuple[str, str], **place: str) -> None:
    api.judge("instances.insert", {**PLACE, **place}, list(query), json.dumps(body).encode())


def test_a_good_request_passes(api: Api) -> None:
    judge(api, {**GOOD, "scheduling": SPOT}, ("requestId", "11111111-2222-4333-8444-555555555555"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Capitals"}, "does not match"),
        ({"nmae": "x"}, "unexpected"),
        ({"status": "RUNNING"}, "False schema"),
        ({"creationTimestamp": "2026-01-01T00:00:00Z"}, "False schema"),
        ({"disks": {}}, "not of type 'array'"),
        ({"disks": [{"boot": "yes"}]}, "not of type 'boolean'"),
        ({"disks": [{"initializeParams": {"diskSizeGb": 20}}]}, "not of type 'string'"),
        ({"disks": [{"initializeParams": {"diskSizeGb": "20GB"}}]}, "does not match"),
        ({"labels": {"a": 1}}, "not of type 'string'"),
        ({"scheduling": {**SPOT, "provisioningModel": "CHEAP"}}, "is not one of"),
        ({"scheduling": {**SPOT, "instanceTerminationAction": "BURN"}}, "is not one of"),
        ({"guestAccelerators": [{"acceleratorCount": 2**40}]}, "maximum"),
        ({"metadata": {"items": [{"key": "a", "val": "b"}]}}, "unexpected"),
        ({"networkInterfaces": [{"accessConfigs": [{"type": "TUNNEL"}]}]}, "is not one of"),
        ({"networkInterfaces": [{"name": "nic0"}]}, "False schema"),
    ],
)
def test_a_body_that_is_not_googles_is_caught(api: Api, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Violation, match=said):
        judge(api, {**GOOD, **changes})


def test_a_body_without_a_name_is_caught(api: Api) -> None:
    with pytest.raises(Violation, match="'name' is a required property"):
        judge(api, {key: value for key, value in GOOD.items() if key != "name"})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([("reqestId", "x")], "has no parameter reqestId"),
        ([("requestId", "x"), ("requestId", "y")], "there twice"),
    ],
)
def test_a_query_that_is_not_googles_is_caught(api: Api, query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(Violation, match=said):
        judge(api, GOOD, *query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([("maxResults", "many")], "not an integer"),
        ([("maxResults", "-1")], "out of range"),
        ([("includeAllScopes", "yes")], "not true or false"),
    ],
)
def test_a_lists_parameters_are_judged_by_their_types(
    api: Api, query: list[tuple[str, str]], said: str
) -> None:
    with pytest.raises(Violation, match=said):
        api.judge("instances.aggregatedList", {"project": "acme-ml"}, query, b"")


@pytest.mark.parametrize("place", [{"project": "UPPER"}, {"zone": "a/b"}])
def test_a_path_that_is_not_googles_is_caught(api: Api, place: dict[str, str]) -> None:
    with pytest.raises(Violation, match="does not match"):
        judge(api, GOOD, **place)


def test_a_body_where_none_belongs_is_caught(api: Api) -> None:
    with pytest.raises(Violation, match="takes no body"):
        api.judge("instances.get", {**PLACE, "instance": "x"}, [], b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        {"name": 3},
        {"status": "FINE"},
        {"id": 17},
        {"zone": ZONE, "extra": 1},
        {"networkInterfaces": [{"networkIP": None}]},
    ],
)
def test_an_answer_that_is_not_googles_is_caught(api: Api, answer: dict[str, Any]) -> None:
    with pytest.raises(Violation, match=r"answer of instances\.get"):
        api.judge_answer("instances.get", answer)


def test_a_path_that_no_api_has_is_noted(gcp: GcpHarness) -> None:
    assert gcp.cloud.handle("GET", "/compute/v9/nothing", [], b"").status == 404
    (noted,) = gcp.cloud.violations
    assert "no method" in noted
    gcp.cloud.violations.clear()


def test_a_violation_of_a_request_is_noted_and_refused(gcp: GcpHarness) -> None:
    answer = insert(gcp, {**GOOD, "nmae": "x"})
    assert answer["error"]["code"] == 400
    assert len(gcp.cloud.violations) == 1
    gcp.cloud.violations.clear()


def test_a_request_id_that_comes_with_another_body_is_noted(gcp: GcpHarness) -> None:
    insert(gcp, GOOD, requestId="r")
    insert(gcp, {**GOOD, "name": "h-other"}, requestId="r")
    (noted,) = gcp.cloud.violations
    assert "another body" in noted
    gcp.cloud.violations.clear()
    gcp.cloud.machines.clear()


@pytest.mark.parametrize(
    "changes",
    [
        {"scheduling": {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE"}},
        {"scheduling": {**SPOT, "onHostMaintenance": "MIGRATE"}},
        {"scheduling": {"instanceTerminationAction": "DELETE"}},
        {"machineType": f"zones/{ZONE}/machineTypes/g2-standard-4"},
        {"machineType": "e2-standard-4"},
        {"labels": {"hostler:server": "x"}},
        {"labels": {"server": "Upper"}},
        {"disks": []},
        {"networkInterfaces": []},
        {
            "guestAccelerators": [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 1}],
            "scheduling": {"onHostMaintenance": "TERMINATE"},
        },
    ],
)
def test_what_compute_engine_would_not_make_is_refused(gcp: GcpHarness, changes: dict[str, Any]) -> None:
    assert insert(gcp, {**GOOD, **changes})["error"]["code"] == 400
    assert gcp.cloud.machines.instances == {}


def test_without_a_request_id_a_second_call_meets_the_first_by_its_name(gcp: GcpHarness) -> None:
    assert insert(gcp, GOOD)["operationType"] == "insert"
    again = insert(gcp, GOOD)
    assert again["error"]["errors"][0]["reason"] == "alreadyExists"
    gcp.cloud.machines.clear()


def test_a_disk_that_is_not_deleted_with_its_instance_shows_as_a_leak(gcp: GcpHarness) -> None:
    (made,) = gcp.provider().launch(gcp.request()).instances
    zone, name = made.ref.split("/")
    gcp.cloud.machines.instances[zone, name].made.disks[0]["autoDelete"] = False
    gcp.provider().terminate(made.ref)
    assert running(gcp.provider()) == []
    assert gcp.left() == [f"disk {name}"]
    gcp.cloud.machines.clear()


def test_a_stranger_is_not_let_in(gcp: GcpHarness) -> None:
    assert not gcp.server.lets_in("Bearer forged")
    assert not gcp.server.lets_in("")
    assert gcp.server.issue(b"assertion=forged").status == 400


def insert(gcp: GcpHarness, body: dict[str, Any], **query: str) -> dict[str, Any]:
    path = f"/compute/v1/projects/acme-ml/zones/{ZONE}/instances"
    answer = gcp.cloud.handle("POST", path, list(query.items()), json.dumps(body).encode())
    found: dict[str, Any] = json.loads(answer.body)
    return found

"""What is Kubernetes' own: manifests, paging, eviction, lost nodes, waiting pods, quotas, upkeep, the doctor."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract.harness import eventually, running, state_of, terminate_all
from contract.kubernetes_harness import NAMESPACE, KubernetesHarness
from emulators.kubernetes import schemas
from emulators.kubernetes.cluster import Answer, status
from emulators.kubernetes.server import KubernetesServer, published, published_rules
from hostler.providers import registry
from hostler.providers.base import (
    TAG_INTENT,
    TAG_SERVER,
    AuthFailed,
    CloudState,
    InsufficientCapacity,
    InvalidConfig,
    Market,
    ProviderContext,
    ProviderError,
    QuotaExceeded,
    Reclaimable,
    Scope,
    Throttled,
    Unavailable,
)
from hostler.providers.kubernetes import client, names
from hostler.providers.kubernetes.adapter import KubernetesProvider
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GARBAGE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def launched(harness: KubernetesHarness, **changes: Any) -> dict[str, Any]:
    """The pod that a launch with these settings makes, as the cluster has it."""
    request = harness.request()
    harness.provider(**changes).launch(request)
    return harness.pod(request.token)


# -- the manifest -----------------------------------------------------------------------------------------------------


def test_a_pod_runs_its_user_data_from_a_secret_that_it_owns(kubernetes: KubernetesHarness) -> None:
    pod = launched(kubernetes)
    (secret,) = [
        one for one in kubernetes.cluster.all("secrets") if one["metadata"]["name"] == pod["metadata"]["name"]
    ]
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Pod", pod["metadata"]["uid"])
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "/etc/hostler/user-data"]
    assert kubernetes.user_data() not in json.dumps(pod)
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["HOSTLER_LOCAL"] == "1"
    assert (environment["HOSTLER_SIGTERM"], environment["HOSTLER_SIGTERM_SECONDS"]) == ("preempt", "60")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 60
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_pod_is_limited_to_what_it_requests(kubernetes: KubernetesHarness) -> None:
    resources = launched(kubernetes)["spec"]["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"] == {
        "cpu": "4000m",
        "memory": str(16 * 2**30),
        "nvidia.com/gpu": "1",
        "ephemeral-storage": str(60 * 2**30),
    }


@pytest.mark.parametrize(
    ("preset", "selector", "tolerated"),
    [
        ("gke", {"cloud.google.com/gke-spot": "true"}, {"cloud.google.com/gke-spot"}),
        ("eks", {"eks.amazonaws.com/capacityType": "SPOT"}, set()),
        ("aks", {"kubernetes.azure.com/scalesetpriority": "spot"}, {"kubernetes.azure.com/scalesetpriority"}),
        ("karpenter", {"karpenter.sh/capacity-type": "spot"}, set()),
    ],
)
def test_spot_pods_go_to_spot_nodes(
    kubernetes: KubernetesHarness, preset: str, selector: dict[str, str], tolerated: set[str]
) -> None:
    spec = launched(kubernetes, spot_nodes=preset)["spec"]
    assert spec["nodeSelector"] == selector
    assert {one["key"] for one in spec["tolerations"]} == tolerated | {"nvidia.com/gpu"}


def test_an_on_demand_pod_tolerates_no_spot_node(kubernetes: KubernetesHarness) -> None:
    request = replace(kubernetes.request(), offer=kubernetes.offer(Market.ON_DEMAND))
    kubernetes.provider(spot_nodes="karpenter").launch(request)
    spec = kubernetes.pod(request.token)["spec"]
    assert spec["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    assert [one["key"] for one in spec["tolerations"]] == ["nvidia.com/gpu"]


def test_an_offer_of_a_zone_is_bound_to_it(kubernetes: KubernetesHarness) -> None:
    provider = kubernetes.provider()
    offer = next(one for one in provider.offers() if one.zone == "z-2")
    request = replace(kubernetes.request(), offer=offer)
    (made,) = provider.launch(request).instances
    assert (made.zone, made.instance_type) == ("z-2", "small")
    assert kubernetes.pod(request.token)["spec"]["nodeSelector"] == {"topology.kubernetes.io/zone": "z-2"}


def test_the_template_is_merged_and_ours_stays(kubernetes: KubernetesHarness) -> None:
    template = {
        "nodeSelector": {"pool": "ml"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "serviceAccountName": "trainer",
        "priorityClassName": "low",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "affinity": {"podAntiAffinity": {}},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
    }
    container = {
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HOSTLER_SIGTERM", "value": "no"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "imagePullPolicy": "Always",
    }
    pod = launched(
        kubernetes,
        template=template,
        container=container,
        labels={"team": "vision"},
        annotations={"note": "any text"},
        queue_name="ml-queue",
    )
    spec, metadata = pod["spec"], pod["metadata"]
    assert spec["nodeSelector"] == {"pool": "ml", "cloud.google.com/gke-spot": "true"}
    assert spec["tolerations"][0] == {"key": "team", "operator": "Exists"}
    assert {key: spec[key] for key in ("serviceAccountName", "priorityClassName", "runtimeClassName")} == {
        "serviceAccountName": "trainer",
        "priorityClassName": "low",
        "runtimeClassName": "nvidia",
    }
    assert [volume["name"] for volume in spec["volumes"]] == [
        "data",
        "hostler-boot",
        "hostler-home",
        "hostler-shm",
    ]
    (made,) = spec["containers"]
    assert made["imagePullPolicy"] == "Always"
    environment = {one["name"]: one["value"] for one in made["env"]}
    assert (environment["NCCL_DEBUG"], environment["HOSTLER_SIGTERM"]) == ("INFO", "preempt")
    assert metadata["labels"]["team"] == "vision"
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "ml-queue"
    assert metadata["annotations"]["karpenter.sh/do-not-disrupt"] == "true"


def test_a_volume_of_ones_own_for_the_home_takes_the_disks_place(kubernetes: KubernetesHarness) -> None:
    home = {"name": "hostler-home", "hostPath": {"path": "/mnt/nvme"}}
    spec = launched(kubernetes, template={"volumes": [home]})["spec"]
    assert [volume for volume in spec["volumes"] if volume["name"] == "hostler-home"] == [home]
    assert "ephemeral-storage" not in spec["containers"][0]["resources"]["limits"]


def test_tags_come_back_as_they_were_whatever_is_in_them(kubernetes: KubernetesHarness) -> None:
    request = kubernetes.request()
    odd = {
        **request.tags,
        "hostler:pool": "a pool / with\n ünusual words " * 5,
        "cost-centre": "42",
        "x y": "",
    }
    provider = kubernetes.provider()
    provider.launch(replace(request, tags=odd))
    (listed,) = provider.instances()
    assert dict(listed.tags) == odd


@given(text=st.text(max_size=200))
def test_any_text_makes_a_label_value_and_a_fitting_one_is_kept(text: str) -> None:
    value = names.label_value(text)
    pod = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "labels": {names.SERVER: value}},
    }
    assert schemas.faults(pod) == []
    assert value == text or len(value) == 47


def test_a_template_that_the_api_does_not_know_is_refused_with_its_words(
    kubernetes: KubernetesHarness,
) -> None:
    provider = kubernetes.provider(template={"nodeSelektor": {"pool": "ml"}})
    with pytest.raises(InvalidConfig, match="nodeSelektor") as caught:
        provider.launch(kubernetes.request())
    assert caught.value.scope is Scope.PROVIDER
    assert not caught.value.maybe_created


@pytest.mark.parametrize(
    ("change", "error", "scope"),
    [
        ({"instance_type": "gone"}, InvalidConfig, Scope.INSTANCE_TYPE),
        ({"zone": "z-9"}, InvalidConfig, Scope.ZONE),
        ({"region": "other"}, InvalidConfig, Scope.REGION),
    ],
)
def test_an_offer_that_is_not_in_fleet_yaml_any_more_is_refused(
    kubernetes: KubernetesHarness, change: dict[str, Any], error: type[ProviderError], scope: Scope
) -> None:
    request = replace(kubernetes.request(), offer=replace(kubernetes.offer(), **change))
    with pytest.raises(error) as caught:
        kubernetes.provider().launch(request)
    assert caught.value.scope is scope


# -- launch -----------------------------------------------------------------------------------------------------------


def test_a_pod_whose_secret_could_not_be_made_is_taken_away(kubernetes: KubernetesHarness) -> None:
    over = status(403, "Forbidden", 'secrets "h" is forbidden: exceeded quota: team', kind="secrets")
    kubernetes.cluster.fail("create", "secrets", over)
    with pytest.raises(QuotaExceeded) as caught:
        kubernetes.provider().launch(kubernetes.request())
    assert not caught.value.maybe_created
    assert kubernetes.cluster.all("pods") == []


def test_a_launch_cut_off_before_its_secret_is_completed_by_a_replay(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    kubernetes.cluster.fail("create", "secrets", status(500, "InternalError", "no"), times=2)
    with pytest.raises(Unavailable) as caught:
        provider.launch(request)
    assert caught.value.maybe_created
    (half,) = provider.instances()
    assert half.state is CloudState.PENDING
    provider.launch(request)
    eventually(lambda: state_of(provider, half.ref) is CloudState.RUNNING, "running")


def test_a_quota_that_is_full_stops_the_second_of_a_batch_and_the_first_is_told(
    kubernetes: KubernetesHarness,
) -> None:
    kubernetes.cluster.quota["pods"] = 1
    answer = kubernetes.provider().launch(kubernetes.request(count=3))
    assert len(answer.instances) == 1
    (error,) = answer.errors
    assert (type(error), error.scope) == (QuotaExceeded, Scope.REGION)
    assert "exceeded quota: team" in error.detail


def test_a_name_taken_by_another_is_left_alone(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    theirs = kubernetes.provider("another-server")
    theirs.launch(kubernetes.request(request.token, server_id="another-server"))
    try:
        with pytest.raises(InvalidConfig, match="isn't of this launch") as caught:
            provider.launch(request)
        assert not caught.value.maybe_created
        assert provider.instances() == ()
    finally:
        terminate_all(theirs)


def test_a_throttled_call_waits_as_long_as_it_is_told(kubernetes: KubernetesHarness) -> None:
    kubernetes.cluster.fail("list", "pods", status(429, "TooManyRequests", "slow down", retryAfterSeconds=3))
    kubernetes.provider().instances()
    assert kubernetes.waits
    assert kubernetes.waits[0] >= 3.0


# -- listing ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_hundred_pods_are_listed_page_by_page(
    kubernetes: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = kubernetes.provider()
    provider.launch(kubernetes.request(count=310))
    monkeypatch.setattr(client, "PAGE_SIZE", 100)
    kubernetes.cluster.calls.clear()
    assert len({one.ref for one in provider.instances()}) == 310
    assert kubernetes.cluster.calls["list", "pods"] == 4


def test_pages_that_the_server_forgot_are_read_anew_and_never_given_in_part(
    kubernetes: KubernetesHarness,
) -> None:
    provider = kubernetes.provider()
    made = {one.ref for one in provider.launch(kubernetes.request(count=5)).instances}
    kubernetes.cluster.page_size = 2
    kubernetes.cluster.pages_forgotten = 1
    assert {one.ref for one in provider.instances()} == made
    kubernetes.cluster.pages_forgotten = 10
    with pytest.raises(Unavailable, match="forgot its pages"):
        provider.instances()


def test_a_server_that_pages_for_ever_is_an_error(kubernetes: KubernetesHarness) -> None:
    page = {"kind": "PodList", "apiVersion": "v1", "metadata": {"continue": "same"}, "items": []}
    kubernetes.cluster.fail("list", "pods", Answer(200, page), times=10)
    with pytest.raises(Unavailable, match="pages don't end"):
        kubernetes.provider().instances()


def test_a_server_that_ignores_the_selector_makes_nothing_ours(kubernetes: KubernetesHarness) -> None:
    theirs = kubernetes.provider("another-server")
    theirs.launch(kubernetes.request(server_id="another-server"))
    items = kubernetes.cluster.all("pods")
    page = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
    kubernetes.cluster.fail("list", "pods", Answer(200, page))
    assert kubernetes.provider().instances() == ()
    terminate_all(theirs)


@pytest.mark.parametrize(
    ("phase", "reason", "message", "exit_code", "said"),
    [
        ("Succeeded", "", "", 0, ""),
        ("Failed", "Evicted", "The node was low on resource: memory.", 137, "Evicted: The node was low"),
        ("Failed", "Terminated", "Pod was terminated in response to imminent node shutdown.", 143, "node shutdown"),
        ("Failed", "", "", 3, "agent ended with 3"),
    ],
)  # fmt: skip
def test_a_pod_that_ended_by_itself_is_terminated_with_its_reason(
    kubernetes: KubernetesHarness, phase: str, reason: str, message: str, exit_code: int, said: str
) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    provider.launch(request)
    kubernetes.cluster.end(request.token, phase, reason, message, exit_code)
    (listed,) = provider.instances()
    assert listed.state is CloudState.TERMINATED
    assert said in listed.detail
    assert [one.state for one in provider.launch(request).instances] == [CloudState.TERMINATED]
    kubernetes.cluster.remove(request.token)


def test_a_pod_of_a_lost_node_runs_on_as_far_as_anyone_knows(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    provider.launch(request)
    kubernetes.cluster.mark(request.token, phase="Unknown", reason="NodeLost", message="Node is unresponsive")
    kubernetes.cluster.lost_nodes.add(request.token)
    (listed,) = provider.instances()
    assert (listed.state, listed.detail) == (CloudState.RUNNING, "NodeLost: Node is unresponsive")


def test_what_everyone_has_seen_end_is_cleaned_away_after_an_hour(kubernetes: KubernetesHarness) -> None:
    provider = kubernetes.provider()
    by_itself, by_us = kubernetes.request(), kubernetes.request()
    provider.launch(by_itself)
    (made,) = provider.launch(by_us).instances
    kubernetes.cluster.end(by_itself.token, "Succeeded")
    provider.terminate(made.ref)
    eventually(lambda: not running(provider), "both over")
    assert len(provider.instances()) == 2
    later = KubernetesProvider(
        "k8s",
        kubernetes.section(),
        ProviderContext(kubernetes.server_id, "/nonexistent"),
        clock=lambda: time.time() + 3_700,
    )
    later.instances()
    eventually(lambda: later.instances() == (), "nothing is listed any more")
    mine = [
        one
        for kind in ("pods", "secrets", "configmaps")
        for one in kubernetes.cluster.all(kind)
        if one["metadata"]["labels"]["hostler.dev/server"] == kubernetes.server_id
    ]
    assert mine == []


def test_an_upkeep_that_fails_does_not_spoil_the_listing(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    provider.launch(request)
    kubernetes.cluster.drain(request.token)
    kubernetes.cluster.fail("create", "configmaps", status(403, "Forbidden", "no"), times=5)
    (listed,) = provider.instances()
    assert listed.state is CloudState.STOPPING


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_pod_without_a_node_is_pending_and_says_why(kubernetes: KubernetesHarness) -> None:
    kubernetes.cluster.sizes_without_room.add("a10g")
    provider = kubernetes.provider()
    provider.launch(kubernetes.request())
    (listed,) = provider.instances()
    assert listed.state is CloudState.PENDING
    assert "Insufficient nvidia.com/gpu" in listed.detail


def test_a_size_whose_pods_wait_too_long_has_no_capacity_until_they_are_gone(
    kubernetes: KubernetesHarness,
) -> None:
    kubernetes.cluster.sizes_without_room.add("a10g")
    provider, waits = kubernetes.provider(schedule_timeout="5m"), kubernetes.request()
    (made,) = provider.launch(waits).instances
    provider.instances()
    second = kubernetes.request()
    provider.launch(second)
    kubernetes.cluster.age("pods", waits.token, 301)
    provider.instances()
    with pytest.raises(InsufficientCapacity, match="no node within 300 s") as caught:
        provider.launch(kubernetes.request())
    assert caught.value.scope is Scope.OFFER
    small = replace(kubernetes.request(), offer=next(o for o in provider.offers() if o.zone == "z-1"))
    assert provider.launch(small).instances
    assert [one.ref for one in provider.launch(waits).instances] == [made.ref], "its own launch is known"
    terminate_all(provider)
    kubernetes.cluster.sizes_without_room.clear()
    assert provider.launch(kubernetes.request()).instances


def test_an_image_that_can_not_be_pulled_protects_the_provider(kubernetes: KubernetesHarness) -> None:
    kubernetes.cluster.images_missing.add("registry/typo")
    provider, request = kubernetes.provider(image="registry/typo"), kubernetes.request()
    provider.launch(request)
    kubernetes.cluster.age("pods", request.token, 301)
    (listed,) = provider.instances()
    assert "ImagePullBackOff" in listed.detail
    with pytest.raises(InvalidConfig, match="ImagePullBackOff") as caught:
        provider.launch(kubernetes.request())
    assert (caught.value.scope, "image" in caught.value.hint) == (Scope.PROVIDER, True)


# -- the end ----------------------------------------------------------------------------------------------------------


def test_an_evicted_pod_is_stopping_then_ended_and_its_token_starts_no_other(
    kubernetes: KubernetesHarness,
) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    (made,) = provider.launch(request).instances
    assert state_of(provider, made.ref) is CloudState.RUNNING
    kubernetes.cluster.drain(request.token)
    (listed,) = provider.instances()
    assert listed.state is CloudState.STOPPING
    assert "EvictionByEvictionAPI" in listed.detail
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "ended")
    (ended,) = provider.instances()
    assert "EvictionByEvictionAPI" in ended.detail
    assert [one.ref for one in provider.launch(request).instances] == [made.ref]
    assert running(provider) == []
    assert kubernetes.left() == []


def test_reclaim_evicts_and_a_disruption_budget_holds_it_up(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    assert isinstance(provider, Reclaimable)
    (made,) = provider.launch(request).instances
    kubernetes.cluster.budgeted.add(request.token)
    with pytest.raises(Throttled, match="disruption budget"):
        provider.reclaim(made.ref, 30)
    kubernetes.cluster.budgeted.clear()
    provider.reclaim(made.ref, 30)
    assert kubernetes.pod(request.token)["metadata"]["deletionGracePeriodSeconds"] == 30


def test_a_pod_stuck_on_a_lost_node_is_removed_by_force(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    (made,) = provider.launch(request).instances
    kubernetes.cluster.lost_nodes.add(request.token)
    provider.terminate(made.ref)
    provider.terminate(made.ref)
    assert state_of(provider, made.ref) is CloudState.STOPPING
    kubernetes.cluster.age("pods", request.token, 400)
    provider.terminate(made.ref)
    assert state_of(provider, made.ref) is CloudState.TERMINATED


def test_a_pod_that_took_an_ended_ones_name_is_not_deleted_for_it(kubernetes: KubernetesHarness) -> None:
    request, provider = kubernetes.request(), kubernetes.provider()
    (made,) = provider.launch(request).instances
    old = kubernetes.pod(request.token)
    kubernetes.cluster.remove(request.token)
    provider.launch(request)
    kubernetes.cluster.fail("get", "pods", Answer(200, old))
    with pytest.raises(Unavailable, match="UID in the precondition"):
        provider.terminate(made.ref)
    assert kubernetes.pod(request.token)["metadata"].get("deletionTimestamp") is None


# -- credentials and the doctor ---------------------------------------------------------------------------------------


def test_the_doctor_tells_what_is_not_permitted(tmp_path: Path) -> None:
    allowed = frozenset(rule for rule in published_rules() if rule != ("secrets", "create"))
    with KubernetesServer(allowed) as server:
        harness = KubernetesHarness(server, tmp_path)
        checks = {check.name: check for check in harness.provider().check()}
    assert not checks["permissions"].ok
    assert checks["permissions"].detail == "not permitted in ml: create secrets"
    assert "kubernetes.rbac.yaml" in checks["permissions"].hint


def test_the_doctor_tries_each_size_and_leaves_nothing(kubernetes: KubernetesHarness) -> None:
    kubernetes.cluster.quota["pods"] = 0
    checks = {check.name: check for check in kubernetes.provider().check()}
    assert not checks["size a10g spot"].ok
    assert "exceeded quota" in checks["size a10g spot"].detail
    assert "size small on_demand z-2" in checks
    kubernetes.cluster.quota.clear()
    assert all(check.ok for check in kubernetes.provider().check())
    assert kubernetes.cluster.all("pods") == []


def test_the_doctor_shows_pods_that_wait(kubernetes: KubernetesHarness) -> None:
    kubernetes.cluster.sizes_without_room.add("a10g")
    request, provider = kubernetes.request(), kubernetes.provider()
    provider.launch(request)
    provider.instances()
    (told,) = [check for check in provider.check() if not check.ok]
    assert told.name == f"pod {request.token}"
    assert "Insufficient" in told.detail


def test_a_wrong_token_is_told_by_the_doctor_alone(kubernetes: KubernetesHarness) -> None:
    file = kubernetes.server.write_kubeconfig(kubernetes.folder / "old", token="expired")
    provider = kubernetes.provider(kubeconfig=str(file))
    (check,) = provider.check()
    assert (check.name, check.ok) == ("credentials", False)
    assert "401" in check.detail
    with pytest.raises(AuthFailed) as caught:
        provider.instances()
    assert caught.value.scope is Scope.PROVIDER


def test_credentials_that_were_renewed_are_taken_up_without_a_restart(kubernetes: KubernetesHarness) -> None:
    provider = kubernetes.provider()
    kubernetes.cluster.token = "renewed"
    try:
        with pytest.raises(AuthFailed):
            provider.instances()
        kubernetes.server.write_kubeconfig(kubernetes.kubeconfig)
        assert provider.instances() == ()
    finally:
        kubernetes.cluster.token = "valid-token"
        kubernetes.server.write_kubeconfig(kubernetes.kubeconfig)


def test_a_token_that_runs_out_is_asked_of_its_plugin_again(kubernetes: KubernetesHarness) -> None:
    token = kubernetes.folder / "token"
    token.write_text("valid-token")
    told = {"token": "TOKEN", "expirationTimestamp": "2020-01-01T00:00:00Z"}
    version = "client.authentication.k8s.io/v1"
    words = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": told})
    command = f"echo '{words}' | sed \"s/TOKEN/$(cat {token})/\""
    plugin = {"apiVersion": version, "command": "sh", "args": ["-c", command], "interactiveMode": "Never"}
    file = kubernetes.server.write_kubeconfig(kubernetes.folder / "plugin")
    config = json.loads(file.read_text())
    config["users"][0]["user"] = {"exec": plugin}
    file.write_text(json.dumps(config))
    provider = kubernetes.provider(kubeconfig=str(file))
    assert provider.instances() == ()
    kubernetes.cluster.token = "second"
    token.write_text("second")
    try:
        assert provider.instances() == ()
    finally:
        kubernetes.cluster.token = "valid-token"


def test_a_server_that_is_not_there_has_created_nothing(kubernetes: KubernetesHarness) -> None:
    file = kubernetes.server.write_kubeconfig(kubernetes.folder / "away", url="http://127.0.0.1:9")
    with pytest.raises(Unavailable) as caught:
        kubernetes.provider(kubeconfig=str(file)).launch(kubernetes.request())
    assert not caught.value.maybe_created


@pytest.mark.parametrize(
    ("change", "said"),
    [({"kubeconfig": "/nonexistent"}, "nonexistent"), ({"context": "staging"}, "staging")],
)
def test_a_kubeconfig_or_context_that_is_not_there_is_told_when_the_provider_is_made(
    kubernetes: KubernetesHarness, change: dict[str, str], said: str
) -> None:
    with pytest.raises(AuthFailed, match=said) as caught:
        registry.create("k8s", kubernetes.section(**change), ProviderContext("s", "/nonexistent"))
    assert "kubeconfig" in caught.value.hint


def test_inside_the_cluster_the_pods_own_account_is_used(
    kubernetes: KubernetesHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.delenv("KUBERNETES_SERVICE_PORT", raising=False)
    with pytest.raises(AuthFailed, match="Service host/port"):
        kubernetes.provider(kubeconfig=None)


def test_the_published_role_is_well_formed_and_permits_nothing_more_than_is_used(
    kubernetes: KubernetesHarness,
) -> None:
    for document in published():
        assert schemas.faults(document) == []
    assert published_rules() == {
        *(("pods", verb) for verb in ("create", "get", "list", "delete")),
        *(("configmaps", verb) for verb in ("create", "get", "list", "delete")),
        ("secrets", "create"),
        ("pods/eviction", "create"),
        ("resourcequotas", "list"),
    }


# -- whatever comes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def one_instance(kubernetes: KubernetesHarness) -> Iterator[tuple[KubernetesProvider, str]]:
    provider = kubernetes.provider()
    yield provider, provider.launch(kubernetes.request()).instances[0].ref
    kubernetes.cluster.heal()
    terminate_all(provider)


BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["items", "metadata", "status", "spec", "labels", "annotations", "phase", "name"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@GARBAGE
@given(body=BODIES, code=st.sampled_from([200, 201, 204, 301, 400, 403, 404, 409, 410, 422, 429, 500, 503]))
def test_whatever_the_server_answers_only_a_provider_error_comes_out(
    one_instance: tuple[KubernetesProvider, str], kubernetes: KubernetesHarness, body: bytes, code: int
) -> None:
    provider, ref = one_instance
    for act in (
        provider.instances,
        provider.check,
        lambda: provider.terminate(ref),
        lambda: provider.launch(kubernetes.request()),
    ):
        kubernetes.cluster.fail("*", "*", Answer(code, body if code != 204 else b""), times=1000)
        try:
            act()
        except ProviderError as error:
            assert error.detail
        finally:
            kubernetes.cluster.heal()


# -- the emulator itself ----------------------------------------------------------------------------------------------


def test_the_emulator_refuses_what_a_strict_api_server_refuses(kubernetes: KubernetesHarness) -> None:
    good = launched(kubernetes)
    assert schemas.faults(good) == []
    for path, value, said in SEEDED:
        bad = json.loads(json.dumps(good))
        part = bad
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        assert any(said in fault for fault in schemas.faults(bad)), (path, schemas.faults(bad))


SEEDED: tuple[tuple[tuple[Any, ...], Any, str], ...] = (
    (("spec", "restartPolicie"), "Never", "restartPolicie"),
    (("spec", "containers"), [], "Required value"),
    (("spec", "containers", 0, "env", 0, "value"), 1, "not of type"),
    (("spec", "containers", 0, "command"), "sh x", "not of type"),
    (("spec", "containers", 0, "image"), "", "image: Required"),
    (("spec", "containers", 0, "resources", "limits", "cpu"), "4 cores", "must be a quantity"),
    (("spec", "containers", 0, "resources", "limits", "nvidia.com/gpu"), "500m", "must be an integer"),
    (("spec", "containers", 0, "resources", "requests", "nvidia.com/gpu"), "2", "must be equal"),
    (("spec", "containers", 0, "volumeMounts", 0, "name"), "unheard-of", "Not found"),
    (("spec", "terminationGracePeriodSeconds"), "60s", "not of type"),
    (("spec", "nodeSelector"), {"a b": "c"}, "Invalid value"),
    (("spec", "tolerations"), [{"taint": "x"}], "taint"),
    (("metadata", "labels", "hostler:server"), "x", "Invalid key"),
    (("metadata", "labels", "hostler.dev/server"), "x" * 64, "Invalid value"),
    (("metadata", "labels", "hostler.dev/server"), "a value", "Invalid value"),
    (("metadata", "annotations", "hostler.dev/tags"), {"a": "b"}, "not of type"),
    (("metadata", "name"), "Upper_Case", "metadata.name"),
    (("apiVersion",), "v2", "no kind"),
    (("kind",), "Pot", "no kind"),
)  # fmt: skip


def test_the_emulator_tells_an_unknown_field_as_a_decoding_error_and_a_wrong_value_as_invalid(
    kubernetes: KubernetesHarness,
) -> None:
    provider = kubernetes.provider(template={"hostname": 5})
    with pytest.raises(InvalidConfig, match="422 Invalid"):
        provider.launch(kubernetes.request())
    provider = kubernetes.provider(template={"hostnam": "x"})
    with pytest.raises(InvalidConfig, match=r"400 BadRequest.*strict decoding error"):
        provider.launch(kubernetes.request())


def test_the_emulator_finds_its_own_wrong_answers(kubernetes: KubernetesHarness) -> None:
    launched(kubernetes)
    (pod,) = kubernetes.cluster.all("pods")
    kubernetes.cluster.mark(pod["metadata"]["name"], podIp="10.0.0.1")
    kubernetes.provider().instances()
    assert any("podIp" in fault for fault in kubernetes.cluster.wrong_answers)
    kubernetes.cluster.wrong_answers.clear()
    kubernetes.cluster.remove(pod["metadata"]["name"])


def test_only_the_pod_with_the_label_of_this_server_and_intent_is_ours(kubernetes: KubernetesHarness) -> None:
    pod = launched(kubernetes)
    tags = names.tags_of(pod)
    assert tags[TAG_SERVER] == kubernetes.server_id
    assert tags[TAG_INTENT] == pod["metadata"]["name"]
    assert pod["metadata"]["labels"]["hostler.dev/intent"] == pod["metadata"]["name"]
    assert pod["metadata"]["namespace"] == NAMESPACE

"""Which instances go, which stay, and that pools are kept warm."""

from __future__ import annotations

from hostler.fleet.planning.model import InstanceState, InstanceView, Limits, Plan
from hostler.fleet.planning.planner import plan
from planning.build import NOW, instance, offer, pool, snapshot, task


def tick(*instances: InstanceView, tasks: int = 0, **policy: float) -> Plan:
    state = snapshot(*instances, pools=(pool(**policy),))  # type: ignore[arg-type]
    return plan([task(number) for number in range(tasks)], state, [offer()], Limits(), NOW)


def drained(result: Plan) -> list[str]:
    return [drain.instance_id for drain in result.drains]


def code(result: Plan, instance_id: str) -> str:
    return next(one.code for one in result.decisions if one.subject_id == instance_id)


def test_an_instance_idle_for_longer_than_the_timeout_is_drained() -> None:
    assert drained(tick(instance("h-1", idle_for=601))) == ["h-1"]


def test_an_instance_idle_for_less_is_kept_and_says_until_when() -> None:
    result = tick(instance("h-1", idle_for=500))
    decision = next(one for one in result.decisions if one.subject_id == "h-1")
    assert (drained(result), decision.code, decision.next_at) == ([], "IDLE_WAIT", NOW + 100)


def test_a_busy_instance_is_never_drained_for_idleness() -> None:
    result = tick(instance("h-1", leases=1, idle_for=None))
    assert (drained(result), code(result, "h-1")) == ([], "BUSY")


def test_an_idle_instance_that_a_queued_task_fits_on_is_kept() -> None:
    result = tick(instance("h-1", idle_for=9999), tasks=1)
    assert (drained(result), code(result, "h-1")) == ([], "RESERVED")


def test_the_smallest_number_of_a_pool_is_kept_the_cheapest_ones() -> None:
    idle = [instance("h-1", offer(usd=1.0), idle_for=9999), instance("h-2", offer(usd=5.0), idle_for=9999)]
    result = tick(*idle, least=1)
    assert (drained(result), code(result, "h-1")) == (["h-2"], "KEPT_WARM")


def test_a_warm_window_keeps_and_buys() -> None:
    assert drained(tick(instance("h-1", idle_for=9999), warm=1)) == []
    assert len(tick(instance("h-1", idle_for=9999), warm=3).launches) == 2


def test_warm_capacity_never_passes_the_pools_largest_number() -> None:
    assert len(tick(warm=9, most=2).launches) == 2


def test_machines_bought_for_tasks_count_as_warm_ones() -> None:
    assert len(tick(tasks=1, warm=1).launches) == 1


def test_an_instance_past_its_age_is_drained_though_busy() -> None:
    result = tick(instance("h-1", leases=1, idle_for=None, age_limit_at=NOW - 1))
    assert drained(result) == ["h-1"]


def test_a_drained_instance_is_terminated_once_its_tasks_have_ended() -> None:
    busy = tick(instance("h-1", state=InstanceState.DRAINING, leases=1))
    done = tick(instance("h-1", state=InstanceState.DRAINING))
    assert [one.instance_id for one in busy.terminations] == []
    assert [one.instance_id for one in done.terminations] == ["h-1"]


def test_instances_of_a_pool_that_left_the_configuration_are_drained() -> None:
    assert drained(tick(instance("h-1", in_pool="old"))) == ["h-1"]


def test_booting_instances_are_left_to_boot() -> None:
    result = tick(instance("h-1", state=InstanceState.BOOTING, idle_for=None))
    assert (drained(result), code(result, "h-1")) == ([], "BOOTING")

"""What is bought for queued tasks, and what is not."""

from __future__ import annotations

from hostler.fleet.planning.model import Fallback, InstanceState, Limits, OfferFilter, Plan
from hostler.fleet.planning.planner import plan
from hostler.providers.base import Market
from planning.build import NOW, instance, no_capacity, offer, pool, snapshot, task

NO_LIMITS = Limits()


def bought(result: Plan) -> list[str]:
    return [launch.offer.instance_type for launch in result.launches]


def code(result: Plan, task_id: int) -> str:
    return next(
        one.code for one in result.decisions if (one.subject, one.subject_id) == ("task", str(task_id))
    )


def test_nothing_queued_buys_nothing() -> None:
    assert plan((), snapshot(), [offer()], NO_LIMITS, NOW) == plan((), snapshot(), [], NO_LIMITS, NOW)
    assert not plan((), snapshot(), [offer()], NO_LIMITS, NOW).launches


def test_the_cheapest_offer_that_fits_is_bought() -> None:
    offers = [offer("dear", 3.0, gpu="L4"), offer("cheap", 1.0, gpu="L4"), offer("no-gpu", 0.1)]
    assert bought(plan([task(1, gpu="L4")], snapshot(), offers, NO_LIMITS, NOW)) == ["cheap"]


def test_a_large_machine_is_bought_only_while_there_are_tasks_to_fill_it() -> None:
    offers = [offer("one", 1.0, gpu="L4"), offer("eight", 6.0, gpu="L4", gpus=8, cpus=64)]
    assert bought(plan([task(1, gpu="L4")], snapshot(), offers, NO_LIMITS, NOW)) == ["one"]
    nine = [task(number, gpu="L4") for number in range(1, 10)]
    assert sorted(bought(plan(nine, snapshot(), offers, NO_LIMITS, NOW))) == ["eight", "one"]


def test_tasks_of_several_shapes_share_a_machine() -> None:
    tasks = [task(1, cpus=3), task(2, cpus=1)]
    result = plan(tasks, snapshot(), [offer("four", 0.1, cpus=4)], NO_LIMITS, NOW)
    assert bought(result) == ["four"]
    assert result.launches[0].for_tasks == (1, 2)


def test_any_of_the_gpu_names_will_do() -> None:
    offers = [offer("a10", 2.0, gpu="A10G"), offer("l4", 1.0, gpu="L4"), offer("t4", 0.5, gpu="T4")]
    assert bought(plan([task(1, gpu="A10G|L4")], snapshot(), offers, NO_LIMITS, NOW)) == ["l4"]


def test_fractions_of_a_gpu_share_it() -> None:
    tenths = [task(number, gpu="L4", gpus=0.1, cpus=0.1) for number in range(10)]
    assert bought(plan(tenths, snapshot(), [offer("l4", 1.0, gpu="L4")], NO_LIMITS, NOW)) == ["l4"]


def test_booting_capacity_counts_as_supply() -> None:
    for state in (
        InstanceState.INTENDED,
        InstanceState.LAUNCHING,
        InstanceState.BOOTING,
        InstanceState.READY,
    ):
        result = plan([task(1)], snapshot(instance("h-1", state=state)), [offer()], NO_LIMITS, NOW)
        assert not result.launches, state
        assert code(result, 1) in {"WAITING_BOOT", "ASSIGNED"}


def test_a_draining_instance_is_no_supply() -> None:
    result = plan(
        [task(1)], snapshot(instance("h-1", state=InstanceState.DRAINING)), [offer()], NO_LIMITS, NOW
    )
    assert len(result.launches) == 1


def test_three_tasks_and_two_offers_with_limits_two_and_five_buy_exactly_three() -> None:
    offers = [offer("x", 1.0, provider="p1", cpus=1), offer("y", 2.0, provider="p2", cpus=1)]
    limits = Limits(provider_instances={"p1": 2, "p2": 5})
    pools = (pool(providers=("p1", "p2")),)
    result = plan([task(number) for number in range(3)], snapshot(pools=pools), offers, limits, NOW)
    assert sorted(bought(result)) == ["x", "x", "y"]


def test_every_cap_is_named_when_it_binds() -> None:
    card = offer("card", 1.0, gpu="L4", cpus=1)
    running = instance("h-1", card, leases=1, cpus_free=0)
    for limits, pools, reason in (
        (Limits(instances=1), (pool(),), "LIMIT_INSTANCES"),
        (Limits(gpus=1), (pool(),), "LIMIT_GPUS"),
        (Limits(usd_per_hour=1.5), (pool(),), "LIMIT_USD_PER_HOUR"),
        (Limits(provider_instances={"aws": 1}), (pool(),), "LIMIT_PROVIDER"),
        (Limits(), (pool(most=1),), "LIMIT_POOL"),
    ):
        result = plan([task(1, gpu="L4")], snapshot(running, pools=pools), [card], limits, NOW)
        assert not result.launches
        assert code(result, 1) == "LIMIT"
        decision = next(one for one in result.decisions if one.subject == "task")
        assert [rejection[1] for rejection in decision.rejected] == [reason]


def test_under_a_cap_the_higher_priority_is_served_first() -> None:
    tasks = [task(1, priority=10, waited=900), task(2, priority=90)]
    result = plan(tasks, snapshot(), [offer(cpus=1)], Limits(instances=1), NOW)
    assert [launch.for_tasks for launch in result.launches] == [(2,)]
    assert code(result, 1) == "LIMIT"


def test_a_lower_priority_fills_what_a_higher_one_leaves_free() -> None:
    tasks = [task(1, priority=90, cpus=2), task(2, priority=10, cpus=2)]
    result = plan(tasks, snapshot(), [offer("four", cpus=4)], NO_LIMITS, NOW)
    assert [launch.for_tasks for launch in result.launches] == [(1, 2)]


def test_an_unpriced_offer_is_never_bought() -> None:
    for price in (None, 0.0):
        result = plan([task(1)], snapshot(), [offer("free", price)], NO_LIMITS, NOW)
        assert not result.launches
        assert code(result, 1) == "PRICE_UNKNOWN"


def test_a_sold_out_offer_is_passed_over_and_named() -> None:
    first, second = offer("first", 1.0), offer("second", 2.0)
    health = {first.key: no_capacity()}
    assert bought(plan([task(1)], snapshot(health=health), [first, second], NO_LIMITS, NOW)) == ["second"]
    alone = plan([task(1)], snapshot(health=health), [first], NO_LIMITS, NOW)
    decision = next(one for one in alone.decisions if one.subject == "task")
    assert (decision.code, decision.next_at) == ("NO_SPOT_CAPACITY", NOW + 60)
    assert decision.rejected == ((str(first.key), "NO_CAPACITY", "sold out"),)


def test_an_offer_on_probation_gets_one_launch_at_a_time() -> None:
    only = offer(cpus=1)
    health = {only.key: no_capacity(until=-1)}
    result = plan([task(1), task(2)], snapshot(health=health), [only], NO_LIMITS, NOW)
    assert len(result.launches) == 1
    assert code(result, 2) == "WAITING_PROBE"


def test_the_next_best_offers_are_named_for_fail_over() -> None:
    offers = [offer("third", 3.0), offer("first", 1.0), offer("second", 2.0), offer("tiny", 0.1, cpus=0.5)]
    launch = plan([task(1)], snapshot(), offers, NO_LIMITS, NOW).launches[0]
    assert [one.instance_type for one in launch.alternatives] == ["second", "third"]


def test_spot_first_buys_on_demand_only_after_its_delay_and_within_its_share() -> None:
    spot, on_demand = offer("spot", 1.0, cpus=1), offer("od", 3.0, cpus=1, market=Market.ON_DEMAND)
    pools = (pool(market="spot_first", fallback=Fallback(600, 0.25), most=4),)
    health = {spot.key: no_capacity()}
    state = snapshot(pools=pools, health=health)
    early = plan([task(1, waited=60)], state, [spot, on_demand], NO_LIMITS, NOW)
    assert (bought(early), code(early, 1)) == ([], "NO_SPOT_CAPACITY")
    late = plan([task(1, waited=700), task(2, waited=700)], state, [spot, on_demand], NO_LIMITS, NOW)
    assert bought(late) == ["od"]
    assert code(late, 2) == "LIMIT"


def test_spot_first_prefers_spot_however_long_the_wait() -> None:
    offers = [offer("spot", 1.0), offer("od", 0.5, market=Market.ON_DEMAND)]
    pools = (pool(market="spot_first", fallback=Fallback(600, 1.0)),)
    assert bought(plan([task(1, waited=9000)], snapshot(pools=pools), offers, NO_LIMITS, NOW)) == ["spot"]


def test_a_task_that_wants_on_demand_gets_it_from_a_spot_pool() -> None:
    offers = [offer("spot", 1.0), offer("od", 3.0, market=Market.ON_DEMAND)]
    wish = task(1, market=Market.ON_DEMAND)
    on_spot = snapshot(instance("h-1", offer("spot", 1.0)))
    assert bought(plan([wish], on_spot, offers, NO_LIMITS, NOW)) == ["od"]


def test_spread_alternates_zones_and_types() -> None:
    offers = [offer("t", 1.0, zone=zone, cpus=1) for zone in "abc"]
    pools = (pool(zones=3),)
    result = plan([task(number) for number in range(6)], snapshot(pools=pools), offers, NO_LIMITS, NOW)
    zones = [launch.offer.zone for launch in result.launches]
    assert sorted(zones) == ["a", "a", "b", "b", "c", "c"]


def test_a_filter_lets_only_its_offers_through() -> None:
    pools = (pool(filters=(OfferFilter(("L4", "A10G"), 1, 4),)),)
    offers = [offer("cpu", 0.01), offer("big", 0.02, gpu="L4", gpus=8), offer("ok", 5.0, gpu="L4", gpus=4)]
    assert bought(plan([task(1)], snapshot(pools=pools), offers, NO_LIMITS, NOW)) == ["ok"]


def test_what_can_never_fit_says_so() -> None:
    for impossible in (task(1, cpus=999), task(1, gpu="H100"), task(1, pools=("nowhere",))):
        result = plan([impossible], snapshot(), [offer()], NO_LIMITS, NOW)
        assert not result.launches
        assert code(result, 1) == "NO_MATCHING_OFFER"


def test_a_protected_pool_launches_nothing_and_says_why() -> None:
    result = plan([task(1)], snapshot(pools=(pool(protected="3 boots failed"),)), [offer()], NO_LIMITS, NOW)
    assert not result.launches
    assert code(result, 1) == "POOL_PROTECTED"


def test_a_frozen_fleet_launches_nothing_but_uses_what_it_has() -> None:
    state = snapshot(instance("h-1", cpus_free=1), frozen="importing")
    result = plan([task(1), task(2)], state, [offer()], NO_LIMITS, NOW)
    assert not result.launches
    assert [code(result, 1), code(result, 2)] == ["ASSIGNED", "FROZEN"]


def test_under_a_cap_a_cheap_task_does_not_pass_an_older_one() -> None:
    dear, cheap = offer("dear", 9.0, gpu="L4", cpus=1), offer("cheap", 0.1, cpus=1)
    older, younger = task(7, gpu="L4", waited=60), task(1, waited=10)
    result = plan([younger, older], snapshot(), [dear, cheap], Limits(instances=1), NOW)
    assert [launch.for_tasks for launch in result.launches] == [(7,)]
    assert code(result, 1) == "LIMIT"


def test_an_old_task_that_cannot_be_served_holds_up_nobody() -> None:
    offers = [offer("cheap", 0.1, cpus=1), offer("gpu", None, gpu="L4")]
    tasks = [task(1, gpu="L4", waited=99), task(2), task(3)]
    result = plan(tasks, snapshot(), offers, Limits(instances=1), NOW)
    assert [launch.for_tasks for launch in result.launches] == [(2,)]


def test_small_tasks_fill_the_gaps_that_large_ones_leave() -> None:
    tasks = [task(number, cpus=1) for number in range(4)] + [task(9, cpus=12)]
    result = plan(tasks, snapshot(), [offer("sixteen", 1.0, cpus=16)], NO_LIMITS, NOW)
    assert [sorted(launch.for_tasks) for launch in result.launches] == [[0, 1, 2, 3, 9]]


def test_before_the_catalogue_is_read_that_is_the_reason() -> None:
    result = plan([task(1)], snapshot(), [], NO_LIMITS, NOW)
    assert code(result, 1) == "NO_OFFERS_YET"

"""What holds for every plan, whatever it starts from."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hostler.fleet.planning.explain import CODES
from hostler.fleet.planning.lifecycle import LEGAL_INSTANCE, LEGAL_TASK, LIVE_INSTANCE, TERMINAL_TASK
from hostler.fleet.planning.model import InstanceState, Limits, Shape
from hostler.fleet.planning.planner import plan
from hostler.fleet.planning.shapes import Room
from hostler.providers.base import Market
from hypothesis import given, settings
from hypothesis import strategies as st
from planning.build import NOW, instance, offer, pool, snapshot, task

OFFERS = st.lists(
    st.builds(
        offer,
        st.sampled_from(["s", "m", "l"]),
        st.sampled_from([None, 0.0, 0.1, 0.5, 2.0]),
        zone=st.sampled_from("ab"),
        market=st.sampled_from(Market),
        cpus=st.sampled_from([1, 4, 16]),
        memory_gib=st.sampled_from([4, 64]),
        gpu=st.sampled_from(["", "L4", "A10G"]),
        gpus=st.sampled_from([1, 4]),
    ),
    max_size=6,
    unique_by=lambda one: one.key,
)
TASKS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        gpu=st.sampled_from(["", "L4", "L4|A10G", "H100"]),
        gpus=st.sampled_from([0.5, 1, 2]),
        cpus=st.sampled_from([0.5, 1, 3]),
        memory_gib=st.sampled_from([0, 2, 32]),
        priority=st.sampled_from([10, 50]),
        waited=st.sampled_from([0, 100, 5000]),
        market=st.sampled_from([None, Market.SPOT, Market.ON_DEMAND]),
    ),
    max_size=12,
)
STATES = st.lists(st.sampled_from(InstanceState), max_size=5)
LIMITS = st.builds(
    Limits,
    st.sampled_from([None, 0, 3]),
    st.sampled_from([None, 0.0, 2.0]),
    st.sampled_from([None, 0.0, 1.0]),
)


@settings(max_examples=200, deadline=None)
@given(OFFERS, TASKS, STATES, LIMITS, st.integers(0, 3))
def test_every_plan_keeps_the_caps_fits_its_tasks_and_explains_itself(offers, tasks, states, limits, warm):  # type: ignore[no-untyped-def]
    demand = [task(number, **one) for number, one in enumerate(tasks)]
    live = [instance(f"h-{number}", state=state) for number, state in enumerate(states)]
    state = snapshot(*live, pools=(pool(warm=warm, most=6),))
    result = plan(demand, state, offers, limits, NOW)

    assert result == plan(tuple(reversed(demand)), state, tuple(reversed(offers)), limits, NOW)
    explained = Counter((one.subject, one.subject_id) for one in result.decisions)
    for one in demand:
        assert explained["task", str(one.task_id)] == 1
    for machine in live:
        if machine.state is not InstanceState.TERMINATED:
            assert explained["instance", machine.instance_id] == 1
    assert {one.code for one in result.decisions} <= set(CODES)

    counted = [one for one in live if one.state in LIVE_INSTANCE]
    launches = result.launches
    assert all(launch.offer.usd_per_hour for launch in launches)
    if launches:
        assert len(counted) + len(launches) <= min(6, 6 if limits.instances is None else limits.instances)
    if limits.usd_per_hour is not None and launches:
        spent = sum(one.usd_per_hour for one in counted) + sum(
            one.offer.usd_per_hour or 0 for one in launches
        )
        assert spent <= limits.usd_per_hour + 1e-6
    if limits.gpus is not None:
        assert sum(one.offer.gpu.count for one in launches if one.offer.gpu) <= limits.gpus
    by_id = {one.task_id: one for one in demand}
    for launch in launches:
        room = Room.of_offer(launch.offer, 0)
        assert all(room.put(by_id[task_id].shape) for task_id in launch.for_tasks)
    assert (
        max(Counter(task_id for launch in launches for task_id in launch.for_tasks).values(), default=0) <= 1
    )


@given(st.floats(0.1, 8), st.integers(0, 8), st.sampled_from([0.25, 1, 2]))
def test_times_agrees_with_putting_one_after_another(cpus: float, memory: int, gpus: float) -> None:
    wish = task(1, gpu="L4", gpus=gpus, cpus=cpus, memory_gib=memory).shape
    room = Room.of_offer(offer(cpus=16, memory_gib=64, gpu="L4", gpus=4), 0)
    times = room.times(wish)
    count = 0
    while room.put(wish):
        count += 1
    assert count == times


def test_a_shape_that_asks_for_nothing_still_takes_a_place() -> None:
    assert Room(4, 0, 0, "", 0).times(Shape(cpus=0)) == 4


def test_instances_and_tasks_only_move_forward() -> None:
    for table in (LEGAL_INSTANCE, LEGAL_TASK):
        assert all(state not in after for state, after in table.items())
    assert not LEGAL_INSTANCE[InstanceState.TERMINATED]
    assert all({one.value for one in LEGAL_TASK[state]} == {"queued"} for state in TERMINAL_TASK)

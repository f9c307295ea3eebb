"""Rows of the control plane: compare-and-set, what errors teach, decisions, the leader."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from fakes.cloud import make_offer
from fakes.fleet_world import FleetWorld
from hostler.fleet.planning.model import Decision, InstanceState
from hostler.fleet.store import decisions, health, instances, leader, offers
from hostler.fleet.store.ids import is_instance_id, new_instance_id
from hostler.providers.base import (
    Gpu,
    InsufficientCapacity,
    InvalidConfig,
    Market,
    Offer,
    OfferKey,
    ProviderError,
    QuotaExceeded,
    Scope,
)
from sqlalchemy import Connection

ID = "h-aaaaaaaaaaaa"
KEY = OfferKey("sky", "r1", "r1-a", "small", "spot")


def booting(world: FleetWorld) -> None:
    def work(conn: Connection) -> None:
        instances.insert_intent(
            conn,
            instance_id=ID,
            workspace="default",
            pool="main",
            offer=make_offer(),
            usd_per_hour=1.0,
            request={},
            spec_hash="",
            epoch=1,
            now=1.0,
        )
        instances.advance(conn, ID, InstanceState.LAUNCHING, 2.0)
        instances.advance(conn, ID, InstanceState.BOOTING, 3.0, ref="i-1")

    world.db.write(work)


def test_ids_are_valid_tokens_and_names_in_every_cloud() -> None:
    rng = random.Random(1)
    made = {new_instance_id(rng) for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(is_instance_id(one) and len(one) <= 63 and one[0].isalpha() for one in made)


def test_of_two_who_move_an_instance_one_wins(world: FleetWorld) -> None:
    booting(world)
    expect = (InstanceState.BOOTING,)
    first = world.db.write(lambda conn: instances.advance(conn, ID, InstanceState.READY, 4.0, expect=expect))
    second = world.db.write(
        lambda conn: instances.advance(conn, ID, InstanceState.TERMINATING, 4.0, expect=expect)
    )
    assert (first, second) == (True, False)
    assert world.row(ID)["state"] == "ready"


def test_a_state_never_goes_back(world: FleetWorld) -> None:
    booting(world)
    world.db.write(lambda conn: instances.advance(conn, ID, InstanceState.TERMINATING, 4.0))
    moved = [
        world.db.write(lambda conn, to=to: instances.advance(conn, ID, to, 5.0))  # type: ignore[misc]
        for to in (InstanceState.BOOTING, InstanceState.READY, InstanceState.DRAINING, InstanceState.LOST)
    ]
    assert moved == [False] * 4


def test_every_move_is_an_event_in_order(world: FleetWorld) -> None:
    booting(world)
    kinds = [world.events(f"instance.{state}")[0]["id"] for state in ("intended", "launching", "booting")]
    assert kinds == sorted(kinds)


def test_a_time_stamp_says_when_a_state_was_reached_first(world: FleetWorld) -> None:
    booting(world)
    world.db.write(lambda conn: instances.advance(conn, ID, InstanceState.READY, 9.0))
    row = world.row(ID)
    assert (row["launched_at"], row["joined_at"], row["version"]) == (3.0, 9.0, 4)


def test_the_state_can_only_be_changed_by_advance(world: FleetWorld) -> None:
    booting(world)
    with pytest.raises(ValueError, match="advance"):
        world.db.write(lambda conn: instances.note(conn, ID, state="ready"))


def test_an_offer_comes_back_from_the_store_as_it_went_in(world: FleetWorld) -> None:
    sold = [
        Offer("sky", "r1", "r1-a", "g5.xlarge", Market.SPOT, 4.0, 2**34, Gpu("A10G", 1, 24 * 2**30), 0.4),
        Offer("sky", "r1", "", "c5", Market.ON_DEMAND, 2.0, 2**32, None, None),
    ]
    world.db.write(lambda conn: offers.save(conn, "sky", sold, 5.0))
    with world.db.read() as conn:
        assert sorted(offers.read(conn), key=lambda one: one.key) == sorted(sold, key=lambda one: one.key)
        assert offers.refreshed_at(conn) == {"sky": 5.0}


@pytest.mark.parametrize(
    ("scope", "error", "other", "held"),
    [
        (Scope.OFFER, InsufficientCapacity, ("r1", "r1-a", "small", "spot"), True),
        (Scope.OFFER, InsufficientCapacity, ("r1", "r1-b", "small", "spot"), False),
        (Scope.ZONE, InsufficientCapacity, ("r1", "r1-a", "large", "spot"), True),
        (Scope.ZONE, InsufficientCapacity, ("r1", "r1-a", "large", "on_demand"), False),
        (Scope.ZONE, ProviderError, ("r1", "r1-a", "large", "on_demand"), True),
        (Scope.INSTANCE_TYPE, InsufficientCapacity, ("r1", "r1-b", "small", "spot"), True),
        (Scope.INSTANCE_TYPE, InsufficientCapacity, ("r1", "r1-b", "large", "spot"), False),
        (Scope.MARKET, QuotaExceeded, ("r1", "r1-c", "large", "spot"), True),
        (Scope.MARKET, QuotaExceeded, ("r1", "r1-c", "large", "on_demand"), False),
        (Scope.REGION, QuotaExceeded, ("r1", "r1-c", "large", "on_demand"), True),
        (Scope.REGION, QuotaExceeded, ("r2", "r2-a", "small", "spot"), False),
        (Scope.PROVIDER, ProviderError, ("r2", "r2-a", "large", "on_demand"), True),
    ],
)
def test_an_error_holds_back_its_scope_and_no_more(
    world: FleetWorld, scope: Scope, error: type[ProviderError], other: tuple[str, ...], held: bool
) -> None:
    key = OfferKey("sky", *other)
    world.db.write(lambda conn: health.failed(conn, "default", KEY, error("no", scope=scope), 100.0))
    with world.db.read() as conn:
        found = health.of_offers(conn, [key])
    assert (found[key].blocked_until > 100.0 if key in found else False) is held


def test_the_probe_interval_doubles_from_a_minute_to_half_an_hour(world: FleetWorld) -> None:
    waits = []
    for _ in range(8):
        taught = world.db.write(
            lambda conn: health.failed(conn, "default", KEY, InsufficientCapacity("no"), 0.0)
        )
        waits.append(taught.blocked_until)
    assert waits == [60, 120, 240, 480, 960, 1_800, 1_800, 1_800]


def test_an_error_that_bounds_its_wait_is_asked_again_in_time_however_often_it_came(
    world: FleetWorld,
) -> None:
    in_use = InsufficientCapacity("in use", retry_within_seconds=30.0)
    waits = [
        world.db.write(lambda conn: health.failed(conn, "default", KEY, in_use, 0.0)).blocked_until
        for _ in range(5)
    ]
    assert waits == [30.0] * 5


def test_a_success_ends_the_row_of_failures(world: FleetWorld) -> None:
    def fail(conn: Connection) -> float:
        return health.failed(conn, "default", KEY, InsufficientCapacity("no"), 0.0).blocked_until

    world.db.write(fail)
    world.db.write(lambda conn: health.succeeded(conn, KEY))
    assert world.db.write(fail) == 60


def test_enough_successes_and_an_old_failure_is_forgotten(world: FleetWorld) -> None:
    world.db.write(lambda conn: health.failed(conn, "default", KEY, InsufficientCapacity("no"), 0.0))
    for _ in range(health.MAX_BUDGET):
        world.db.write(lambda conn: health.succeeded(conn, KEY))
    with world.db.read() as conn:
        assert health.of_offers(conn, [KEY]) == {}


def test_what_only_a_person_can_mend_is_held_back_long_and_with_a_hint(world: FleetWorld) -> None:
    taught = world.db.write(
        lambda conn: health.failed(conn, "default", KEY, InvalidConfig("no image", scope=Scope.REGION), 0.0)
    )
    assert taught.blocked_until >= 3_600
    assert "fleet.yaml" in taught.hint


def test_re_arming_forgets_what_was_mended_at_the_pools_providers_only(world: FleetWorld) -> None:
    elsewhere = OfferKey("rain", "r1", "r1-a", "small", "spot")
    for key in (KEY, elsewhere):
        world.db.write(lambda conn, key=key: health.failed(conn, "default", key, InvalidConfig("no"), 0.0))  # type: ignore[misc]
    world.db.write(lambda conn: health.clear(conn, providers=["sky"], codes=health.MENDED_BY_PEOPLE))
    with world.db.read() as conn:
        assert set(health.of_offers(conn, [KEY, elsewhere])) == {elsewhere}


def decide(code: str, message: str = "") -> Decision:
    return Decision("task", "81", code, message, rejected=(("sky/a", "NO_CAPACITY", "none"),))


@pytest.fixture
def record(world: FleetWorld) -> Callable[[Decision, float], int]:
    return lambda decision, now: world.db.write(
        lambda conn: decisions.record(conn, "default", [decision], now)
    )


def test_a_decision_is_a_row_a_change_of_mind(
    world: FleetWorld, record: Callable[[Decision, float], int]
) -> None:
    fresh = [record(decide(code), at) for at, code in enumerate(["A", "A", "B", "A", "A", "A"])]
    assert fresh == [1, 0, 1, 1, 0, 0]
    with world.db.read() as conn:
        rows = decisions.history(conn, "default", "task", "81")
    assert [(row["code"], row["times"], row["first_at"], row["last_at"]) for row in rows] == [
        ("A", 3, 3.0, 5.0),
        ("B", 1, 2.0, 2.0),
        ("A", 2, 0.0, 1.0),
    ]


def test_a_decision_that_stays_shows_its_newest_words(
    world: FleetWorld, record: Callable[[Decision, float], int]
) -> None:
    record(decide("A", "3 of 8"), 1.0)
    record(decide("A", "8 of 8"), 2.0)
    assert world.why("task", 81)["message"] == "8 of 8"


def test_many_decisions_of_one_tick_are_stored_and_counted_up(world: FleetWorld) -> None:
    many = [Decision("task", str(n), "LIMIT", "full") for n in range(2_000)]
    assert world.db.write(lambda conn: decisions.record(conn, "default", many, 1.0)) == 2_000
    assert world.db.write(lambda conn: decisions.record(conn, "default", many, 2.0)) == 0
    assert world.why("task", 1_999)["times"] == 2


def test_old_decisions_are_pruned_and_standing_ones_kept(
    world: FleetWorld, record: Callable[[Decision, float], int]
) -> None:
    record(decide("A"), 1.0)
    record(decide("B"), 2.0)
    record(decide("B"), 9.0)
    assert world.db.write(lambda conn: decisions.prune(conn, 5.0)) == 1
    assert world.why("task", 81)["code"] == "B"


def test_each_start_leads_with_a_higher_epoch_and_shuts_out_the_one_before(world: FleetWorld) -> None:
    first = world.context.epoch
    second = world.start().epoch
    assert second == first + 1
    with pytest.raises(leader.StaleEpoch, match=f"epoch {first}"):
        world.db.write(lambda conn: leader.guard(conn, first))
    world.db.write(lambda conn: leader.guard(conn, second))

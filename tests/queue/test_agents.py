from __future__ import annotations

import pytest
from fakes.queue_world import TTL, World
from hostler.agent_bootstrap.wire import JoinRequest
from hostler.fleet.observer import agents
from hostler.fleet.observer.agents import CREDENTIAL_SECONDS, REJOIN_SECONDS, JoinRefused, Welcome
from hostler.fleet.planning.model import InstanceState
from hostler.fleet.store.instances import note
from hostler.tracking.server.access import tokens
from hostler.tracking.server.database.schema import events
from sqlalchemy import select

TOKEN = "join-me"
REQUEST: JoinRequest = {
    "inventory": {
        "cpus": 8,
        "memory_bytes": 32,
        "disk_bytes": 64,
        "gpus": [],
        "python": "3.11",
        "hostname": "box",
        "agent_version": "0.1.0",
    },
    "identity": {},
}


def boot(world: World, state: str = "booting") -> None:
    world.instance(state=state, join_hash=agents.join_hash(TOKEN), join_expires_at=world.now + 900)


def join(world: World, token: str = TOKEN) -> Welcome:
    return world.do(
        lambda conn: agents.join(conn, token=token, request=REQUEST, fleet=world.fleet, now=world.now)
    )


@pytest.mark.parametrize("state", ["intended", "launching", "booting"])
def test_an_agent_that_joins_makes_its_instance_ready(world: World, state: str) -> None:
    boot(world, state)
    welcome = join(world)

    box = world.box()
    assert world.box_state() is InstanceState.READY
    assert (box["joined_at"], box["ready_at"], box["contact_at"], box["idle_since"]) == (world.now,) * 4
    assert box["inventory"]["cpus"] == 8
    assert (welcome.joined["instance_id"], welcome.joined["lease_ttl_seconds"]) == ("h-one", TTL)
    task = world.submit()
    assert world.take().task_id == task


def test_a_join_whose_reply_was_lost_is_answered_again_with_another_credential(world: World) -> None:
    boot(world)
    lost = join(world).joined["credential"]
    world.later(REJOIN_SECONDS)
    heard = join(world).joined["credential"]

    def kinds(secret: str) -> object:
        return world.do(lambda conn: tokens.authenticate(conn, secret, world.now))

    assert kinds(lost) is None
    assert kinds(heard) is not None
    assert world.box_state() is InstanceState.READY
    told = world.do(lambda conn: [one.kind for one in conn.execute(select(events.c.kind))])
    assert told.count("instance.rejoined") == 1


def test_a_join_is_answered_again_for_a_short_while_only(world: World) -> None:
    boot(world)
    join(world)
    world.later(REJOIN_SECONDS + 1)
    with pytest.raises(JoinRefused) as caught:
        join(world)
    assert caught.value.code == "TOKEN_USED"


def test_a_drained_machine_does_not_join_again(world: World) -> None:
    boot(world)
    join(world)
    world.do(lambda conn: agents.notice(conn, instance_id="h-one", source="x", seconds_left=9, now=world.now))
    with pytest.raises(JoinRefused):
        join(world)


def test_a_join_is_refused_when_the_row_is_no_longer_the_one_that_was_proved(world: World) -> None:
    boot(world)
    seen = world.do(lambda conn: agents.expected(conn, TOKEN, world.now))
    world.do(lambda conn: note(conn, "h-one", ref="another"))
    with pytest.raises(JoinRefused) as caught:
        world.do(
            lambda conn: agents.join(
                conn, token=TOKEN, request=REQUEST, fleet=world.fleet, now=world.now, proved=seen
            )
        )
    assert caught.value.code == "NOT_EXPECTED"


def test_the_credential_reaches_this_instance_for_an_hour(world: World) -> None:
    boot(world)
    credential = join(world).joined["credential"]

    principal = world.do(lambda conn: tokens.authenticate(conn, credential, world.now))
    assert principal is not None
    assert (principal.kind, principal.instance_id) == ("agent", "h-one")
    world.later(CREDENTIAL_SECONDS)
    assert world.do(lambda conn: tokens.authenticate(conn, credential, world.now)) is None


def test_a_join_token_is_good_once(world: World) -> None:
    boot(world)
    join(world)
    world.later(1)
    world.do(lambda conn: agents.contact(conn, "h-one", world.now))

    with pytest.raises(JoinRefused) as caught:
        join(world)
    assert caught.value.code == "TOKEN_USED"


def test_an_unknown_join_token_is_refused(world: World) -> None:
    boot(world)

    with pytest.raises(JoinRefused) as caught:
        join(world, "guess")
    assert caught.value.code == "UNKNOWN_TOKEN"
    assert world.box_state() is InstanceState.BOOTING


def test_a_join_token_that_is_too_old_is_refused(world: World) -> None:
    boot(world)
    world.later(900)

    with pytest.raises(JoinRefused) as caught:
        join(world)
    assert caught.value.code == "TOKEN_EXPIRED"


@pytest.mark.parametrize("state", ["draining", "terminating", "terminated", "lost"])
def test_an_instance_that_was_given_up_can_not_join(world: World, state: str) -> None:
    boot(world, state)

    with pytest.raises(JoinRefused) as caught:
        join(world)
    assert caught.value.code == "NOT_EXPECTED"
    assert world.box()["join_burned_at"] is None


def test_looking_up_a_join_token_does_not_burn_it(world: World) -> None:
    boot(world)

    assert world.do(lambda conn: agents.find_joining(conn, TOKEN, world.now)) == "h-one"
    assert join(world).joined["instance_id"] == "h-one"


def test_a_credential_is_renewed_past_half_its_life(world: World) -> None:
    boot(world)
    workspace = join(world).workspace

    def renew(expires_at: float) -> str | None:
        return world.do(
            lambda conn: agents.renew_credential(
                conn, workspace=workspace, instance_id="h-one", expires_at=expires_at, now=world.now
            )
        )

    assert renew(world.now + CREDENTIAL_SECONDS / 2 + 1) is None
    fresh = renew(world.now + CREDENTIAL_SECONDS / 2)
    assert fresh is not None
    assert world.do(lambda conn: tokens.authenticate(conn, fresh, world.now)) is not None


def test_contact_is_noted_of_an_instance_that_still_exists(world: World) -> None:
    world.instance()
    world.later(5)

    assert world.do(lambda conn: agents.contact(conn, "h-one", world.now))
    assert world.box()["contact_at"] == world.now
    assert not world.do(lambda conn: agents.contact(conn, "h-two", world.now))


def test_an_agent_that_leaves_is_given_nothing_more(world: World) -> None:
    world.instance()
    world.submit()

    assert world.do(lambda conn: agents.leave(conn, "h-one", world.now))
    assert not world.do(lambda conn: agents.leave(conn, "h-one", world.now))
    assert world.box_state() is InstanceState.DRAINING
    assert world.claim() is None


def test_a_failed_bootstrap_ends_the_instance_and_voids_its_token(world: World) -> None:
    boot(world)
    told = world.do(
        lambda conn: agents.bootstrap_failed(
            conn, instance_id="h-one", stage="python", message="no python3 found", now=world.now
        )
    )

    box = world.box()
    assert told
    assert (box["state"], box["reason"], box["message"]) == (
        "terminating",
        "BOOTSTRAP_FAILED",
        "python: no python3 found",
    )
    with pytest.raises(JoinRefused):
        join(world)


def test_a_notice_of_an_instance_that_is_over_is_no_news(world: World) -> None:
    world.instance(state="terminated")

    told = world.do(
        lambda conn: agents.notice(conn, instance_id="h-one", source="gcp", seconds_left=30, now=world.now)
    )
    assert not told

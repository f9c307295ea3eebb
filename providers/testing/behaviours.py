"""What every provider must do: tests for pytest that ask for a fixture `harness`, a `Harness`.

An adapter's author imports them into a test module of their own (docs/providers/third-party.md).
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..base import (
    TAG_INTENT,
    TAG_POOL,
    TAG_SERVER,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    Provider,
    ProviderError,
)
from .harness import Harness, eventually, running, state_of


def test_it_is_a_provider(harness: Harness) -> None:
    assert isinstance(harness.provider(), Provider)


def test_a_launched_instance_is_listed_with_all_its_tags(harness: Harness) -> None:
    provider, request = harness.provider(), harness.request()
    (made,) = provider.launch(request).instances
    (listed,) = provider.instances()
    assert listed.ref == made.ref
    assert listed.server == harness.server_id
    assert listed.intent == request.token
    assert {key: listed.tags[key] for key in (TAG_SERVER, TAG_POOL, TAG_INTENT)} == dict(request.tags)
    assert (listed.provider, listed.instance_type, listed.market, listed.zone) == (
        provider.name,
        request.offer.instance_type,
        request.offer.market.value,
        request.offer.zone,
    )
    assert listed.launched_at is not None
    assert listed.state in (CloudState.PENDING, CloudState.RUNNING)


def test_the_same_token_twice_gives_the_same_instance(harness: Harness) -> None:
    provider, request = harness.provider(), harness.request()
    first, second = provider.launch(request), provider.launch(request)
    assert [one.ref for one in first.instances] == [one.ref for one in second.instances]
    assert len(running(provider)) == 1


def test_a_token_replayed_after_a_restart_gives_the_same_instance(harness: Harness) -> None:
    request = harness.request()
    (first,) = harness.provider().launch(request).instances
    (second,) = harness.provider().launch(request).instances
    assert first.ref == second.ref
    assert len(running(harness.provider())) == 1


def test_a_lost_reply_and_a_restart_and_a_replay_make_exactly_one_instance(harness: Harness) -> None:
    request = harness.request()
    harness.launch_and_lose_the_reply(request)
    (lost,) = running(harness.provider())
    (made,) = harness.provider().launch(request).instances
    assert made.ref == lost.ref
    assert lost.intent == request.token
    assert len(running(harness.provider())) == 1


def test_eight_threads_with_one_token_make_one_instance(harness: Harness) -> None:
    provider, request = harness.provider(), harness.request()
    together = threading.Barrier(8)

    def launch() -> str:
        together.wait()
        return provider.launch(request).instances[0].ref

    with ThreadPoolExecutor(8) as threads:
        refs = [one.result() for one in [threads.submit(launch) for _ in range(8)]]
    assert len(set(refs)) == 1
    assert len(running(provider)) == 1


def test_tokens_of_their_own_make_instances_of_their_own(harness: Harness) -> None:
    provider = harness.provider()
    refs = {provider.launch(harness.request()).instances[0].ref for _ in range(3)}
    assert {one.ref for one in running(provider)} == refs
    assert len(refs) == 3


def test_a_count_of_three_makes_three_and_again_the_same_three(harness: Harness) -> None:
    """Where an offer can't give three at once: as many as it can, the lack told beside them, and again the same."""
    expected = min(3, harness.offer_capacity or 3)
    provider, request = harness.provider(), harness.request(count=3)
    answer = provider.launch(request)
    first = {one.ref for one in answer.instances}
    again = {one.ref for one in harness.provider().launch(request).instances}
    assert len(first) == expected
    assert first == again
    assert {one.intent for one in running(provider)} == {request.token}
    assert {type(error) for error in answer.errors} == ({InsufficientCapacity} if expected < 3 else set())


def test_another_servers_instances_are_neither_listed_nor_terminated(harness: Harness) -> None:
    ours, theirs = harness.provider(), harness.provider("another-server")
    (their,) = theirs.launch(harness.request(server_id="another-server")).instances
    try:
        assert ours.instances() == ()
        with pytest.raises(InstanceNotFound):
            ours.terminate(their.ref)
        assert state_of(theirs, their.ref) in (CloudState.PENDING, CloudState.RUNNING)
    finally:
        theirs.terminate(their.ref)
        eventually(lambda: not running(theirs), "the other server's instance terminated")


def test_terminate_ends_it_and_may_be_said_again(harness: Harness) -> None:
    provider = harness.provider()
    (made,) = provider.launch(harness.request()).instances
    provider.terminate(made.ref)
    provider.terminate(made.ref)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "terminated")
    provider.terminate(made.ref)
    assert state_of(provider, made.ref) is CloudState.TERMINATED
    assert harness.left() == []


def test_a_restarted_daemon_can_terminate_what_the_old_one_launched(harness: Harness) -> None:
    (made,) = harness.provider().launch(harness.request()).instances
    harness.provider().terminate(made.ref)
    eventually(lambda: state_of(harness.provider(), made.ref) is CloudState.TERMINATED, "terminated")


def test_the_token_of_an_ended_instance_starts_no_second_one(harness: Harness) -> None:
    provider, request = harness.provider(), harness.request()
    (made,) = provider.launch(request).instances
    provider.terminate(made.ref)
    eventually(lambda: state_of(provider, made.ref) is CloudState.TERMINATED, "terminated")
    assert [one.ref for one in provider.launch(request).instances] == [made.ref]
    assert running(provider) == []


@pytest.mark.parametrize("ref", ["", "x", "../../etc", "us-east-1/", "nowhere-1/i-1", "local-../x", "local-"])
def test_a_ref_that_makes_no_sense_is_not_found(harness: Harness, ref: str) -> None:
    with pytest.raises(InstanceNotFound):
        harness.provider().terminate(ref)


def test_an_unknown_ref_is_not_found(harness: Harness) -> None:
    with pytest.raises(InstanceNotFound):
        harness.provider().terminate(harness.missing_ref())


def test_offers_have_a_price_or_none_but_never_zero(harness: Harness) -> None:
    offers = harness.provider().offers()
    assert offers
    for offer in offers:
        assert offer.usd_per_hour is None or (offer.usd_per_hour > 0 and math.isfinite(offer.usd_per_hour))
        assert offer.cpus > 0
        assert offer.memory_bytes > 0
    assert len({offer.key for offer in offers}) == len(offers)


@pytest.mark.slow
def test_every_fault_comes_out_as_its_own_error_with_its_scope(harness: Harness) -> None:
    shared = harness.provider()
    for case in harness.fault_cases():
        provider = harness.provider() if case.fresh else shared
        case.arm()
        with pytest.raises(ProviderError) as caught:
            case.act(provider)
        harness.heal()
        found = caught.value
        said = (type(found), found.scope, found.maybe_created)
        assert said == (case.error, case.scope, case.maybe_created), (case.name, found.detail)
        assert found.detail, case.name


def test_the_doctor_finds_a_working_account_well(harness: Harness) -> None:
    checks = harness.provider().check()
    assert checks
    assert [check for check in checks if not check.ok] == []
    assert running(harness.provider()) == []


def test_close_leaves_instances_as_they_are(harness: Harness) -> None:
    provider = harness.provider()
    (made,) = provider.launch(harness.request()).instances
    provider.close()
    assert state_of(harness.provider(), made.ref) in (CloudState.PENDING, CloudState.RUNNING)

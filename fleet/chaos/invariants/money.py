"""Invariants about what is bought and ended: 1, 2, 4 to 9, 15."""

from __future__ import annotations

from collections.abc import Iterator

from ..ledger import Machine
from .books import GRACE_SECONDS, LIVE, Books, fits, total

EPSILON = 1e-6


def invariant_01_instances_at_most_intents(books: Books, machine: Machine) -> Iterator[str]:
    """A launch whose reply was lost and that is sent again buys one instance: never two for one intent."""
    bought = books.ledger.by_token[machine.token]
    if len(bought) > 1:
        refs = ", ".join(one.ref for one in bought)
        yield f"intent {machine.token} has {len(bought)} instances: {refs}"


def invariant_02_every_instance_matches_an_intent_committed_earlier(
    books: Books, machine: Machine
) -> Iterator[str]:
    """An instance that begins has its intent in the store already, whatever crashes next."""
    row = books.one("select state, provider from instances where id = ?", machine.token)
    if row is None:
        yield f"{machine.ref} was created for {machine.token or '(no intent)'}, which no committed row knows"
    elif row["provider"] != machine.cloud:
        yield f"{machine.ref} of {machine.cloud} was created for an intent of {row['provider']}"


def invariant_02_what_an_intent_stands_for_is_not_reaped(books: Books, ref: str) -> Iterator[str]:
    """Terminate is for instances whose end was decided, or that no open row stands for: never for the others."""
    machine = books.ledger.machines.get(ref)
    if machine is None or machine.server != books.server_id:
        return
    row = books.one("select state from instances where id = ?", machine.token)
    if row is not None and row["state"] not in ("terminating", "terminated"):
        yield f"terminate was called for {ref}, and {machine.token} is {row['state']}"


def invariant_04_worst_case_is_within_the_caps_before_launch(books: Books, machine: Machine) -> Iterator[str]:
    """Instances, GPUs and $/h of all that lives and of all intents stay within every cap, before each launch."""
    limits = books.fleet.limits
    rows = books.rows(f"select id, pool, provider, usd_per_hour from instances where state in {LIVE}")
    alive = books.ledger.ours_alive(books.server_id)
    # An instance without a live row counts too: it costs the same.
    unbooked = [one for one in alive if one.token not in {row["id"] for row in rows}]
    dollars = total(row["usd_per_hour"] for row in rows) + total(
        one.offer.usd_per_hour or 0 for one in unbooked
    )
    number = len(rows) + len(unbooked)
    if machine.offer.usd_per_hour is None:
        yield f"{machine.ref} was bought without a price"
    if limits.usd_per_hour is not None and dollars > limits.usd_per_hour + EPSILON:
        yield f"${dollars:.3f}/h at the launch of {machine.ref}, allowed are ${limits.usd_per_hour}/h"
    if limits.instances is not None and number > limits.instances:
        yield f"{number} instances at the launch of {machine.ref}, allowed are {limits.instances}"
    for name, pool in books.fleet.pools.items():
        held = sum(row["pool"] == name for row in rows) + sum(one.pool == name for one in unbooked)
        if pool.instances.max is not None and held > pool.instances.max:
            yield f"{held} instances in pool {name} at the launch of {machine.ref}, at most {pool.instances.max}"
    for name, provider in books.fleet.providers.items():
        cap = getattr(provider, "max_instances", None)
        held = sum(row["provider"] == name for row in rows) + sum(one.cloud == name for one in unbooked)
        if cap is not None and held > cap:
            yield f"{held} instances at {name} at the launch of {machine.ref}, at most {cap}"


def invariant_05_terminal_only_when_the_cloud_says_so(books: Books) -> Iterator[str]:
    """A row is terminated only when its instance is: nothing that is billed is forgotten."""
    since, books.looked_at_end = books.looked_at_end - 1.0, books.now
    query = "select id, reason from instances where state = 'terminated' and terminated_at >= ?"
    for row in books.rows(query, since):
        if row["id"] in books.ended_rows:
            continue
        books.ended_rows.add(row["id"])
        for machine in books.ledger.by_token.get(row["id"], ()):
            if machine.alive:
                yield f"{row['id']} is terminated ({row['reason']}), but {machine.ref} is {machine.state} and billed"


def invariant_06_absence_is_not_gone_within_the_grace(books: Books) -> Iterator[str]:
    """What no listing shows yet is not given up: only after the grace, and never while its agent speaks."""
    now, ttl = books.now, books.fleet.daemon.lease_ttl
    for row in books.rows("select id from instances where state = 'lost'"):
        if row["id"] in books.lost_rows:
            continue
        books.lost_rows.add(row["id"])
        for machine in books.ledger.by_token.get(row["id"], ()):
            if not machine.alive:
                continue
            if now - machine.created_at < GRACE_SECONDS:
                yield f"{row['id']} is given up as lost {now - machine.created_at:.0f} s after its launch"
            if machine.heard_at is not None and now - machine.heard_at < ttl / 4:
                yield f"{row['id']} is given up as lost {now - machine.heard_at:.0f} s after its agent spoke"


def invariant_07_other_servers_instances_are_never_touched(books: Books, ref: str) -> Iterator[str]:
    """What does not bear our server's id is not ours to end."""
    machine = books.ledger.machines.get(ref)
    if machine is not None and machine.server != books.server_id:
        yield f"terminate was called for {ref} of {machine.server or 'nobody'}"


def invariant_08_nothing_comes_to_life_after_its_end(books: Books, machine: Machine) -> Iterator[str]:
    """No request outlives its instance: none begins for an intent that is over."""
    row = books.one("select state, reason from instances where id = ?", machine.token)
    if row is not None and row["state"] == "terminated":
        yield f"{machine.ref} begins for {machine.token}, which is terminated ({row['reason']})"


def invariant_09_returned_ids_are_recorded(books: Books) -> Iterator[str]:
    """Ids that came back are in the store when the tick ends, whatever errors came with them."""
    done = {number for number, _ in books.ledger.ticks_done[-3:]}
    calls = books.ledger.calls
    for call in calls[books.calls_seen :]:
        if call.verb != "launch" or call.answer or call.tick not in done or call.ref.startswith("("):
            continue
        row = books.one("select ref, state, reason from instances where id = ?", call.token)
        if row is None or row["ref"] != call.ref:
            yield f"{call.cloud} answered {call.ref} for {call.token}, the store has {row and row['ref']}"
    books.calls_seen = len(calls)


def invariant_15_booting_capacity_counts_as_supply(books: Books) -> Iterator[str]:
    """The same demand is not bought twice: no more instances start than tasks wait, but for what pools keep."""
    tick = books.ledger.tick
    fresh = [call for call in books.ledger.calls if call.tick == tick and call.verb == "launch"]
    before = {call.token for call in books.ledger.calls[-400:] if call.tick < tick}
    tokens = {
        call.token for call in fresh
    } - before  # what is sent again was bought for those who waited then
    if not tokens:
        return
    waiting = books.rows("select id, queue, need, not_before from tasks where state = 'queued'")
    floors = books.floors()
    for name, pool_floor in floors.items():
        starting = [
            row
            for row in books.rows(
                "select id from instances where pool = ? and state in ('launching','booting')", name
            )
            if books.ledger.by_token.get(row["id"])
        ]
        new = [row for row in starting if row["id"] in tokens]
        needs = [
            row["need"]
            for row in waiting
            if name in books.fleet.queues[row["queue"]].pools and (row["not_before"] or 0) <= books.now
        ]
        old = [
            row
            for row in starting
            if row["id"] not in tokens
            and all(fits(books.ledger.by_token[row["id"]][0].offer, need) for need in needs)
        ]
        if len(new) > max(0, len(needs) - len(old)) + pool_floor:
            yield (
                f"pool {name} bought {len(new)} in one tick for {len(needs)} waiting tasks, with {len(old)} "
                f"on their way that fit all of them and a floor of {pool_floor}"
            )

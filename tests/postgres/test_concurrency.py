"""Many writers at once on PostgreSQL: nothing is lost, nothing is given twice, no reader misses an event."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.queue_world import GIB, START, TTL, World, result
from hostler.fleet import queue
from hostler.fleet.planning.model import InstanceState, TaskState
from hostler.fleet.queue import Free
from hostler.fleet.store import instances, leader
from hostler.fleet.store.schema import instances as instances_table
from hostler.tracking.server import events, tasks
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.horizon import Horizon
from hostler.tracking.server.database.schema import events as events_table
from hostler.tracking.server.database.schema import server
from record.world import until
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import IntegrityError

FREE = Free(8.0, 32 * GIB, 0, 0.0)


@pytest.fixture
def database(new_postgres: Callable[[], str]) -> Iterator[Database]:
    opened = Database.open(new_postgres(), lambda: START)
    yield opened
    opened.close()


@pytest.fixture
def replica(database: Database) -> Iterator[Database]:
    """Another server on the same database."""
    opened = Database.open(database.url.render_as_string(hide_password=False), lambda: START)
    yield opened
    opened.close()


def emit(conn: Connection, message: str = "") -> int:
    return events.emit(conn, workspace="default", kind="a.b", now=1.0, actor="me", message=message)


def put(conn: Connection, key: str, value: str = "") -> None:
    conn.execute(insert(server), {"key": key, "value": value})


class Held(threading.Thread):
    """A write that goes on in the background once it is let."""

    def __init__(self, database: Database, before: Callable[[Connection], object]) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._database, self._before = database, before
        self.start()
        assert self.reached.wait(20)

    def run(self) -> None:
        def work(conn: Connection) -> None:
            self._before(conn)
            self.reached.set()
            assert self.go_on.wait(20)

        self._database.write(work)

    def end(self) -> None:
        self.go_on.set()
        self.join()


def test_claims_at_once_give_each_task_to_one_and_leave_none_waiting(database: Database) -> None:
    world = World(database.write)
    names = [world.instance(f"h-{number}") for number in range(8)]
    wanted = [world.submit() for _ in range(60)]

    def take_all(name: str) -> list[int]:
        taken: list[int] = []
        while True:
            claim = database.write(
                lambda conn: queue.claim(conn, instance_id=name, free=FREE, fleet=world.fleet, now=START)
            )
            if claim is None:
                return taken
            taken.append(claim.task_id)

    with ThreadPoolExecutor(len(names)) as threads:
        taken = Counter(task for mine in threads.map(take_all, names) for task in mine)
    assert taken == Counter(wanted)


def test_a_claim_looks_past_the_task_that_another_is_taking(database: Database, replica: Database) -> None:
    world = World(database.write)
    world.instance("h-one")
    world.instance("h-two")
    first, second = world.submit(), world.submit()

    def claim(conn: Connection, name: str) -> queue.Claim | None:
        return queue.claim(conn, instance_id=name, free=FREE, fleet=world.fleet, now=START)

    held = Held(database, lambda conn: claim(conn, "h-one"))
    got = replica.write(lambda conn: claim(conn, "h-two"))
    held.end()
    assert got is not None
    assert got.task_id == second
    with database.read() as conn:
        row = tasks.get(conn, "default", first)
    assert row is not None
    assert row["instance_id"] == "h-one"


def test_an_idle_drain_that_meets_a_claim_waits_and_sees_the_lease(
    database: Database, replica: Database
) -> None:
    world = World(database.write)
    world.instance("h-one")
    world.submit()
    held = Held(
        database, lambda conn: queue.claim(conn, instance_id="h-one", free=FREE, fleet=world.fleet, now=START)
    )
    with ThreadPoolExecutor(1) as thread:
        drained = thread.submit(
            replica.write,
            lambda conn: instances.advance(conn, "h-one", InstanceState.DRAINING, START, idle_only=True),
        )
        until(lambda: waits_for_a_lock(database))
        held.end()
        assert drained.result(20) is False


def waits_for_a_lock(database: Database) -> bool:
    with database.read() as conn:
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(conn.execute(waiting).scalar_one()) > 0


def test_two_tasks_that_end_at_once_leave_their_machine_idle(database: Database, replica: Database) -> None:
    world = World(database.write)
    world.instance("h-one")
    world.submit()
    world.submit()
    taken = []
    for _ in range(2):
        claim = world.do(
            lambda conn: queue.claim(conn, instance_id="h-one", free=FREE, fleet=world.fleet, now=START)
        )
        assert claim is not None
        taken.append(claim)

    def finish(conn: Connection, claim: queue.Claim) -> TaskState:
        return queue.finish(
            conn,
            task_id=claim.task_id,
            generation=claim.generation,
            instance_id="h-one",
            result=result(),
            now=START + TTL,
        )

    held = Held(database, lambda conn: finish(conn, taken[0]))
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(replica.write, lambda conn: finish(conn, taken[1]))
        until(lambda: waits_for_a_lock(database))
        held.end()
        assert second.result(20) is TaskState.COMPLETED
    with database.read() as conn:
        idle = conn.execute(select(instances_table.c.idle_since)).scalar_one()
    assert idle == START + TTL


def test_the_same_uid_from_two_servers_is_one_task(database: Database, replica: Database) -> None:
    """Both look, neither finds it, both insert: one is told by the key, and looks again."""
    world = World(database.write)
    barrier = threading.Barrier(2, timeout=20)

    def create(conn: Connection) -> int:
        tasks.by_uid(conn, "default", "same")
        if not barrier.broken:
            try:
                barrier.wait()
            except threading.BrokenBarrierError:
                pass
            finally:
                barrier.abort()
        row = tasks.create(
            conn,
            workspace="default",
            uid="same",
            project="p",
            name="n",
            queue="default",
            priority=0,
            spec={},
            tags=[],
            actor="ann",
            now=world.now,
            state="queued",
        )
        return int(row["id"])

    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(one.write, create) for one in (database, replica)]
        assert len({one.result(20) for one in made}) == 1


def test_a_deadlock_is_tried_again_and_both_writes_are_there(database: Database) -> None:
    for key in ("a", "b"):
        database.write(lambda conn, key=key: put(conn, key, "0"))  # type: ignore[misc]
    barrier = threading.Barrier(2, timeout=20)
    met = threading.local()

    def add(conn: Connection, first: str, second: str) -> None:
        for key in (first, second):
            value = select(server.c.value).where(server.c.key == key).with_for_update()
            now = int(conn.execute(value).scalar_one())
            conn.execute(update(server).where(server.c.key == key).values(value=str(now + 1)))
            if key == first and not getattr(met, "yes", False):
                met.yes = True
                barrier.wait()

    with ThreadPoolExecutor(2) as threads:
        ends = [
            threads.submit(database.write, lambda conn, pair=pair: add(conn, *pair))
            for pair in (("a", "b"), ("b", "a"))
        ]
        for end in ends:
            end.result(20)
    with database.read() as conn:
        assert set(conn.execute(select(server.c.value)).scalars()) == {"2"}


def test_a_key_that_stays_taken_is_the_callers_error(database: Database) -> None:
    database.write(lambda conn: put(conn, "a"))
    with pytest.raises(IntegrityError):
        database.write(lambda conn: put(conn, "a"))


def test_a_write_that_went_on_after_an_error_is_not_taken_for_done(database: Database) -> None:
    def careless(conn: Connection) -> None:
        put(conn, "a")
        with pytest.raises(IntegrityError):
            put(conn, "a")

    with pytest.raises(RuntimeError, match="went on after"):
        database.write(careless)
    with database.read() as conn:
        assert conn.execute(select(server.c.key)).first() is None


def test_a_reader_with_a_cursor_misses_no_event_that_is_committed_late(
    database: Database, replica: Database
) -> None:
    """Event 1 is drawn first and committed last: who has gone on to 2 would never see it."""
    late = Held(database, emit)
    early = replica.write(emit)
    with database.read() as conn:
        assert conn.execute(select(events_table.c.id)).scalars().all() == [early]
        assert events.after(conn, "default", 0, 10) == []
        assert events.last_id(conn, "default") == 0
        assert queue.arrivals(conn, after=0).last_event_id == 0
    late.end()
    with database.read() as conn:
        assert [row["id"] for row in events.after(conn, "default", 0, 10)] == [early - 1, early]


def test_readers_see_every_event_once_while_many_write(database: Database, replica: Database) -> None:
    each, writers = 40, 6
    seen: list[str] = []
    position = 0

    def write_all(number: int) -> None:
        for count in range(each):
            database.write(lambda conn, count=count: emit(conn, f"{number}-{count}"))  # type: ignore[misc]

    def read_on() -> bool:
        nonlocal position
        with replica.read() as conn:
            for row in events.after(conn, "default", position, 1000):
                position = row["id"]
                seen.append(row["message"])
        return len(seen) >= each * writers

    with ThreadPoolExecutor(writers) as threads:
        ends = [threads.submit(write_all, number) for number in range(writers)]
        until(read_on)
        for end in ends:
            end.result()
    assert Counter(seen) == Counter(f"{a}-{b}" for a in range(writers) for b in range(each))


def test_a_foreign_transaction_that_never_ends_holds_events_up_for_a_while_only() -> None:
    now = [0.0]
    horizon = Horizon(lambda: now[0])
    assert horizon.take(7, oldest_running=100, next_number=120) == 0
    now[0] = 14.0
    assert horizon.take(9, oldest_running=100, next_number=130) == 0
    now[0] = 16.0
    assert horizon.take(9, oldest_running=100, next_number=140) == 7


def test_an_older_snapshot_is_not_given_more_than_it_can_see() -> None:
    horizon = Horizon()
    assert horizon.take(9, oldest_running=50, next_number=50) == 9
    assert horizon.take(4, oldest_running=20, next_number=30) == 4


def test_the_other_server_is_told_of_events(database: Database, replica: Database) -> None:
    heard = threading.Event()
    replica.events_changed.subscribe(heard.set)
    database.write(emit)
    assert heard.wait(20)


def test_a_wake_reaches_the_other_server_and_not_the_sender(database: Database, replica: Database) -> None:
    assert database.signals is not None
    assert replica.signals is not None
    here, there = threading.Event(), threading.Event()
    database.signals.subscribe("wake", here.set)
    replica.signals.subscribe("wake", there.set)

    def reached() -> bool:
        assert database.signals is not None
        database.signals.send("wake")
        return there.wait(0.1)

    until(reached)
    assert not here.is_set()


def test_one_of_many_who_want_it_leads(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        got = list(
            threads.map(
                lambda name: database.write(lambda conn: leader.acquire(conn, f"d-{name}", 60.0)), range(8)
            )
        )
    assert [one for one in got if one is not None] == [1]


def test_a_lead_that_ran_out_can_be_taken_and_shuts_out_who_had_it(database: Database) -> None:
    first = database.write(lambda conn: leader.acquire(conn, "one", 0.0))
    second = database.write(lambda conn: leader.acquire(conn, "two", 60.0))
    assert (first, second) == (1, 2)
    with pytest.raises(leader.StaleEpoch, match="two at epoch 2"):
        database.write(lambda conn: leader.guard(conn, 1))
    assert database.write(lambda conn: leader.renew(conn, 1, 60.0)) is False
    assert database.write(lambda conn: leader.renew(conn, 2, 60.0)) is True


def test_a_takeover_waits_for_the_write_that_looked_before_it(database: Database, replica: Database) -> None:
    """So a write of the old epoch is committed before the new one begins, or not at all."""
    database.write(lambda conn: leader.acquire(conn, "one", 0.0))
    held = Held(database, lambda conn: leader.guard(conn, 1))
    assert replica.write(lambda conn: leader.acquire(conn, "two", 60.0)) is None
    held.end()
    assert replica.write(lambda conn: leader.acquire(conn, "two", 60.0)) == 2


def test_a_writer_paused_in_the_middle_loses_its_write_and_the_lead(
    database: Database, replica: Database
) -> None:
    database.write(lambda conn: leader.acquire(conn, "one", 0.0))

    def paused(conn: Connection) -> None:
        conn.exec_driver_sql("SET idle_in_transaction_session_timeout = '50ms'")
        leader.guard(conn, 1)
        put(conn, "stale")
        until(lambda: replica.write(lambda other: leader.acquire(other, "two", 60.0)) is not None)

    first = [paused]

    def once(conn: Connection) -> None:
        if first:
            first.pop()(conn)
        leader.guard(conn, 1)

    with pytest.raises(leader.StaleEpoch):
        database.write(once)
    with database.read() as conn:
        assert conn.execute(select(server.c.key).where(server.c.key == "stale")).first() is None

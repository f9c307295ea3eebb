"""/metrics: gauges read from the database once a scrape, histograms of what passed through this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as MetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, case, func, select

from ...config import FleetConfig
from ...tracking.server.database.schema import attempts, tasks
from ..store.schema import instances

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
WAIT_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
PROVISION_BUCKETS: Final = (0.5, 1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200)
TICK_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What this process observes itself. No task ids in labels: each would be a series for ever."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queue_wait = Histogram(
            "hostler_queue_wait_seconds",
            "From queued to claimed by an agent",
            ["queue"],
            registry=self.registry,
            buckets=WAIT_BUCKETS,
        )
        self.provision = Histogram(
            "hostler_provision_seconds",
            "From launch intent to joined agent",
            ["pool", "provider"],
            registry=self.registry,
            buckets=PROVISION_BUCKETS,
        )
        self.reconcile = Histogram(
            "hostler_reconcile_seconds",
            "Duration of one tick of the control loop",
            registry=self.registry,
            buckets=TICK_BUCKETS,
        )
        self.provider_errors = Counter(
            "hostler_provider_errors",
            "Errors answered by clouds, by our code for them",
            ["provider", "code"],
            registry=self.registry,
        )
        self.tick_errors = Counter(
            "hostler_tick_errors",
            "Ticks of the control loop that ended with an error",
            registry=self.registry,
        )


def read_families(conn: Connection, fleet: FleetConfig, now: float) -> Sequence[MetricFamily]:
    """Everything that is known from rows, on one snapshot."""
    return [
        _tasks(conn),
        _instances(conn),
        *_money(conn, fleet, now),
        _preemptions(conn),
    ]


def render(metrics: Metrics, families: Iterable[MetricFamily]) -> bytes:
    """The exposition text."""
    passing = CollectorRegistry()
    passing.register(_Fixed(families))
    return generate_latest(metrics.registry) + generate_latest(passing)


class _Fixed(Collector):
    def __init__(self, families: Iterable[MetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterator[MetricFamily]:
        yield from self._families


def _tasks(conn: Connection) -> MetricFamily:
    family = GaugeMetricFamily("hostler_tasks", "Tasks by queue and state", labels=["queue", "state"])
    query = select(tasks.c.queue, tasks.c.state, func.count()).where(tasks.c.queue.is_not(None))
    for queue, state, count in conn.execute(query.group_by(tasks.c.queue, tasks.c.state)):
        family.add_metric([queue, state], count)
    return family


def _instances(conn: Connection) -> MetricFamily:
    labels = ["pool", "provider", "market", "state"]
    family = GaugeMetricFamily(
        "hostler_instances", "Instances by pool, provider, market and state", labels=labels
    )
    columns = [instances.c[name] for name in labels]
    for *values, count in conn.execute(select(*columns, func.count()).group_by(*columns)):
        family.add_metric(values, count)
    return family


def billed_seconds(now: float) -> Any:
    """SQL: seconds for which an instance has been paid so far (0 before its cloud accepted the launch)."""
    end = func.coalesce(instances.c.terminated_at, now)
    seconds = end - instances.c.launched_at
    return case((instances.c.launched_at.is_(None), 0.0), (seconds < 0, 0.0), else_=seconds)


def _money(conn: Connection, fleet: FleetConfig, now: float) -> list[MetricFamily]:
    cost = CounterMetricFamily(
        "hostler_cost_usd", "Paid for instances since the first start", labels=["pool", "provider", "market"]
    )
    rate = GaugeMetricFamily(
        "hostler_usd_per_hour", "Paid per hour now, at worst", labels=["pool", "provider"]
    )
    columns = (instances.c.pool, instances.c.provider, instances.c.market)
    paid = func.sum(billed_seconds(now) * instances.c.usd_per_hour / 3600.0)
    for *values, usd in conn.execute(select(*columns, paid).group_by(*columns)):
        cost.add_metric(values, usd or 0.0)
    live = select(instances.c.pool, instances.c.provider, func.sum(instances.c.usd_per_hour))
    live = live.where(instances.c.state != "terminated")
    for pool, provider, usd in conn.execute(live.group_by(instances.c.pool, instances.c.provider)):
        rate.add_metric([pool, provider], usd or 0.0)
    # Budgets come with a later release; the name is told already, without samples.
    left = GaugeMetricFamily("hostler_budget_remaining_usd", "Left of each budget", labels=["budget"])
    limit = GaugeMetricFamily("hostler_limit_usd_per_hour", "limits.usd_per_hour of fleet.yaml")
    if fleet.limits.usd_per_hour is not None:
        limit.add_metric([], fleet.limits.usd_per_hour)
    return [cost, rate, left, limit]


def _preemptions(conn: Connection) -> MetricFamily:
    family = CounterMetricFamily(
        "hostler_preemptions", "Attempts that ended because the cloud took the machine back", labels=["pool"]
    )
    query = (
        select(instances.c.pool, func.count())
        .select_from(attempts.join(instances, attempts.c.instance_id == instances.c.id))
        .where(attempts.c.outcome == "preempted")
    )
    for pool, count in conn.execute(query.group_by(instances.c.pool)):
        family.add_metric([pool], count)
    return family

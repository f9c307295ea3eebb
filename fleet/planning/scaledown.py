"""Which instances to let go, and why the others stay."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .lifecycle import SUPPLY_INSTANCE
from .model import Decision, Drain, InstanceState, InstanceView, PoolPolicy, Snapshot, Termination


@dataclass(slots=True)
class ScaleDown:
    """Drains and terminations of this tick, and a decision for every instance that is left alone."""

    drains: list[Drain] = field(default_factory=list)
    terminations: list[Termination] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def drain(self, instance: InstanceView, code: str, message: str) -> None:
        self.drains.append(Drain(instance.instance_id, code))
        self.keep(instance, code, message)

    def keep(self, instance: InstanceView, code: str, message: str, next_at: float | None = None) -> None:
        self.decisions.append(Decision("instance", instance.instance_id, code, message, next_at=next_at))


def scale_down(snapshot: Snapshot, reserved: Collection[str], now: float) -> ScaleDown:
    """`reserved`: ids of instances that have queued tasks placed on them in this tick."""
    result = ScaleDown()
    idle: dict[str, list[InstanceView]] = defaultdict(list)
    for instance in snapshot.instances:
        pool = snapshot.pools.get(instance.pool)
        if not _settled(instance, pool, reserved, result, now):
            idle[instance.pool].append(instance)
    supply = Counter(one.pool for one in snapshot.instances if one.state in SUPPLY_INSTANCE)
    leaving = Counter(_pools_of(result.drains, snapshot.instances))
    for name, instances in idle.items():
        _drain_idle(snapshot.pools[name], instances, supply[name] - leaving[name], result, now)
    return result


def _settled(
    instance: InstanceView,
    pool: PoolPolicy | None,
    reserved: Collection[str],
    result: ScaleDown,
    now: float,
) -> bool:
    """Decide all but the plainly idle ones; False = ready, idle, of a known pool."""
    state = instance.state
    if state is InstanceState.DRAINING:
        _finish_drain(instance, result)
    elif state is InstanceState.TERMINATING:
        result.keep(instance, "TERMINATING", "its end is asked for; waiting for the cloud to confirm")
    elif state is InstanceState.LOST:
        result.keep(instance, "LOST", "its cloud no longer lists it")
    elif pool is None:
        result.drain(instance, "POOL_GONE", f"pool {instance.pool} is no longer in the configuration")
    elif state is not InstanceState.READY:
        result.keep(instance, "BOOTING", "it is starting")
    elif instance.age_limit_at is not None and now >= instance.age_limit_at:
        result.drain(instance, "MAX_AGE", "older than the pool's max_age")
    elif instance.leases:
        result.keep(instance, "BUSY", f"runs {instance.leases} task(s)")
    elif instance.instance_id in reserved:
        result.keep(instance, "RESERVED", "queued tasks fit on it")
    else:
        return False
    return True


def _finish_drain(instance: InstanceView, result: ScaleDown) -> None:
    if instance.leases:
        result.keep(instance, "DRAINING", f"waits for {instance.leases} task(s) to end")
    else:
        result.terminations.append(Termination(instance.instance_id, "DRAINED"))
        result.keep(instance, "DRAINED", "nothing runs on it any more")


def _drain_idle(
    pool: PoolPolicy, instances: Iterable[InstanceView], supply: int, result: ScaleDown, now: float
) -> None:
    """Drain those idle for too long, dearest first, as long as the pool keeps its smallest number."""
    floor = max(pool.instances_min, pool.warm_min)
    for instance in sorted(instances, key=lambda one: (-one.usd_per_hour, _idle_since(one), one.instance_id)):
        drain_at = _idle_since(instance) + pool.idle_timeout_seconds
        if now < drain_at:
            result.keep(
                instance, "IDLE_WAIT", f"idle; drained after {pool.idle_timeout_seconds:g} s", drain_at
            )
        elif supply <= floor:
            result.keep(instance, "KEPT_WARM", f"pool {pool.name} keeps {floor}")
        else:
            supply -= 1
            result.drain(instance, "IDLE", f"idle for {now - _idle_since(instance):.0f} s")


def _idle_since(instance: InstanceView) -> float:
    return instance.created_at if instance.idle_since is None else instance.idle_since


def _pools_of(drains: Iterable[Drain], instances: Iterable[InstanceView]) -> Iterable[str]:
    pools: Mapping[str, str] = {instance.instance_id: instance.pool for instance in instances}
    return (pools[drain.instance_id] for drain in drains)

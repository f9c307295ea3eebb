"""The end of instances: asked for again and again until the cloud itself says that it has come."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from ...providers.base import CloudInstance, InstanceNotFound, Provider
from ...tracking.server import events
from ..planning.model import Drain, InstanceState, Termination
from ..store import instances
from .effects import Effects, full_jitter_seconds

ASK_AGAIN_SECONDS: Final = 60.0
"""An accepted request whose instance is still there is repeated after so long."""
ALERT_AFTER_SECONDS: Final = 600.0
"""An instance that outlives our first request by so much is told to people, once."""


@dataclass
class Ended:
    """What one tick's terminations came to."""

    accepted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    """Refs of instances without a row whose end was asked for."""
    calls: int = 0


def drain(conn: Connection, drains: Sequence[Drain], now: float) -> list[str]:
    """Take instances out of service: no new lease from here on. Those that got a lease meanwhile stay, if idle
    was the reason. Returns the ids that drain now."""
    moved = []
    for one in drains:
        idle_only = one.reason == "IDLE"
        if instances.advance(
            conn, one.instance_id, InstanceState.DRAINING, now, reason=one.reason, idle_only=idle_only
        ):
            moved.append(one.instance_id)
    return moved


def begin(conn: Connection, terminations: Sequence[Termination], now: float) -> list[str]:
    """Decide the end of instances; the calls follow. A drained one that still holds a lease is left alone."""
    moved = []
    for one in terminations:
        reason = None if one.reason == "DRAINED" else one.reason  # why it was drained tells more
        if instances.advance(
            conn, one.instance_id, InstanceState.TERMINATING, now, reason=reason, idle_only=True
        ):
            moved.append(one.instance_id)
    return moved


@dataclass
class Terminator:
    """Terminations of one leader. Providers in `unheard` did not answer the listing: nothing is asked of them."""

    effects: Effects
    providers: Mapping[str, Provider]
    rng: random.Random
    unheard: Collection[str] = ()

    def run(self) -> Ended:
        """Ask for the end of everything that is to end and is due."""
        done = Ended()
        rows = [row for row in self._condemned() if self._is_due(row)]
        answers = self._ask([(row["provider"], row["ref"]) for row in rows], done)
        for row, error in zip(rows, answers, strict=True):
            self._record(row, error)
            accepted = error is None or isinstance(error, InstanceNotFound)
            (done.accepted if accepted else done.failed).append(row["id"])
        return done

    def end_strays(self, strays: Sequence[CloudInstance], workspace: str) -> Ended:
        """Ask for the end of instances of ours that no row stands for."""
        done = Ended()
        answers = self._ask([(stray.provider, stray.ref) for stray in strays], done)
        for stray, error in zip(strays, answers, strict=True):
            done.strays.append(stray.ref)
            self._tell_stray(stray, error, workspace)
        return done

    def _condemned(self) -> list[dict[str, Any]]:
        """Rows to end; the lost among them are ended too, in case they are only hidden."""
        now = self.effects.clock()
        with self.effects.db.read() as conn:
            lost = instances.live(conn, states=(InstanceState.LOST,))
        if lost:
            ids = [row["id"] for row in lost]
            self.effects.write("end-lost", lambda conn: _end_lost(conn, ids, now))
        with self.effects.db.read() as conn:
            return instances.live(conn, states=(InstanceState.TERMINATING,))

    def _is_due(self, row: Mapping[str, Any]) -> bool:
        # Without a ref there is nothing to call yet: a listing will bring it, or show that there never was one.
        if row["ref"] is None or row["provider"] not in self.providers or row["provider"] in self.unheard:
            return False
        return row["next_call_at"] is None or row["next_call_at"] <= self.effects.clock()

    def _ask(self, targets: Sequence[tuple[str, str]], done: Ended) -> list[Exception | None]:
        done.calls += len(targets)
        calls = [_call(self.providers[provider], ref) for provider, ref in targets]
        return self.effects.call_all("terminate", calls) if calls else []

    def _record(self, row: Mapping[str, Any], error: Exception | None) -> None:
        now = self.effects.clock()
        calls = row["terminate_calls"] + 1
        values: dict[str, Any] = {"terminate_calls": calls}
        if error is None or isinstance(error, InstanceNotFound):
            values["terminate_accepted_at"] = row["terminate_accepted_at"] or now
            values["not_found_at"] = None if error is None else now
            values["next_call_at"] = now + ASK_AGAIN_SECONDS
        else:
            values["next_call_at"] = now + full_jitter_seconds(self.rng, calls)

        def work(conn: Connection) -> None:
            instances.note(conn, row["id"], **values)
            _alert_if_late(conn, row, error, now)

        self.effects.write("terminate-answered", work)

    def _tell_stray(self, stray: CloudInstance, error: Exception | None, workspace: str) -> None:
        now = self.effects.clock()
        said = "its end was asked for" if error is None else f"its end could not be asked for: {error}"
        message = f"{stray.provider} {stray.ref} bears our tag, but no open launch intent is its own; {said}"

        def work(conn: Connection) -> None:
            events.emit(
                conn,
                workspace=workspace,
                kind="instance.stray",
                now=now,
                actor=instances.ACTOR,
                message=message,
                data={"provider": stray.provider, "ref": stray.ref, "intent": stray.intent},
            )

        self.effects.write("stray", work)


def _call(provider: Provider, ref: str) -> Callable[[], None]:
    return lambda: provider.terminate(ref)


def _end_lost(conn: Connection, ids: Sequence[str], now: float) -> None:
    for instance_id in ids:
        instances.advance(
            conn, instance_id, InstanceState.TERMINATING, now, expect=(InstanceState.LOST,), reason="LOST"
        )


def _alert_if_late(conn: Connection, row: Mapping[str, Any], error: Exception | None, now: float) -> None:
    asked_at = row["terminate_asked_at"]
    late = asked_at is not None and now - asked_at >= ALERT_AFTER_SECONDS
    if not late or row["terminate_alerted_at"] is not None:
        return
    instances.note(conn, row["id"], terminate_alerted_at=now)
    said = (
        f"the last answer was: {error}" if error else "the cloud accepts the request, yet it is still there"
    )
    what = f"{row['provider']} {row['ref']} can't be ended since {now - asked_at:.0f} s and may cost money"
    events.emit(
        conn,
        workspace=row["workspace"],
        kind="instance.terminate_failing",
        now=now,
        actor=instances.ACTOR,
        message=f"{what}; {said}",
        instance_id=row["id"],
        data={"ref": row["ref"], "provider": row["provider"], "calls": row["terminate_calls"] + 1},
    )

"""One host: its connection, what is written down of it here, and how often a silent one is asked again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..base import TAG_SERVER, CloudInstance, CloudState, LaunchRequest, ProviderError
from . import errors, program
from .connection import Connection
from .ledger import Entry, Ledger
from .where import Where

RETRY_SECONDS_FIRST, RETRY_SECONDS_MOST = 5.0, 60.0
"""A host that doesn't answer is left alone for so long, doubled each time: a tick must not wait for it each time."""
GIVEN_UP_AFTER_SECONDS = 900.0
"""A host that was taken out of fleet.yaml and is silent for so long: the agent on it has ended by itself by then."""
LISTED_SECONDS = 900.0
REGION = "static"


class Host:
    """All questions to one host, one at a time. `configured`: it stands in fleet.yaml, not only in the ledger."""

    def __init__(
        self,
        provider: str,
        where: Where,
        ledger: Ledger,
        *,
        configured: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.where = where
        self.configured = configured
        self.trouble: ProviderError | None = None
        """Why it did not answer when it was last asked."""
        self._provider = provider
        self._ledger = ledger
        self._connection = Connection(where)
        self._clock = clock
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._failures = 0
        self._ask_again_at = 0.0

    def listing(self, server_id: str) -> tuple[CloudInstance, ...]:
        """Its instances of ours: as it says itself, or as they were last known where it doesn't answer."""
        with self._turn:
            if self._monotonic() >= self._ask_again_at:
                try:
                    found = self._ask({"verb": "list", "server": server_id})["instances"]
                except ProviderError:
                    pass
                else:
                    self._note(found)
                    return tuple(self._instance(one) for one in found)
            return self._last_known(server_id)

    def launch(self, request: LaunchRequest, digest: str, machine: Mapping[str, object]) -> CloudInstance:
        """Start the instance of the request's token, or find it. What may come of it is written down before."""
        entry = Entry(
            token=request.token,
            tags=dict(request.tags),
            instance_type=request.offer.instance_type,
            market=request.offer.market.value,
            where=self.where.to_dict(),
        )
        with self._turn:
            before = self._ledger.get(self.where.place)
            if before is not None and self._is_known_to_hold_another(before, request):
                raise errors.in_use(self.where, f"it holds this server's instance {before.token}")
            if before is None:
                self._ledger.put(self.where.place, entry)
            try:
                told = self._ask(
                    {
                        "verb": "launch",
                        "token": request.token,
                        "server": request.tags.get(TAG_SERVER, ""),
                        "tags": dict(request.tags),
                        "instance_type": request.offer.instance_type,
                        "market": request.offer.market.value,
                        "digest": digest,
                        "machine": dict(machine),
                        "user_data": request.user_data,
                        "program": program.text(),
                    }
                )["instance"]
            except ProviderError as error:
                if before is None and not error.maybe_created:
                    self._ledger.drop(self.where.place)
                raise
            self._note([told])
            return self._instance(told)

    def terminate(self, token: str, server_id: str, grace_seconds: float) -> bool:
        """Have it ended. False if the host knows no such instance of ours."""
        question = {"verb": "terminate", "token": token, "server": server_id, "grace_seconds": grace_seconds}
        with self._turn:
            if self.trouble is not None and self._monotonic() < self._ask_again_at:
                raise self.trouble
            return bool(self._ask(question)["known"])

    def facts(self) -> dict[str, Any]:
        with self._turn:
            found = self._ask({"verb": "facts"})
            self._ledger.keep_facts(self.where.place, found)
            return found

    def facts_known(self) -> dict[str, Any]:
        """What it said the last time it was asked; empty if it never was."""
        return self._ledger.facts(self.where.place)

    def reach(self, url: str, seconds: float) -> dict[str, Any]:
        with self._turn:
            return self._ask({"verb": "reach", "url": url, "seconds": seconds})

    def holds(self, token: str) -> bool:
        """Whether it was last known to hold this instance."""
        entry = self._ledger.get(self.where.place)
        return entry is not None and entry.token == token

    def given_up(self) -> bool:
        """Whether it was taken out of fleet.yaml and has been silent ever since, for long enough."""
        entry = self._ledger.get(self.where.place)
        return entry is not None and entry.given_up_at is not None

    def close(self) -> None:
        self._connection.close()

    def _is_known_to_hold_another(self, entry: Entry, request: LaunchRequest) -> bool:
        """As of the last listing, a tick ago: not worth a call, of which a crowd of launches would make many."""
        ours = entry.tags.get(TAG_SERVER) == request.tags.get(TAG_SERVER)
        return entry.certain and ours and entry.token != request.token

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            reply = self._connection.ask({"home": self.where.home, **request})
        except ProviderError as error:
            if error.code in ("UNAVAILABLE", "AUTH"):
                self.trouble = error
                wait = min(RETRY_SECONDS_MOST, RETRY_SECONDS_FIRST * 2.0**self._failures)
                self._failures = min(self._failures + 1, 10)
                self._ask_again_at = self._monotonic() + wait
            raise
        self.trouble, self._failures, self._ask_again_at = None, 0, 0.0
        return reply

    def _note(self, found: list[dict[str, Any]]) -> None:
        """Bring the ledger to what the host has just said."""
        live = next((one for one in found if one["state"] != CloudState.TERMINATED.value), None)
        if live is None:
            self._ledger.drop(self.where.place)
            return
        entry = Entry(
            token=str(live["token"]),
            tags=dict(live["tags"]),
            instance_type=str(live["instance_type"]),
            market=str(live["market"]),
            where=self.where.to_dict(),
            certain=True,
            launched_at=live["launched_at"],
        )
        if entry != self._ledger.get(self.where.place):
            self._ledger.put(self.where.place, entry)

    def _last_known(self, server_id: str) -> tuple[CloudInstance, ...]:
        entry = self._ledger.get(self.where.place)
        if entry is None or entry.tags.get(TAG_SERVER) != server_id:
            return ()
        why = self.trouble.detail if self.trouble else f"{self.where} was not asked"
        state = CloudState.RUNNING if entry.certain else CloudState.PENDING
        if not self.configured:
            entry = self._run_out(entry)
            if entry.given_up_at is not None:
                state = CloudState.TERMINATED
                why = f"its host was taken out of fleet.yaml and has been silent since: {why}"
                if self._clock() - entry.given_up_at >= LISTED_SECONDS:
                    self._ledger.drop(self.where.place)
                    return ()
        return (
            CloudInstance(
                provider=self._provider,
                ref=f"{self.where.name}/{entry.token}",
                state=state,
                tags=entry.tags,
                instance_type=entry.instance_type,
                region=REGION,
                zone=self.where.name,
                market=entry.market,
                launched_at=entry.launched_at,
                address=self.where.address,
                detail=f"as last known: {why}",
            ),
        )

    def _run_out(self, entry: Entry) -> Entry:
        """Start or end the time after which a silent host that nobody wants any more is given up."""
        now = self._clock()
        since = entry.silent_since if entry.silent_since is not None else now
        given_up = entry.given_up_at
        if given_up is None and now - since >= GIVEN_UP_AFTER_SECONDS:
            given_up = now
        after = replace(entry, silent_since=since, given_up_at=given_up)
        if after != entry:
            self._ledger.put(self.where.place, after)
        return after

    def _instance(self, told: Mapping[str, Any]) -> CloudInstance:
        return CloudInstance(
            provider=self._provider,
            ref=f"{self.where.name}/{told['token']}",
            state=CloudState(told["state"]),
            tags=dict(told["tags"]),
            instance_type=str(told["instance_type"]),
            region=REGION,
            zone=self.where.name,
            market=str(told["market"]),
            launched_at=told["launched_at"],
            address=self.where.address,
            detail=str(told.get("reason") or ""),
        )

"""`hostler doctor`: every part looks at itself; each line says whether it is well and how to mend it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from ...providers.base import Check, Provider, ProviderError
from ...tracking.server.access import authorise
from .parts import State, Who, not_found

router = APIRouter(prefix="/api/v1/doctor", tags=["status"])
CHECK_SECONDS_MAX: Final = 60.0


@router.get("")
async def doctor(
    state: State,
    who: Who,
    provider: Annotated[str | None, Query(description="look at this provider only", max_length=64)] = None,
) -> dict[str, Any]:
    """Checks of the daemon and of every provider; starts and changes nothing. `ok` is false if any is not well."""
    authorise(who, "fleet:write")
    chosen = state.config.providers()
    if provider is not None and provider not in state.config.fleet.providers:
        known = ", ".join(state.config.fleet.providers)
        raise not_found("provider", provider, f"there are: {known}")
    looks = [_look(name, one) for name, one in chosen.items() if provider in (None, name)]
    results = [row for rows in await asyncio.gather(*looks) for row in rows]
    for name, why in state.config.broken_providers().items():
        if provider in (None, name):
            results.append(_row(name, Check("usable", False, why, why)))
    if provider is None:
        own = await asyncio.to_thread(state.own_checks)
        results = [_row("daemon", check) for check in own] + results
    return {"ok": all(row["ok"] for row in results), "checks": results}


async def _look(name: str, provider: Provider) -> list[dict[str, Any]]:
    """What one provider says of itself; that it can't say anything is a finding too."""
    try:
        checks = await asyncio.wait_for(asyncio.to_thread(provider.check), CHECK_SECONDS_MAX)
    except ProviderError as error:
        checks = [Check("answers", False, f"{error.code}: {error.detail}", error.hint)]
    except TimeoutError:
        hint = "look at the network between this machine and the cloud's API"
        checks = [Check("answers", False, f"no answer within {CHECK_SECONDS_MAX:.0f} s", hint)]
    return [_row(name, check) for check in checks]


def _row(subject: str, check: Check) -> dict[str, Any]:
    return {"subject": subject, **dataclasses.asdict(check)}

"""The last known catalogue of each provider, so that a restart can plan before the clouds have answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, insert, select

from ...providers.base import Offer, OfferKey
from .instances import offer_from_dict, offer_to_dict
from .schema import offers as table


def text_of(key: OfferKey) -> str:
    """The key with all its parts: `provider/region/zone/type/market`."""
    return "/".join((key.provider, key.region, key.zone, key.instance_type, key.market))


def save(conn: Connection, provider: str, offers: Iterable[Offer], now: float) -> int:
    """Replace the provider's catalogue. Returns how many offers it has."""
    rows = {
        text_of(offer.key): {
            "key": text_of(offer.key),
            "provider": provider,
            "offer": offer_to_dict(offer),
            "refreshed_at": now,
        }
        for offer in offers
    }
    conn.execute(delete(table).where(table.c.provider == provider))
    if rows:
        conn.execute(insert(table), list(rows.values()))
    return len(rows)


def read(conn: Connection, providers: Sequence[str] | None = None) -> list[Offer]:
    """Offers in the order of their keys; those of `providers` only, if given."""
    query = select(table.c.offer).order_by(table.c.key)
    if providers is not None:
        query = query.where(table.c.provider.in_(list(providers)))
    return [offer_from_dict(row.offer) for row in conn.execute(query)]


def refreshed_at(conn: Connection) -> dict[str, float]:
    """When each provider's catalogue was read last, epoch seconds."""
    query = select(table.c.provider, func.max(table.c.refreshed_at)).group_by(table.c.provider)
    return {row[0]: float(row[1]) for row in conn.execute(query)}


def prune(conn: Connection, providers: Iterable[str]) -> int:
    """Drop the catalogues of providers that are no longer configured."""
    return conn.execute(delete(table).where(table.c.provider.not_in(sorted(providers)))).rowcount

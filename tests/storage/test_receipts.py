"""Receipts: what stays of a data request."""

import time
from typing import Final

from redis.asyncio import Redis

from storage.keys import Keys
from storage.receipts import Receipt, Receipts, fresh_id
from storage.removals import Removal, Removals
from storage.scripts import Store

_NOW: Final = int(time.time() * 1000)
_DAYS: Final = 3


def _receipt(number: int) -> Receipt:
    at = _NOW + number
    return Receipt(f"R{number}", "erasure", "customer", at, at + 30, "everything", counts={"exchanges": number})


async def test_a_receipt_is_found_by_its_id_and_by_its_chat(store: Redis) -> None:
    """And nothing leads from it to the chat."""
    keys = Keys(1)
    receipts = Receipts(Store(store), keys, keep_days=_DAYS)
    for number in (1, 2, 3):
        await receipts.put(7 if number != 2 else 8, _receipt(number))
    assert await receipts.read("R2") == _receipt(2)
    assert await receipts.read("R9") is None
    assert await receipts.of(7) == [_receipt(1), _receipt(3)]
    assert [found.id for found in await receipts.newest(2)] == ["R3", "R2"]
    assert [found.id for found in await receipts.newest(5, before_ms=_NOW + 2)] == ["R1"]


async def test_what_a_provider_confirmed_is_counted_once(store: Redis) -> None:
    """However often a worker says so; a receipt written again keeps the count."""
    keys = Keys(1)
    receipts, removals = Receipts(Store(store), keys, keep_days=_DAYS), Removals(Store(store), keys)
    await receipts.put(7, _receipt(1))
    entries = [Removal(1, b"a"), Removal(1, b"b"), Removal(1, b"c")]
    await removals.add(entries)
    for entry in (entries[0], entries[0], entries[1]):
        await removals.done(entry, "R1")
    await removals.done(entries[2], "R1", given_up=True)
    await receipts.put(7, _receipt(1))
    found = await receipts.read("R1")
    assert found is not None
    assert (found.confirmed, found.given_up) == (2, 1)
    assert await removals.due(10, 10) == []


async def test_receipts_end_with_their_time(store: Redis) -> None:
    """With all that was counted on them."""
    keys = Keys(1)
    receipts = Receipts(Store(store), keys, keep_days=_DAYS)
    for number in (1, 2):
        await receipts.put(7, _receipt(number))
    removals, entry = Removals(Store(store), keys), Removal(1, b"a")
    await removals.add([entry])
    await removals.done(entry, "R1")
    assert await receipts.expire(_NOW + _DAYS * 86_400_000 + 2) == 1
    assert await receipts.of(7) == [_receipt(2)]
    assert await receipts.expire(_NOW + _DAYS * 86_400_000 + 2) == 0
    assert await store.hlen(keys.receipts) == 1


def test_ids_are_read_aloud_easily() -> None:
    """Three groups of four, of signs that are not mistaken for each other, none like the other."""
    ids = {fresh_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(found) == 14 and not set("01OIL") & set(found) for found in ids)

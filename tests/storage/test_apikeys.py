"""Keys of the admin API, on every store the code claims to support."""

import asyncio
import hashlib

import pytest

from storage.apikeys import SCOPES, ApiKeys
from tests.storage.conftest import House

NOW = 1_800_000_000.0


async def stored(house: House) -> bytes:
    """All that the store holds of keys."""
    return b"\n".join(await house.store.call("HVALS", house.keys.api_keys))


async def test_a_key_opens_what_it_was_made_for_and_is_kept_hashed(house: House) -> None:
    """The token is shown once: the store holds the digest of its secret, and nothing that it could be had from."""
    keys = ApiKeys(house.store, house.keys)
    key, token = await keys.create(["exports", "data:read"], note="nightly", now_s=NOW)
    assert (key.scopes, key.note, key.expires_s) == (("data:read", "exports"), "nightly", 0)
    assert await keys.check(token, now_s=NOW) == key
    _, key_id, secret = token.split("-", 2)
    assert (key_id, len(key_id), len(secret)) == (key.id, 12, 43)
    assert secret.encode() not in await stored(house)
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in await stored(house)
    assert await keys.all() == [key]


async def test_what_is_wrong_with_a_key_is_told_by_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown, wrong, expired, revoked, misshapen: one answer, and the same calls to the store."""
    keys = ApiKeys(house.store, house.keys)
    made = [await keys.create(SCOPES, expires_s=int(NOW), now_s=NOW - 10) for _ in range(2)]
    (revoked, gone), (_, expired) = made
    await keys.revoke(revoked.id, now_s=NOW - 5)
    wrong = expired[:-1] + ("A" if expired[-1] != "A" else "B")
    calls: list[str] = []
    call = house.store.call

    async def counted(*arguments: object) -> object:
        calls.append(str(arguments[0]))
        return await call(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(house.store, "call", counted)
    told = {}
    for name, token in {
        "unknown": f"sk-{'0' * 12}-{'A' * 43}", "wrong": wrong, "expired": expired, "revoked": gone,
        "misshapen": "hello", "empty": "", "surrogate": "sk-\ud83d", "longer": expired + "A",
    }.items():  # fmt: skip
        calls.clear()
        told[name] = (await keys.check(token, now_s=NOW), tuple(calls))
    assert set(told.values()) == {(None, ("HGET",))}, told


async def test_a_key_ends_when_it_expires_and_not_before(house: House) -> None:
    """The second before it is in force."""
    keys = ApiKeys(house.store, house.keys)
    key, token = await keys.create(["exports"], expires_s=int(NOW), now_s=NOW - 10)
    assert await keys.check(token, now_s=NOW - 1) == key
    assert await keys.check(token, now_s=NOW) is None


async def test_a_revoked_key_stays_revoked(house: House) -> None:
    """Revoking again changes nothing, and what does not exist is not made."""
    keys = ApiKeys(house.store, house.keys)
    key, token = await keys.create(["exports"])
    first = await keys.revoke(key.id, now_s=NOW)
    assert first is not None
    assert await keys.revoke(key.id, now_s=NOW + 5) == first
    assert await keys.revoke("0" * 12) is None
    assert await keys.check(token) is None
    assert [one.revoked_s for one in await keys.all()] == [int(NOW)]


@pytest.mark.parametrize("scopes", [[], ["everything"], ["exports", "data:*"]])
async def test_scopes_are_known_ones(house: House, scopes: list[str]) -> None:
    """A key that may do nothing, or what does not exist, is a slip."""
    with pytest.raises(ValueError, match="scopes"):
        await ApiKeys(house.store, house.keys).create(scopes)


async def test_calls_are_counted_together_by_all_replicas_and_anew_each_minute(house: House) -> None:
    """The counts leave the store by themselves."""
    keys = ApiKeys(house.store, house.keys)
    spent = await asyncio.gather(*(ApiKeys(house.store, house.keys).spend("k", now_s=NOW) for _ in range(20)))
    assert sorted(one.calls for one in spent) == list(range(1, 21))
    assert {one.ends_in_s for one in spent} == {60}
    later = await keys.spend("k", now_s=NOW + 59.8)
    assert (later.calls, later.ends_in_s) == (21, 1)
    assert (await keys.spend("k", now_s=NOW + 60)).calls == 1
    assert (await keys.spend("other", now_s=NOW)).calls == 1
    for name in await house.store.call("KEYS", "*:calls:*"):
        assert 0 < await house.store.call("TTL", name) <= 120

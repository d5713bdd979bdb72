"""The canary audit over the key registry: everything that is stored is found before a forget, and nothing after it."""

from typing import Final

import pytest

from bot import texts
from tests.flows.canary.walk import ELSEWHERE, KEYS_OF_BOT, MODES, Walk, claims, walking
from tests.flows.conftest import World

_GONE_BEFORE: Final = {"photo", "single"}
"""What was forgotten on the way: with the mail of its time, and on its own."""

_AT_THE_PROVIDER: Final = {"remote", "removed-remote"}


def strangers(found: dict[str, set[str]]) -> list[str]:
    """What is stored outside the registry."""
    return [row for row in found if row.startswith("?")]


def misplaced(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Words that lie where nobody's can."""
    return {row: found[row] for row, claim in claims().items() if isinstance(claim, str) and found.get(row)}


def missing(walk: Walk, found: dict[str, set[str]]) -> dict[str, frozenset[str]]:
    """What a row is claimed to hold, and was not found in it: the search is blind there, or the row is not filled."""
    planted = {row: claim - ELSEWHERE[walk.mode] for row, claim in claims().items() if not isinstance(claim, str)}
    return {row: names - found.get(row, set()) for row, names in planted.items() if names - found.get(row, set())}


async def assert_found(walk: Walk) -> None:
    """The search sees everything that was planted, wherever it lies, and nothing of it lies open."""
    found = await walk.rows()
    assert strangers(found) == []
    assert misplaced(found) == {}
    assert missing(walk, found) == {}
    planted = set(walk.words)
    assert await walk.opened() == planted - _GONE_BEFORE - ELSEWHERE[walk.mode]
    assert await walk.lies_open() == set()
    assert {"corrected", "noted", "wishes"} <= await walk.data()
    if walk.mode != "completions":
        assert {"corrected", "journaled", *_AT_THE_PROVIDER} <= walk.at_the_provider()


@pytest.mark.parametrize(
    ("mode", "by"),
    [
        ("completions", "customer"),
        pytest.param("responses", "operator", marks=pytest.mark.slow),
        pytest.param("dify", "customer", marks=pytest.mark.slow),
    ],
)
async def test_what_every_feature_stored_is_gone_with_a_forget(
    own_world: World, mode: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live, in every file, in log and figures, over the admin API and at the provider; and it was in all of them."""
    assert mode in MODES
    async with walking(own_world, mode, monkeypatch) as walk:
        other = own_world.customer()
        await other.asks("canary-control")
        walk.words["control"] = b"canary-control"
        await walk.plant()
        await walk.rewritten()
        await assert_found(walk)
        assert any(b"operator-note" in content for content in (await walk.haul()).files.values())

        before = await walk.keys()
        await walk.forget(by)
        found = await walk.rows()
        assert strangers(found) == []
        assert {row for row, names in found.items() if names} <= {"turns:C:…"}
        assert found["turns:C:…"] == {"control"}
        destroyed = [key for key in before if key not in await walk.keys()]
        assert len(destroyed) >= 5  # of the mail, of conversations, of wishes, of the export and of the archive
        haul = await walk.haul()
        assert haul.holding(destroyed) == []
        # What a provider had called its copies was needed until it had deleted them: names of nothing, by now.
        assert await walk.opened() <= {"control", *_AT_THE_PROVIDER} - ELSEWHERE[mode]
        await walk.rewritten()
        assert await walk.opened() == {"control"}
        assert await walk.lies_open() == set()
        assert walk.at_the_provider() <= {"control"}
        assert await walk.data() == set()


async def test_of_one_exchange_only_its_own_words_go(own_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From store, files, export and provider; those before and behind it stay readable, and are told to the model."""
    async with walking(own_world, "responses", monkeypatch) as walk:
        customer = walk.customer
        walk.words = {name: f"canary-{name}".encode() for name in ("first", "middle", "last", "next")}
        ids = {}
        for number, name in enumerate(("first", "middle", "last"), 1):
            ids[name] = customer.writes(f"canary-{name}")
            await customer.sees(number)
        everything = {"first", "middle", "last"}
        assert everything == await walk.opened() == await walk.data() == walk.at_the_provider()
        await customer.asks("/forget", reply_to=ids["middle"])
        customer.presses(texts.FORGET_ONE)
        await customer.sees(5)
        await walk.heard()
        assert await walk.opened() == await walk.data() == {"first", "last"}
        assert (await walk.rows())["turns:C:…"] == {"first", "last"}
        await customer.asks("canary-next")
        assert walk.at_the_provider() == {"first", "last", "next"}
        assert await walk.lies_open() == set()


async def test_storage_outside_the_registry_turns_the_audit_red(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key, a field, or a word where none may be: each is told by its name."""
    async with walking(own_world, "completions", monkeypatch) as walk:
        await walk.customer.asks("canary-answered")
        found = await walk.rows()
        assert (strangers(found), misplaced(found)) == ([], {})
        unfilled = missing(walk, found)
        assert "corrected" in unfilled["turns:C:…"]
        assert "answered" not in unfilled["turns:C:…"]
        bot, of_chat = KEYS_OF_BOT, KEYS_OF_BOT.of(walk.customer.chat_id)
        for change, undo, told in (
            (("SET", "drafts", "x"), ("DEL", "drafts"), "?drafts"),
            (("SET", f"{bot.menu}2", "x"), ("DEL", f"{bot.menu}2"), f"?{bot.menu}2"),
            (("RPUSH", f"{of_chat.mail}:late", "x"), ("DEL", f"{of_chat.mail}:late"), f"?{of_chat.mail}:late"),
            (("HSET", of_chat.chat, "nickname", "x"), ("HDEL", of_chat.chat, "nickname"), "?chat:C/nickname"),
        ):
            await walk.store.execute_command(*change)  # type: ignore[no-untyped-call]
            assert strangers(await walk.rows()) == [told]
            await walk.store.execute_command(*undo)  # type: ignore[no-untyped-call]
        await walk.store.zadd(bot.ids, {b"canary-answered": 1})
        assert misplaced(await walk.rows()) == {"ids": {"answered"}}

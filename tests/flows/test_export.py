"""/export: the archive, its upload, and where there is none."""

import json
from functools import partial
from pathlib import Path

import pytest

from bot import texts
from bot.privacy.export import Exporter
from tests.flows.archives import document_of, files
from tests.flows.conftest import World, serving, settings_of, until


async def test_the_export_holds_all_conversations(world: World) -> None:
    """Questions, answers, what was stopped, and the conversation that /new ended; for programs and for people."""
    customer = world.customer()
    await customer.asks("papa one <b>&")
    await customer.asks("/new")
    world.streams()
    customer.writes("papa two")
    await customer.draft()
    customer.writes("/stop")
    await customer.sees(3)
    world.at_ease()
    customer.writes("/export")
    found = await files(world, customer)
    made = {"conversations.json", "chat.html", "account.json", "schema.json", "manifest.json", "manifest.sig"}
    assert set(found) == made
    told = json.loads(found["conversations.json"])
    messages = [message for talk in told["conversations"] for message in talk["messages"]]
    assert [m["role"] for m in messages] == ["customer", "assistant"] * 2
    assert messages[0]["text"] == "papa one <b>&"
    assert messages[1]["text"] == "Answer to: papa one <b>&"
    assert messages[3]["state"] == "stopped"
    assert {message["model"] for message in messages if message["role"] == "assistant"} == {"offline"}
    assert len({message["version"] for message in messages if message["role"] == "assistant"}) == 1
    assert b"papa one &lt;b&gt;&amp;" in found["chat.html"]
    assert (await document_of(customer)).text == texts.EXPORT_CAPTION


async def test_two_exports_at_once_are_one(world: World) -> None:
    """Asked twice in one breath: one archive answers both."""
    customer = world.customer()
    await customer.asks("quebec")
    world.slow(0.5)
    customer.writes("quebec slow")
    await world.is_asked("quebec slow")
    customer.writes("/export")
    customer.writes("/export")
    await world.all_taken()
    await document_of(customer)
    world.at_ease()
    await customer.asks("quebec next")
    assert sum("document" in message.media for message in customer.shown) == 1


async def test_a_cut_upload_shows_one_document(world: World) -> None:
    """The document is found again by its caption, and not sent again."""
    customer = world.customer()
    await customer.asks("romeo")
    world.telegram.faults.add(method="sendDocument", kind="accept_then_cut", count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await document_of(customer)
    await customer.asks("romeo next")
    ever = world.telegram.messages(customer.chat_id, deleted=True)
    assert sum("document" in message.media for message in ever) == 1


async def test_nothing_to_export_and_not_in_a_group(world: World) -> None:
    """A sentence each."""
    customer = world.customer()
    assert await customer.asks("/export") == texts.EXPORT_NOTHING
    group = world.customer(-customer.chat_id)
    await group.asks("sierra")
    assert await group.asks("/export") == texts.EXPORT_PRIVATE


async def test_an_upload_that_telegram_refuses_midway_is_obeyed(world: World) -> None:
    """429 before the file was read: the export waits as long as it is told, and comes."""
    customer = world.customer()
    await customer.asks("sierra flood")
    world.telegram.faults.add(method="sendDocument", kind="429", seconds=1, count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await document_of(customer)
    tries = [call for call in world.telegram.calls if call.method == "sendDocument"]
    assert [call.status for call in tries] == [429, 200]
    assert tries[1].t - tries[0].t >= 1


async def test_a_forget_ends_an_export_that_is_on_its_way(world: World) -> None:
    """What it would have shown is being deleted: no document arrives."""
    customer = world.customer()
    await customer.asks("tango secret")
    press = await customer.asks_to_forget(texts.FORGET_ALL)
    world.telegram.faults.add(method="sendDocument", kind="429", seconds=4, count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await until(lambda: [call for call in world.telegram.calls if call.method == "sendDocument"], "the upload")
    press()
    assert "1 exchange" in (await customer.sees(3))[-1]
    await customer.asks("tango after")
    assert not any("document" in message.media for message in customer.shown)


async def test_an_upload_that_takes_long_is_shown(world: World) -> None:
    """As Telegram does: sending a file."""
    customer = world.customer()
    await customer.asks("uniform")
    world.telegram.faults.add(method="sendDocument", kind="slow", seconds=1.5, count=1, chat_id=customer.chat_id)
    customer.writes("/export")
    await until(lambda: [c for c in world.telegram.calls if c.params.get("action") == "upload_document"], "the sign", 5)
    await document_of(customer)


async def test_a_chat_that_takes_no_drafts_sees_typing(world: World) -> None:
    """A refused draft is no reason to show nothing."""
    customer = world.customer()
    world.streams(0.01)
    world.telegram.faults.add(method="sendMessageDraft", kind="400", count=1, chat_id=customer.chat_id)
    customer.writes("victor tell")
    await customer.sees(1)
    calls = [call for call in world.telegram.calls if call.chat_id == customer.chat_id]
    assert [call.status for call in calls if call.method == "sendMessageDraft"] == [400]
    assert any(call.method == "sendChatAction" for call in calls)


async def test_what_does_not_fit_into_one_document_comes_in_parts(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every turn once and in order, each part an archive of its own; a part whose upload was cut is not sent twice."""
    monkeypatch.setattr("bot.assembly.Exporter", partial(Exporter, part_bytes=1200))
    async with serving(settings_of(own_world, tmp_path)):
        customer = own_world.customer()
        for number in range(12):
            await customer.asks(f"whiskey m{number}")
        own_world.telegram.faults.add(method="sendDocument", kind="accept_then_cut", count=1)
        customer.writes("/export")
        customer.writes("whiskey end")
        await until(lambda: customer.texts[-1] == "Answer to: whiskey end", "the question behind it")
        documents = [message for message in customer.shown if "document" in message.media]
        captions = [texts.EXPORT_PART.format(part=n + 1, parts=len(documents)) for n in range(len(documents))]
        assert [document.text for document in documents] == captions
        assert len(captions) > 2
        told = [json.loads((await files(own_world, customer, n))["conversations.json"]) for n in range(len(documents))]
        texts_told = [m["text"] for part in told for talk in part["conversations"] for m in talk["messages"]]
        assert [text for text in texts_told if "Answer" not in text] == [f"whiskey m{number}" for number in range(12)]
        names = {document.media["document"]["file_name"] for document in documents}
        assert len(names) == len(documents)
        calls = [call for call in own_world.telegram.calls if call.method == "sendMessageDraft"]
        progress = texts.EXPORT_PROGRESS.format(part=1, parts=len(documents))
        assert any(call.params.get("text") == progress for call in calls), "the progress is shown"


async def test_an_export_goes_on_where_a_dead_worker_left_it(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts were fixed when it began: what was sent is not sent again, and the rest comes."""
    monkeypatch.setattr("bot.assembly.Exporter", partial(Exporter, part_bytes=500))
    settings = settings_of(own_world, tmp_path)
    async with serving(settings):
        customer = own_world.customer()
        for number in range(12):
            await customer.asks(f"xenon m{number}")
        customer.writes("/export")
        await until(lambda: sum("document" in message.media for message in customer.shown) >= 2, "two parts")
    begun = sum("document" in message.media for message in customer.shown)
    async with serving(settings):
        customer.writes("xenon end")
        await until(lambda: customer.texts[-1] == "Answer to: xenon end", "the question behind it")
    documents = [message for message in customer.shown if "document" in message.media]
    assert begun < len(documents)
    captions = [texts.EXPORT_PART.format(part=n + 1, parts=len(documents)) for n in range(len(documents))]
    assert [document.text for document in documents] == captions
    told = [json.loads((await files(own_world, customer, n))["conversations.json"]) for n in range(len(documents))]
    asked = [m["text"] for part in told for talk in part["conversations"] for m in talk["messages"]]
    assert [text for text in asked if "Answer" not in text] == [f"xenon m{number}" for number in range(12)]

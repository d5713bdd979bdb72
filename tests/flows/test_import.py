"""/import: an export comes back, and what is none stays out."""

import asyncio
import io
import json
import zipfile
from pathlib import Path

import pytest

from bot import texts
from storage.keys import Keys
from tests.flows.archives import document_of, exported
from tests.flows.conftest import Customer, Service, World, serving, settings_of, until


async def _archive(world: World, customer: Customer) -> bytes:
    """What /export gives now."""
    before = sum("document" in message.media for message in customer.shown)
    customer.writes("/export")
    await until(lambda: sum("document" in message.media for message in customer.shown) > before, "the export")
    message = await document_of(customer)
    kept = world.telegram.world()
    return kept.content_of(kept.files[message.media["document"]["file_id"]])


async def _sends(world: World, customer: Customer, content: bytes, caption: str = "/import") -> str:
    """Sends a file; what the bot says to it."""
    before = len(customer.texts)
    world.telegram.customer_sends_file(customer.chat_id, "document", content, name="conversations.zip", caption=caption)
    return (await customer.sees(before + 1))[-1]


async def _presses(customer: Customer, label: str) -> str:
    before = len(customer.texts)
    customer.presses(next(name for name in customer.buttons() if name.startswith(label)))
    return (await customer.sees(before + 1))[-1]


def _told(archive: bytes) -> list[tuple[str, ...]]:
    """What an archive's conversations say, without the numbers they go by."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        talks = json.loads(files.read("conversations.json"))["conversations"]
    return sorted(
        tuple(f"{message['role']} {message['id']} {message['time']} {message['text']}" for message in talk["messages"])
        for talk in talks
    )


async def test_what_was_forgotten_comes_back_only_when_asked_for(world: World) -> None:
    """The customer is told, and asked; then it is as it was, and the model remembers."""
    customer = world.customer()
    await customer.asks("alder one")
    await customer.asks("alder two")
    archive = await _archive(world, customer)
    await customer.asks("/forget")
    await _presses(customer, texts.FORGET_ALL)
    assert await customer.asks("/import") == texts.IMPORT_ASK
    offered = await _sends(world, customer, archive, caption="")
    assert "in this file: 2," in offered
    assert "Deleted by you: 2." in offered
    assert [label.split("(")[0].strip() for label in customer.buttons()] == ["Bring back deleted, too", "Cancel"]
    assert "taken in: 2" in await _presses(customer, "Bring back")
    assert _told(await _archive(world, customer)) == _told(archive)
    await customer.asks("alder three")
    assert "alder one" in str(world.asked("alder three")[0].messages)


async def test_the_same_file_twice_brings_nothing_twice(world: World) -> None:
    """Neither beside what it was made of, nor beside what it brought."""
    customer = world.customer()
    await customer.asks("birch one")
    archive = await _archive(world, customer)
    assert "Remembered already: 1." in await _sends(world, customer, archive)
    await customer.asks("/forget")
    await _presses(customer, texts.FORGET_ALL)
    await _sends(world, customer, archive)
    await _presses(customer, "Bring back")
    assert "Remembered already: 1." in await _sends(world, customer, archive)
    assert _told(await _archive(world, customer)) == _told(archive)


async def test_one_exchange_that_was_forgotten_stays_so_unless_asked_for(world: World) -> None:
    """The others of its conversation are there already."""
    customer = world.customer()
    asked = customer.writes("cedar one")
    await customer.sees(1)
    await customer.asks("cedar two")
    archive = await _archive(world, customer)
    await customer.asks("/forget", reply_to=asked)
    await _presses(customer, texts.FORGET_ONE)
    offered = await _sends(world, customer, archive)
    assert "New here: 0. Remembered already: 1." in offered
    await _presses(customer, texts.FORGET_CANCEL)
    assert customer.texts[-1] == texts.IMPORT_CANCELLED
    assert "cedar one" not in str(_told(await _archive(world, customer)))
    await _sends(world, customer, archive)
    await _presses(customer, "Bring back")
    assert "cedar one" in str(_told(await _archive(world, customer)))


async def test_every_file_that_is_none_of_ours_gets_its_own_sentence(world: World) -> None:
    """And nothing changes."""
    customer, other = world.customer(), world.customer()
    await customer.asks("douglas one")
    await other.asks("douglas other")
    archive, foreign = await _archive(world, customer), await _archive(world, other)
    assert await _sends(world, customer, foreign) == texts.IMPORT_NOT_YOURS
    assert await _sends(world, customer, archive[: len(archive) // 2]) == texts.IMPORT_NOT_WHOLE
    assert await _sends(world, customer, b"no archive at all") == texts.IMPORT_NOT_WHOLE
    assert await _sends(world, customer, _changed(archive, "conversations.json", b"douglas", b"digital")) == (
        texts.IMPORT_FORGED
    )
    bomb = _changed(archive, "conversations.json", b"douglas one", b"x" * 30_000_000)
    assert await _sends(world, customer, bomb) == texts.IMPORT_UNSAFE
    assert _told(await _archive(world, customer)) == _told(archive)


def _changed(archive: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """The archive with other words in one of its files."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as files, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as changed:
        for info in files.infolist():
            content = files.read(info)
            changed.writestr(info, content.replace(old, new) if info.filename == name else content)
    return made.getvalue()


async def test_an_archive_of_another_installation_is_foreign(own_world: World, tmp_path: Path, world: World) -> None:
    """The key that signed it is not ours."""
    customer = world.customer()
    await customer.asks("elm one")
    async with serving(settings_of(own_world, tmp_path)):
        elsewhere = own_world.customer(customer.chat_id)
        await elsewhere.asks("elm elsewhere")
        archive = await _archive(own_world, elsewhere)
    assert await _sends(world, customer, archive) == texts.IMPORT_FOREIGN


async def test_a_file_without_import_is_no_import(world: World) -> None:
    """It gets the sentence that any file gets; and a file that is too large is not fetched."""
    customer = world.customer()
    await customer.asks("fir one")
    archive = await _archive(world, customer)
    assert await _sends(world, customer, archive, caption="my file") == texts.ONLY_TEXT
    group = world.customer(-customer.chat_id)
    assert await group.asks("/import") == texts.IMPORT_PRIVATE


async def test_buttons_end_with_their_time_and_with_a_forget(world: World) -> None:
    """Nothing is taken in by a press that comes too late, or by somebody else."""
    customer = world.customer()
    await customer.asks("gum one")
    archive = await _archive(world, customer)
    await customer.asks("/forget")
    await _presses(customer, texts.FORGET_ALL)
    await _sends(world, customer, archive)
    message_id, data = customer.shown[-1].message_id, next(iter(customer.buttons().values()))
    late = ":".join([*data.split(":")[:3], "1", data.split(":")[4]])
    seen = len(customer.texts)
    for number, (pressed, user) in enumerate([(late, 0), (data, customer.chat_id + 5_000_000)]):
        world.telegram.customer_presses(customer.chat_id, message_id, pressed, user_id=user or None)
        expected = texts.NOT_YOURS if user else texts.IMPORT_EXPIRED
        assert (await customer.sees(seen + 1 + number))[-1] == expected
    await customer.asks("/forget")
    await _presses(customer, texts.FORGET_ALL)
    before = len(customer.texts)
    world.telegram.customer_presses(customer.chat_id, message_id, data)
    assert (await customer.sees(before + 1))[-1] == texts.IMPORT_EXPIRED


async def test_a_telegram_that_gives_no_file_is_told_of(world: World) -> None:
    """Nothing is lost: the customer sends it again."""
    customer = world.customer()
    await customer.asks("ivy one")
    archive = await _archive(world, customer)
    world.telegram.faults.add(method="getFile", kind="500", count=1)
    assert await _sends(world, customer, archive) == texts.IMPORT_UNFETCHED
    assert "Remembered already: 1." in await _sends(world, customer, archive)


async def test_a_forget_in_the_middle_of_an_import_wins(own_world: World, tmp_path: Path) -> None:
    """What was being taken in is gone with everything else, keys and all."""
    from bot.privacy.importer import Importer

    place, reached = Importer._place, asyncio.Event()

    async def slow(self: Importer, *arguments: object) -> None:
        await place(self, *arguments)  # type: ignore[arg-type]
        reached.set()
        await asyncio.sleep(30)

    settings = settings_of(own_world, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        async with serving(settings):
            customer = own_world.customer()
            await customer.asks("juniper one")
            archive = await _archive(own_world, customer)
            await customer.asks("/forget")
            await _presses(customer, texts.FORGET_ALL)
            await customer.asks("/forget")
            forget = (customer.shown[-1].message_id, customer.buttons()[texts.FORGET_ALL])
            await _sends(own_world, customer, archive)
            patch.setattr(Importer, "_place", slow)
            customer.presses(next(iter(customer.buttons())))
            await asyncio.wait_for(reached.wait(), 10)
            before = len(customer.texts)
            own_world.telegram.customer_presses(customer.chat_id, *forget)
            assert "Deleted on" in (await customer.sees(before + 1))[-1]
            await customer.asks("juniper after")
            assert "juniper one" not in str(own_world.asked("juniper after")[0].messages)
            assert "juniper one" not in str(_told(await _archive(own_world, customer)))


async def test_files_of_the_service_hold_nothing_of_an_archive(world: World, shared: Service) -> None:
    """Between offer and press only Telegram's name for the file is kept, sealed."""
    customer = world.customer()
    await customer.asks("kapok one")
    archive = await _archive(world, customer)
    await customer.asks("/forget")
    await _presses(customer, texts.FORGET_ALL)
    await _sends(world, customer, archive)
    async with shared.store() as client:
        keys = Keys(4242).of(customer.chat_id)
        fields = await client.hgetall(keys.chat)
        assert b"kapok" not in b"".join(bytes(value) for value in fields.values() if isinstance(value, bytes))
        assert any(bytes(name).startswith(b"offer:") for name in fields if isinstance(name, bytes))
    assert "kapok" not in await _text_of_export(world, customer)


async def _text_of_export(world: World, customer: Customer) -> str:
    await _archive(world, customer)
    return await exported(world, customer)


async def test_several_archives_at_once_are_each_asked_about(world: World) -> None:
    """The parts of an export come as they were sent: none is passed over, and every button means its own."""
    customer = world.customer()
    archives = []
    for word in ("larch one", "maple one"):
        await customer.asks(word)
        archives.append(await _archive(world, customer))
        await customer.asks("/forget")
        await _presses(customer, texts.FORGET_ALL)
    await customer.asks("/import")
    before = len(customer.texts)
    for archive in archives:
        world.telegram.customer_sends_file(customer.chat_id, "document", archive, name="conversations.zip")
    await customer.sees(before + 2)
    buttons = []
    for message in customer.shown[-2:]:
        rows = (message.markup or {})["inline_keyboard"]
        buttons.append((message.message_id, rows[0][0]["callback_data"]))
    for message_id, data in buttons:
        world.telegram.customer_presses(customer.chat_id, message_id, data)
    assert all("taken in: 1" in text for text in (await customer.sees(before + 4))[-2:])
    told = str(_told(await _archive(world, customer)))
    assert "larch one" in told
    assert "maple one" in told

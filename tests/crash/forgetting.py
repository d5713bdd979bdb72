"""Customers who have everything deleted again and again, while processes die and freeze around it.

What each of them asked falls into eras, which end with the press of the button. Behind the receipt nothing of an
earlier era may show up: in the chat, in what the model is told, in the store, in an export, or in any byte that can be
opened with the keys that are left.
"""

import asyncio
import io
import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from bot import texts
from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from bot.sandbox import ChatBehaviour, SeenMessage, TelegramServer
from storage.errors import SealBrokenError, StorageError
from tests.crash.haul import Haul, held_keys
from tests.crash.incident import PLOTS, Stagehand
from tests.crash.judge import Item
from tests.crash.ledger import Ledger
from tests.crash.model import LONG, MARKER
from tests.crash.stage import Cast, until
from tests.crash.storm import Round, Topology, Tripwires

_FIRST_CHAT: Final = 21
_MOST_CHATS: Final = 12
_ALL: Final = "erase:all:"
_ANSWER_SECONDS: Final = 1.2
_AWAKE_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 60.0
_OWN_WORDS: Final = (texts.FORGET_ASK, texts.EXPORT_CAPTION, texts.WAITING)
_WORDS: Final = re.compile(rb"Q\d+Q (?:please|at length)|to Q\d+Q after \d")

_PASSED: Final = (
    *("begin", "begin", "erase", "erase", "erased", "erased", "UNLINK", "UNLINK", "park", "LRANGE"),
    *("journal", "ask", "sendMessage", "sendMessageDraft", "finish", "register"),
)
FORGET_POINTS: Final = (*(f"{when}:{name}" for when in ("before", "after") for name in _PASSED), "write:sendMessage")


# ---- a customer who has everything deleted
async def button_of(telegram: TelegramServer, token: str, chat_id: int, seconds: float) -> tuple[int, str] | None:
    """Asks to forget; the message and the data of the button that deletes everything, once it is there."""
    asked = telegram.customer_writes(chat_id, "/forget", bot=token)
    found: list[tuple[int, str]] = []

    def there() -> bool:
        for seen in telegram.messages(chat_id, bot=token):
            rows = (seen.markup or {}).get("inline_keyboard", []) if seen.message_id > asked else []
            found.extend(
                (seen.message_id, button["callback_data"]) for [button] in rows if _ALL in button["callback_data"]
            )
        return bool(found)

    return found[0] if await until(there, seconds) else None


def receipts(seen: Iterable[SeenMessage]) -> int:
    """How many of the messages tell of a deletion."""
    return sum(texts.FORGOTTEN_MORE in (message.text or "") for message in seen)


async def _overslept(hand: Stagehand) -> None:
    """Everything is deleted while one process sleeps between claiming the chat and destroying the keys; what the
    customer writes then is answered before it wakes up, and asked about afterwards."""
    telegram, token = hand.house.telegram, hand.house.token
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    button = await button_of(telegram, token, hand.chat_id, _PATIENCE_SECONDS)
    assert button is not None
    await hand.idle()
    telegram.customer_presses(hand.chat_id, *button, bot=token)
    hand.crowd.ask(hand.chat_id)
    await hand.hear()
    await until(lambda: hand.victim.stops > 0 and not hand.victim.stopped.is_set(), _PATIENCE_SECONDS)
    await asyncio.sleep(_AWAKE_SECONDS)
    hand.crowd.ask(hand.chat_id)
    await hand.hear()


PLOTS["overslept"] = _overslept


@dataclass(slots=True)
class Life:
    """What one customer did. An era ends with each press; ``eras`` tells of each question in which it was asked."""

    chat_id: int
    era: int = 0
    eras: dict[str, int] = field(default_factory=dict)
    kept: list[Item] = field(default_factory=list)

    def asked(self, item: Item, *, kept: bool) -> Item:
        """``kept``: it is certainly answered, for nobody presses before."""
        self.eras[item.marker] = self.era
        if kept:
            self.kept.append(item)
        return item


class Forgets(Round):
    """Customers who chat and have everything deleted, again and again, while processes die and freeze.

    ``races``: how many deletions in all. What is found in the end stands among the report's leaks.
    """

    TRIPWIRES = Tripwires(spared=0.4, killed=0.5, worker=FORGET_POINTS, passages=(1, 2, 3, 5, 8, 13, 21))

    def __init__(self, cast: Cast, folder: Path, topology: Topology, seed: int, *, races: int) -> None:
        super().__init__(cast, folder, topology, seed, faults=0)
        self._races = races
        self._lives = {chat_id: Life(chat_id) for chat_id in range(_FIRST_CHAT, _FIRST_CHAT + min(_MOST_CHATS, races))}
        self._mixed: list[str] = []
        self._calm = False

    # ---- the world
    async def _first_start(self) -> None:
        self._chat.behaviour = ChatBehaviour(
            first_delay_seconds=0.02, jitter_seconds=0.2, chunk_seconds=0.03, chunk_words=40, answer=self._answer
        )
        await self._start_all()

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        """The model's, which must not be told of two eras at once."""
        told = set(MARKER.findall(str(messages)))
        found = {life.eras[marker] for life in self._lives.values() for marker in told if marker in life.eras}
        if len(found) > 1:
            self._mixed.append(f"the model was told of {sorted(told)} together")
        return self._model.answer(messages)

    # ---- the races
    async def _suffer(self) -> None:
        self._frozen = set()
        storm = asyncio.create_task(self._storm())
        try:
            shares = Counter(number % len(self._lives) for number in range(self._races))
            await asyncio.gather(*(self._live(life, shares[i]) for i, life in enumerate(self._lives.values())))
        finally:
            self._calm = True
            await storm  # not cancelled: it mends what it has broken

    async def _storm(self) -> None:
        while not self._calm:
            await asyncio.sleep(self._random.uniform(0.1, 1.0) * (0.9 if self._topology == "single" else 0.5))
            await self._strike()

    async def _live(self, life: Life, races: int) -> None:
        draw = random.Random(f"{self._seed} {life.chat_id}")
        for _ in range(races):
            if not await self._race(life, draw):
                self._report.unsettled.append(f"chat {life.chat_id}: nobody cared for it in era {life.era}")
                return

    async def _race(self, life: Life, draw: random.Random) -> bool:
        """A conversation, a deletion at a random moment of an answer, a question after it; False: given up."""
        chat_id, crowd = life.chat_id, self._crowd
        if draw.random() < 0.5:
            first = life.asked(crowd.ask(chat_id), kept=True)
            if not await until(lambda: self._answered(life, first), _PATIENCE_SECONDS):
                return False
        button = await button_of(self._telegram, self._house.token, chat_id, _PATIENCE_SECONDS)
        if button is None:
            return False
        item = life.asked(crowd.ask(chat_id, LONG), kept=False)
        await asyncio.sleep(draw.random() * _ANSWER_SECONDS)
        if draw.random() < 0.2:
            crowd.edit(chat_id, item)
        self._telegram.customer_presses(chat_id, *button, bot=self._house.token)
        life.era += 1
        await asyncio.sleep(draw.choice((0.0, draw.random() * 0.3)))
        after = life.asked(crowd.ask(chat_id), kept=True)
        return await until(lambda: self._answered(life, after), _PATIENCE_SECONDS)

    def _answered(self, life: Life, item: Item) -> bool:
        found = (self._model.pieces.get((message.text or "").strip()) for message in reversed(self._seen(life)))
        return any(item.marker in made[0].markers for made in found if made is not None)

    def _seen(self, life: Life) -> list[SeenMessage]:
        """What the bot's messages in a chat show now, oldest first."""
        return [message for message in self._telegram.messages(life.chat_id, bot=self._house.token) if message.from_bot]

    # ---- the end
    async def _settle(self) -> None:
        self._ending = True
        work = await self._quiet()
        exports = dict(zip(self._lives, await asyncio.gather(*map(self._exported, self._lives.values())), strict=True))
        work |= await self._quiet()
        if work:
            self._report.unsettled.append(f"{self._topology} {self._seed}: not done: {work}")
        found = list(self._mixed)
        async with self._ledger() as book:
            for life in self._lives.values():
                told = [*self._shown_wrongly(life), *await self._stored_wrongly(life, book)]
                told += [f"{word} was exported" for word in self._forgotten(life, exports[life.chat_id])]
                found += [f"{self._topology} {self._seed}: chat {life.chat_id}: {what}" for what in told]
        found += await self._readable()
        self._report.leaks += found
        self._report.verdict.questions += sum(len(life.eras) for life in self._lives.values())

    async def _quiet(self) -> dict[str, int]:
        """Until nothing is left to do; what is left after the longest time."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        work: dict[str, int] = {"unseen": 1}
        while work and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            try:
                async with self._ledger() as book:
                    work = await book.open_work(self._lives)
            except (StorageError, RedisError, OSError, LookupError):
                continue
            if pending := self._telegram.pending_updates(bot=self._house.token):
                work["pending"] = pending
        return work

    async def _exported(self, life: Life) -> str:
        """What an archive made now holds."""
        chat_id, token = life.chat_id, self._house.token
        self._telegram.customer_writes(chat_id, "/export", bot=token)
        found: list[str] = []

        def there() -> bool:
            found.extend(seen.media["document"]["file_id"] for seen in self._seen(life) if "document" in seen.media)
            return bool(found)

        if not await until(there, _PATIENCE_SECONDS):
            self._report.unsettled.append(f"chat {chat_id}: no export")
            return ""
        world = self._telegram.world(token)
        with zipfile.ZipFile(io.BytesIO(world.content_of(world.files[found[0]]))) as archive:
            return "".join(archive.read(name).decode() for name in archive.namelist())

    def _forgotten(self, life: Life, text: str) -> set[str]:
        """The questions of earlier eras in a text."""
        return {marker for marker in MARKER.findall(text) if life.eras.get(marker, life.era) < life.era}

    def _shown_wrongly(self, life: Life) -> Iterator[str]:
        """Whether each deletion has one receipt, and behind it stands nothing of before, each answer once."""
        told = 0
        shown: Counter[tuple[str, int]] = Counter()
        made_in: Counter[int] = Counter()
        for message in self._seen(life):
            text = (message.text or "").strip()
            told += receipts([message])
            if text not in self._model.pieces:
                if texts.FORGOTTEN_MORE not in text and not text.startswith(_OWN_WORDS):
                    yield f"message {message.message_id} belongs to nothing: {text[:80]!r}"
                continue
            made, piece = self._model.pieces[text]
            shown[made.tag, piece] += 1
            eras = {life.eras.get(marker) for marker in made.markers}
            if eras != {told}:
                yield f"{made.tag} to {made.markers} of era {eras} stands behind receipt {told}"
            if not piece:
                if made.before != made_in[told]:
                    yield f"{made.tag} was made with {made.before} turns in mind, there were {made_in[told]} in its era"
                made_in[told] += 1
        if told != life.era:
            yield f"{life.era} deletions, {told} receipts"
        yield from self._counted_wrongly(life, shown)

    def _counted_wrongly(self, life: Life, shown: Counter[tuple[str, int]]) -> Iterator[str]:
        """Whether what had to be answered is, and nothing twice. ``shown``: tags and numbers of the pieces."""
        for (tag, piece), number in shown.items():
            if number > 1:
                yield f"piece {piece} of {tag} stands {number} times"
        answers = Counter(marker for tag, piece in shown if not piece for marker in self._model.made[tag].markers)
        for marker in {*answers, *(item.marker for item in life.kept)}:
            if answers[marker] != 1:
                yield f"{marker} has {answers[marker]} answers"

    async def _stored_wrongly(self, life: Life, book: Ledger) -> list[str]:
        """Whether the store holds, and can open, the turns of the last era and no others."""
        keys = book.keys.of(life.chat_id)
        chat = await book.client.hgetall(keys.chat)
        number, last = int(chat.get(b"c:0", chat.get(b"base", 0))), int(chat.get(b"n:0", 0))
        talks = [name.decode() async for name in book.client.scan_iter(f"{keys.talks(0)}*")]
        wrong = [f"{name} is still there" for name in talks if name != keys.turns(0, number)]
        if b"forget" in chat or b"turn" in chat:
            wrong.append("something is still open")
        said = ""
        for turn in await book._history.read(life.chat_id, 0, number, 1, last):
            try:
                content = await book._vault.open_any(turn.record, turn_bound(life.chat_id, 0, number, turn.number))
                said += Record.unpacked(content).question
            except SealBrokenError:
                wrong.append(f"turn {turn.number} of the last era cannot be read")
        wrong += [f"{marker} is still stored" for marker in self._forgotten(life, said)]
        owed = [item.marker for item in life.kept if life.eras[item.marker] == life.era and item.marker not in said]
        return [*wrong, *(f"{marker} is not stored" for marker in owed)]

    async def _readable(self) -> list[str]:
        """What any byte of any file still gives, with every key that is held."""
        keys = await held_keys(self._house.master_key_file, self._house.keyring_url)
        haul = await asyncio.to_thread(Haul, self._folder)
        read = await asyncio.to_thread(haul.opened, keys, _WORDS)
        said = b" ".join(read).decode()
        if not read:
            return ["the search finds nothing, not even what is kept"]
        gone = {word for life in self._lives.values() for word in self._forgotten(life, said)}
        return [f"{word} can still be opened" for word in gone]

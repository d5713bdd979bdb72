"""What the law gives people, carried out for them by an operator: over the admin API, or by a command.

Nothing of a chat is changed here. What changes it is posted into the chat's own mailbox and done by a worker in the
chat's order, so that it meets neither an answer in flight nor another request; a receipt tells what became of it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson

from bot.conversation.post import Post
from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from bot.privacy.account import account_of
from bot.privacy.archive import archive, file_name
from bot.privacy.content import About, Account
from bot.privacy.document import document
from bot.privacy.export import Exporter, Extent, about_part
from bot.privacy.intake import IntakeError, Offer, Reason, examined
from bot.privacy.seal import Seal
from bot.privacy.staging import Staging, claimed_chat
from bot.texts import Words, language_of
from storage.errors import SealBrokenError
from storage.history import History
from storage.journal import Journal
from storage.keynames import DAY_SECONDS
from storage.keys import Keys
from storage.receipts import Receipt, Receipts, fresh_id
from storage.scripts import Store
from storage.vault import Vault

MOST_CHAT_ID: Final = 2**52
"""Telegram's ids have at most 52 significant bits (Bot API, "Chat")."""

EXPORT_SECONDS: Final = 24 * 3600
DUE_MS: Final = 30 * 86_400_000
"""One month to carry a request out (GDPR, Art. 12 (3)); the shortest a month of the calendar can be taken for."""

_EXPORT_KEY: Final = "export"
_KEYS_AT_ONCE: Final = 500
_TURNS_LOOKED_AT: Final = 20
_CAUSES: Final = 2**53
"""What we post is not caused by an update: its numbers lie beyond any update's."""


@dataclass(frozen=True, slots=True)
class Export:
    """One that was asked for. ``gone``: the chat was forgotten since, and nothing of it can be had any more."""

    id: str
    chat_id: int
    made_s: int = 0
    bot: str = ""
    language: str = ""
    epoch: int = 0
    parts: tuple[Extent, ...] = ()
    gone: bool = False

    @property
    def expires_s(self) -> int:
        return self.made_s + EXPORT_SECONDS


@dataclass(frozen=True, slots=True)
class Page:
    """Requests, newest first; ``before_ms`` leads to those behind them, 0 where there are none."""

    requests: tuple[Receipt, ...]
    before_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of a chat: conversations, their turns, messages not read yet; when the newest turn was said (s; 0:
    not known, or none)."""

    conversations: int
    turns: int
    waiting: int
    newest_s: int


@dataclass(frozen=True, slots=True)
class Preview:
    """An archive that may be read back, and the chat it is of."""

    chat_id: int
    offer: Offer


class Rights:
    """Raises StorageError. ``name`` gives the bot's own name, as archives tell it; without a ``seal`` archives are not
    signed."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        vault: Vault,
        *,
        post: Post,
        receipts: Receipts,
        name: Callable[[], Awaitable[str]],
        seal: Seal | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._vault = vault
        self._post = post
        self._name = name
        self._words = Words()
        self._journal = Journal(store, keys, sweep_after=())
        self._history = History(store, keys)
        self._exporter = Exporter(self._journal, self._history, vault)
        self._receipts = receipts
        self._seal = seal
        self._staging = Staging(store, keys, vault)

    # ---- access
    async def data(self, chat_id: int) -> AsyncGenerator[bytes, None] | None:
        """Everything kept of a chat as one JSON document; None where nothing is."""
        state = await self._journal.look(chat_id)
        parts = await self._exporter.plan(state)
        account = await account_of(state, self._vault, self._receipts)
        if not parts and account == Account():
            return None
        about = About(await self._name(), chat_id, int(time.time()), 1, 1, "en", bot_id=self._keys.bot_id)
        return document(about, account, self._exporter.entries(state, _joined(parts)))

    # ---- erasure
    async def erase(self, chat_id: int, by: str, *, notify: bool) -> str | None:
        """Asks for everything of a chat to be deleted; the receipt's id, None for a chat that was never met.

        ``by`` as in ``Receipt``; ``notify``: the customer is told in the chat. Asked again it is done again.
        """
        if not await self.is_known(chat_id):
            return None
        receipt = self._opened("erasure", by, scope="everything")
        # The receipt first: a worker may be done with the order before this call is.
        await self._receipts.put(chat_id, receipt)
        await self._post.order(chat_id, _cause(), {"receipt": receipt.id, "quiet": not notify})
        return receipt.id

    async def is_known(self, chat_id: int) -> bool:
        """Whether the bot ever had anything to do with a chat."""
        keys = self._keys.of(chat_id)
        return bool(await self._store.call("EXISTS", keys.chat, keys.mail))

    async def held(self, chat_id: int) -> Held:
        """How much is kept of a chat, and how old the newest of it is."""
        state = await self._journal.look(chat_id)
        talks = [(topic, state.conversation_of(topic), last) for topic, last in state.last.items() if last]
        talks += await self._journal.past(chat_id)
        newest = [await self._said_s(chat_id, *talk) for talk in talks]
        waiting = int(await self._store.call("LLEN", self._keys.of(chat_id).mail))
        return Held(len(talks), sum(last for _, _, last in talks), waiting, max(newest, default=0))

    async def _said_s(self, chat_id: int, topic: int, conversation: int, last: int) -> int:
        """When the last turn of a conversation was said, which may have been removed since; 0: that cannot be told."""
        turns = await self._history.read(chat_id, topic, conversation, max(1, last - _TURNS_LOOKED_AT + 1), last)
        if not turns:
            return 0
        turn = turns[-1]
        if turn.day:
            return (turn.day + 1) * DAY_SECONDS  # that day's end: nothing is older than it is
        try:
            content = await self._vault.open_any(turn.record, turn_bound(chat_id, topic, conversation, turn.number))
        except SealBrokenError:
            return 0
        record = Record.unpacked(content)
        said = record.more.get("t")
        return max([asked.date for asked in record.asked] + ([said] if isinstance(said, int) else []), default=0)

    async def chats(self) -> AsyncGenerator[int, None]:
        """All chats that the bot ever met, in no order; each step looks at some hundred keys."""
        cursor = b"0"
        while True:
            pattern = f"tg:{{{self._keys.bot_id}.*}}:chat:*"
            cursor, names = await self._store.call("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_AT_ONCE)
            for name in names:
                yield int(name.rpartition(b":")[2])
            if int(cursor) == 0:
                return

    # ---- exports
    async def request_export(self, chat_id: int, by: str) -> Export | None:
        """Fixes what an export holds; its parts can be had for a day. None where nothing is kept."""
        state = await self._journal.look(chat_id)
        parts = await self._exporter.plan(state)
        if not parts and await account_of(state, self._vault, self._receipts) == Account():
            return None
        parts = parts or [[]]  # no conversation, and yet something
        receipt = self._opened("export", by)
        language = state.chosen or state.language
        made_s = receipt.asked_ms // 1000
        export = Export(
            receipt.id, chat_id, made_s, await self._name(), language, state.epoch, tuple(map(_extent, parts))
        )
        # Under a key of the chat: its forget takes the export along, and nothing has to look for it.
        key = await self._vault.key(chat_id, _EXPORT_KEY)
        sealed = self._vault.seal(key, _packed(export), _export_bound(export))
        await self._store.call("SET", self._keys.export(export.id), b"%d|%b" % (chat_id, sealed), "EX", EXPORT_SECONDS)
        await self._receipts.put(chat_id, replace(receipt, done_ms=receipt.asked_ms, counts={"parts": len(parts)}))
        return export

    async def export(self, export_id: str) -> Export | None:
        """One that was asked for in the last day; None where there is none of that id."""
        held = await self._store.call("GET", self._keys.export(export_id))
        if held is None:
            return None
        chat, sealed = bytes(held).split(b"|", 1)
        export = Export(export_id, int(chat), gone=True)
        try:
            plan = orjson.loads(await self._vault.open_any(sealed, _export_bound(export)))
        except SealBrokenError:
            return export
        # The plan may have been made right before a forget, and sealed right after it.
        if plan["epoch"] != (await self._journal.look(export.chat_id)).epoch:
            return export
        parts = tuple(map(_extent, plan.pop("parts")))
        return Export(export_id, export.chat_id, parts=parts, **plan)

    async def export_part(self, export: Export, part: int) -> tuple[str, AsyncGenerator[bytes, None]]:
        """The name and the content of a part, from 1 on: a zip that is made while it is read."""
        state = await self._journal.look(export.chat_id)
        plan = {"made": export.made_s, "parts": export.parts}
        about = replace(
            about_part(plan, part, bot=export.bot, chat_id=export.chat_id, language=language_of(export.language)),
            bot_id=self._keys.bot_id,
        )
        content = archive(
            about,
            partial(self._exporter.entries, state, export.parts[part - 1]),
            lambda text: self._words.worded(text, export.language),
            account=await account_of(state, self._vault, self._receipts),
            seal=self._seal,
        )
        return file_name(about), content

    # ---- restoring
    async def preview(self, content: bytes) -> Preview:
        """What an archive of this installation offers, and to which chat. Raises IntakeError."""
        if self._seal is None:
            raise IntakeError(Reason.FOREIGN, "nothing is signed here")
        chat_id = claimed_chat(content)
        examine = partial(examined, content, seal=self._seal, bot_id=self._keys.bot_id, chat_id=chat_id)
        return Preview(chat_id, await asyncio.to_thread(examine))

    async def submit_import(self, chat_id: int, content: bytes, by: str) -> str:
        """Has an archive that was looked at read back into its chat; the request's id."""
        receipt = self._opened("import", by)
        await self._staging.put(chat_id, receipt.id, content)
        await self._receipts.put(chat_id, receipt)
        await self._post.letter(chat_id, _cause(), {"kind": "import", "chat_id": 0, "name": receipt.id})
        return receipt.id

    # ---- receipts
    async def receipt(self, receipt_id: str) -> Receipt | None:
        return await self._receipts.read(receipt_id)

    async def requests(self, most: int, before_ms: int = 0) -> Page:
        """A page of all requests. Such as were asked for in the same millisecond are never torn apart."""
        highest = f"({before_ms}" if before_ms else "+inf"
        room = most + 1
        while True:
            page = (self._keys.requests, highest, "-inf", "WITHSCORES", "LIMIT", 0, room)
            flat = await self._store.call("ZREVRANGEBYSCORE", *page)
            listed = [(bytes(name).decode(), int(score)) for name, score in _pairs(flat)]
            is_all = len(listed) < room
            border = 0 if is_all else listed[-1][1]
            kept = [name for name, asked_ms in listed if asked_ms > border]
            if kept or is_all:
                found = await asyncio.gather(*map(self._receipts.read, kept))
                return Page(tuple(receipt for receipt in found if receipt is not None), 0 if is_all else border + 1)
            room *= 2

    def _opened(self, kind: str, by: str, scope: str = "") -> Receipt:
        now_ms = int(time.time() * 1000)
        return Receipt(fresh_id(), kind, by, now_ms, now_ms + DUE_MS, scope)


def _pairs(flat: Any) -> list[tuple[bytes, float]]:
    """Members and scores, as a client of either protocol gives them."""
    if flat and isinstance(flat[0], list | tuple):
        return [(name, float(score)) for name, score in flat]
    return [(name, float(score)) for name, score in zip(flat[::2], flat[1::2], strict=True)]


def _cause() -> int:
    return _CAUSES + secrets.randbits(50)


def _extent(runs: Any) -> Extent:
    return [(int(topic), int(number), int(first), int(last)) for topic, number, first, last in runs]


def _joined(parts: list[Extent]) -> Extent:
    """All parts as one: a conversation that was split is whole again."""
    joined: Extent = []
    for topic, number, first, last in (run for part in parts for run in part):
        begun = joined.pop()[2] if joined and joined[-1][:2] == (topic, number) else first
        joined.append((topic, number, begun, last))
    return joined


def _packed(export: Export) -> bytes:
    return orjson.dumps(
        {
            "made_s": export.made_s,
            "bot": export.bot,
            "language": export.language,
            "epoch": export.epoch,
            "parts": export.parts,
        }
    )


def _export_bound(export: Export) -> str:
    return f"{export.chat_id}|export|{export.id}"

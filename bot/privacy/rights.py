"""What the law gives people, carried out for them by an operator: over the admin API, or by a command.

Nothing of a chat is changed here. What changes it is posted into the chat's own mailbox and done by a worker in the
chat's order, so that it meets neither an answer in flight nor another request; a receipt tells what became of it.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson

from bot.conversation.post import Post
from bot.privacy.archive import archive, file_name
from bot.privacy.content import iso, moment
from bot.privacy.document import document
from bot.privacy.export import Exporter, Extent, about_part
from bot.texts import Words
from storage.errors import SealBrokenError
from storage.history import History
from storage.inbox import Ready
from storage.journal import ChatState, Journal
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
_CAUSES: Final = 2**53
"""Letters of ours are not caused by an update: their causes lie beyond any update's number."""


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


class Rights:
    """Raises StorageError. ``name`` gives the bot's own name, as archives tell it."""

    def __init__(self, store: Store, keys: Keys, vault: Vault, post: Post, name: Callable[[], Awaitable[str]]) -> None:
        self._store = store
        self._keys = keys
        self._vault = vault
        self._post = post
        self._name = name
        self._words = Words()
        self._journal = Journal(store, keys, sweep_after=())
        self._exporter = Exporter(self._journal, History(store, keys), vault)
        self._receipts = Receipts(store, keys)

    # ---- access
    async def data(self, chat_id: int) -> AsyncGenerator[bytes, None] | None:
        """Everything kept of a chat as one JSON document; None where nothing is."""
        state = await self._state(chat_id)
        parts = await self._exporter.plan(state)
        account = await self._account(state)
        if not parts and not any(account.values()):
            return None
        made = moment(int(time.time()))
        assert made is not None
        origin = {"made": iso(made), "bot": await self._name(), "chat_id": chat_id}
        return document(origin, account, self._exporter.entries(state, _joined(parts)))

    async def _account(self, state: ChatState) -> dict[str, Any]:
        """What is kept of a chat beside its conversations."""
        language = state.chosen or state.language
        receipts = await self._receipts.of(state.ready.chat_id)
        return {"settings": {"language": language} if language else {}, "receipts": [told(one) for one in receipts]}

    # ---- erasure
    async def erase(self, chat_id: int, by: str, *, notify: bool) -> str | None:
        """Asks for everything of a chat to be deleted; the receipt's id, None for a chat that was never met.

        ``by`` as in ``Receipt``; ``notify``: the customer is told in the chat. Asked again it is done again.
        """
        if not await self.is_known(chat_id):
            return None
        receipt = self._opened("erasure", by, scope="everything")
        # The receipt first: a worker may be done with the letter before this call is.
        await self._receipts.put(chat_id, receipt)
        await self._send(chat_id, "erase", receipt.id, "notify" if notify else "")
        return receipt.id

    async def is_known(self, chat_id: int) -> bool:
        """Whether the bot ever had anything to do with a chat."""
        keys = self._keys.of(chat_id)
        return bool(await self._store.call("EXISTS", keys.chat, keys.mail))

    async def _send(self, chat_id: int, kind: str, request_id: str, text: str) -> None:
        letter = {"kind": kind, "chat_id": 0, "name": request_id, "text": text}
        await self._post.letter(chat_id, _CAUSES + secrets.randbits(50), letter)

    # ---- exports
    async def request_export(self, chat_id: int, by: str) -> Export | None:
        """Fixes what an export holds; its parts can be had for a day. None where nothing is kept."""
        state = await self._state(chat_id)
        parts = await self._exporter.plan(state)
        if not parts:
            return None
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
        if plan["epoch"] != (await self._state(export.chat_id)).epoch:
            return export
        parts = tuple(map(_extent, plan.pop("parts")))
        return Export(export_id, export.chat_id, parts=parts, **plan)

    async def export_part(self, export: Export, part: int) -> tuple[str, AsyncGenerator[bytes, None]]:
        """The name and the content of a part, from 1 on: a zip that is made while it is read."""
        state = await self._state(export.chat_id)
        plan = {"made": export.made_s, "parts": export.parts}
        about = about_part(plan, part, bot=export.bot, chat_id=export.chat_id, language=export.language or "en")
        entries = partial(self._exporter.entries, state, export.parts[part - 1])
        return file_name(about), archive(about, entries, lambda text: self._words.worded(text, export.language))

    # ---- receipts
    async def receipt(self, receipt_id: str) -> Receipt | None:
        return await self._receipts.read(receipt_id)

    async def requests(self, most: int, before_ms: int = 0) -> Page:
        """A page of all requests. Such as were asked for in the same millisecond are never torn apart."""
        room = most + 1
        while True:
            found = await self._receipts.newest(room, before_ms=before_ms)
            if len(found) < room:
                return Page(tuple(found), 0)
            border = found[-1].asked_ms
            kept = [receipt for receipt in found if receipt.asked_ms > border]
            if kept:
                return Page(tuple(kept), border + 1)
            room *= 2

    def _opened(self, kind: str, by: str, scope: str = "") -> Receipt:
        now_ms = int(time.time() * 1000)
        return Receipt(fresh_id(), kind, by, now_ms, now_ms + DUE_MS, scope)

    # ---- the chat
    async def _state(self, chat_id: int) -> ChatState:
        """What a chat is now, without claiming it: whoever reads only needs no fence."""
        flat = await self._store.call("HGETALL", self._keys.of(chat_id).chat)
        fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        held = {name.decode(): value for name, value in fields.items()}
        return ChatState(
            ready=Ready(chat_id, ""),
            fence=0,
            epoch=int(held.get("epoch", 0)),
            now_ms=int(time.time() * 1000),
            mail=[],
            open_turn=None,
            blocked_ms=0,
            claims=0,
            last=_numbers(held, "n:"),
            first=_numbers(held, "s:"),
            conversation=_numbers(held, "c:"),
            base=int(held.get("base", 0)),
            newest=int(held.get("newest", 0)),
            chosen=held.get("chosen", b"").decode(),
            language=held.get("language", b"").decode(),
        )


def told(receipt: Receipt) -> dict[str, Any]:
    """A receipt as programs read it: times in ISO 8601 UTC, null where something has not happened yet."""
    return {
        "id": receipt.id,
        "kind": receipt.kind,
        "by": receipt.by,
        "scope": receipt.scope or None,
        "asked": _iso(receipt.asked_ms),
        "done": _iso(receipt.done_ms),
        "due": _iso(receipt.due_ms),
        "counts": receipt.counts,
        "beyond": {what: _iso(until_ms) for what, until_ms in receipt.beyond.items()},
        "providers": {"asked": receipt.asked, "confirmed": receipt.confirmed, "given_up": receipt.given_up},
    }


def _iso(ms: int) -> str | None:
    time = moment(ms // 1000)
    return iso(time) if time else None


def _numbers(held: dict[str, bytes], prefix: str) -> dict[int, int]:
    return {int(name[len(prefix) :]): int(value) for name, value in held.items() if name.startswith(prefix)}


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

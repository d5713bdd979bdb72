"""What a customer's export holds, read from the store page by page, so that its length costs no memory.

The extent is fixed when the export begins and journaled with it: a successor sends the same parts.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from bot.conversation.notebook import notes_bound
from bot.conversation.notes import Notes
from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from bot.privacy.archive import About, Entry, Noted
from bot.texts import N_
from storage.errors import SealBrokenError
from storage.history import REMOVED, History
from storage.journal import ChatState, Journal
from storage.vault import Vault

_PAGE: Final = 200
_SIZES_AT_ONCE: Final = 1000
_PART_BYTES: Final = 10 * 2**20
"""Of sealed turns. A part holds them twice, as JSON and as a page, and a bot can fetch no more than 20 MB (Bot API,
getFile): what was sent can be sent back also where hardly anything can be compressed, as a test shows."""
_LEAST_BYTES: Final = 128
"""What a turn counts for at least: one that is lost is told of, too."""

UNOPENED: Final = N_("Its key is not there, or it was altered.")
MISSING: Final = N_("It is no longer in the store.")

Extent = list[tuple[int, int, int, int]]
"""Topic, conversation, first and last turn."""


class Exporter:
    """Plans and reads exports. Raises StorageError."""

    def __init__(self, journal: Journal, history: History, vault: Vault, *, part_bytes: int = _PART_BYTES) -> None:
        self._journal = journal
        self._history = history
        self._vault = vault
        self._part_bytes = part_bytes

    async def plan(self, state: ChatState) -> list[Extent]:
        """The parts, each small enough to be sent back as one document; none when nothing is kept."""
        talks = await self._journal.past(state.ready.chat_id)
        talks += [(topic, state.conversation_of(topic), last) for topic, last in state.last.items() if last]
        parts: list[Extent] = []
        room = 0
        for topic, number, last in sorted(talks):
            first = 0
            async for turn, size in self._sizes(state, topic, number, last):
                if not first and size <= len(REMOVED):
                    continue  # what is older than the oldest turn kept is no loss
                counted = max(size, _LEAST_BYTES)
                if counted > room:
                    if first:
                        parts[-1].append((topic, number, first, turn - 1))
                        first = turn
                    parts.append([])
                    room = self._part_bytes
                first = first or 1
                room -= counted
            if first:
                parts[-1].append((topic, number, first, last))
        return parts

    async def entries(self, state: ChatState, extent: Extent) -> AsyncIterator[Entry | Noted]:
        """The turns of one part, opened; those that do not open are named, unless they were removed or are older than
        all that is kept. Behind the first turns of a conversation come the notes on it: what they say is of these."""
        chat_id = state.ready.chat_id
        for topic, number, first, last in extent:
            has_begun = first > 1
            for at in range(first, last + 1, _PAGE):
                for entry in await self._page(chat_id, topic, number, at, min(at + _PAGE - 1, last)):
                    has_begun = has_begun or entry.reason != MISSING
                    if has_begun:
                        yield entry
            if first == 1 and (noted := await self._noted(chat_id, topic, number)):
                yield noted

    async def _page(self, chat_id: int, topic: int, number: int, first: int, last: int) -> list[Entry]:
        turns = await self._history.read(chat_id, topic, number, first, last)
        is_whole = len(turns) == last - first + 1
        removed = set() if is_whole else await self._history.removed(chat_id, topic, number, first, last)
        bound = [(turn.record, turn_bound(chat_id, topic, number, turn.number)) for turn in turns]
        opened = await self._vault.open_all(bound)
        found = {
            turn.number: Entry(topic, number, turn.number, Record.unpacked(content), turn.answer_ids)
            if content is not None
            else Entry(topic, number, turn.number, None, turn.answer_ids, UNOPENED)
            for turn, content in zip(turns, opened, strict=True)
        }
        if is_whole:
            return list(found.values())
        return [found.get(place) or _hole(topic, number, place, removed) for place in range(first, last + 1)]

    async def _noted(self, chat_id: int, topic: int, number: int) -> Noted | None:
        """The notes on a conversation. Such as do not open say nothing that its turns do not say."""
        sealed = await self._history.notes(chat_id, topic, number)
        if not sealed:
            return None
        try:
            notes = Notes.unpacked(await self._vault.open_any(sealed, notes_bound(chat_id, topic, number)))
        except SealBrokenError:
            return None
        return Noted(topic, number, notes.upto, notes.statements, notes.fresh or notes.summary)

    async def _sizes(self, state: ChatState, topic: int, number: int, last: int) -> AsyncIterator[tuple[int, int]]:
        for at in range(1, last + 1, _SIZES_AT_ONCE):
            upto = min(at + _SIZES_AT_ONCE - 1, last)
            sizes = await self._history.sizes(state.ready.chat_id, topic, number, at, upto)
            for turn, size in enumerate(sizes, at):
                yield turn, size


def _hole(topic: int, number: int, place: int, removed: set[int]) -> Entry:
    is_gone = place in removed
    return Entry(topic, number, place, None, (), "" if is_gone else MISSING, is_gone)


def about_part(plan: dict[str, Any], part: int, *, bot: str, chat_id: int, language: str, bot_id: int = 0) -> About:
    """The heading of one part."""
    return About(bot, chat_id, plan["made"], part, len(plan["parts"]), language, bot_id=bot_id)

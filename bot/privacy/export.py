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
from storage.history import History
from storage.journal import ChatState, Journal
from storage.vault import Vault

_PAGE: Final = 100
_SIZES_AT_ONCE: Final = 1000
_PART_BYTES: Final = 12 * 2**20
"""Of sealed turns. A part holds them twice, as JSON and as a page, and stays below Telegram's 50 MB also where nothing
can be compressed."""

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
        """The parts, each small enough for one document; none when nothing is kept."""
        talks = await self._journal.past(state.ready.chat_id)
        talks += [(topic, state.conversation_of(topic), last) for topic, last in state.last.items() if last]
        parts: list[Extent] = []
        room = 0
        for topic, number, last in sorted(talks):
            first = 1
            async for turn, size in self._sizes(state, topic, number, last):
                if size > room and turn > first:
                    parts[-1].append((topic, number, first, turn - 1))
                    first = turn
                if size > room:
                    parts.append([])
                    room = self._part_bytes
                room -= size
            if last >= first:
                parts[-1].append((topic, number, first, last))
        return parts

    async def entries(self, state: ChatState, extent: Extent) -> AsyncIterator[Entry | Noted]:
        """The turns of one part, opened; those that do not open are named. Behind the first turns of a conversation
        come the notes on it: what they say is of these."""
        chat_id = state.ready.chat_id
        for topic, number, first, last in extent:
            for at in range(first, last + 1, _PAGE):
                upto = min(at + _PAGE - 1, last)
                turns = await self._history.read(chat_id, topic, number, at, upto)
                bound = [(turn.record, turn_bound(chat_id, topic, number, turn.number)) for turn in turns]
                opened = await self._vault.open_all(bound)
                found = {turn.number: (turn, content) for turn, content in zip(turns, opened, strict=True)}
                for place in range(at, upto + 1):
                    turn, content = found.get(place, (None, None))
                    record = Record.unpacked(content) if content is not None else None
                    reason = "" if record else UNOPENED if turn else MISSING
                    yield Entry(topic, number, place, record, turn.answer_ids if turn else (), reason)
            if first == 1 and (noted := await self._noted(chat_id, topic, number)):
                yield noted

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
                yield turn, max(1, size)


def about_part(plan: dict[str, Any], part: int, *, bot: str, chat_id: int, language: str) -> About:
    """The heading of one part."""
    return About(bot, chat_id, plan["made"], part, len(plan["parts"]), language)

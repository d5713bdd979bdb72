"""Keeps the notes on conversations: sealed beside them, read where a window does not begin at the first turn.

Notes say nothing that the stored turns do not say, so they are written when they are needed and made anew when a turn
that they cover is corrected. Who writes them replaces only what it read: a summary that a model took long over does not
undo what was noted meanwhile.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from bot.chat_api.asking import Ask
from bot.chat_api.client import ChatApi
from bot.conversation.context import STATEMENTS_PART, Context
from bot.conversation.notes import Notes, Past, summary_request
from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from bot.errors import ChatApiError
from bot.logs import get_logger
from storage.datakey import DataKey
from storage.errors import SealBrokenError, StorageError
from storage.history import History
from storage.journal import ChatState
from storage.vault import Vault

_CHATS_REMEMBERED: Final = 500
_PAGE: Final = 200
_FEW: Final = 10
_TRIES: Final = 5
_Mark = tuple[int, int, int]
_Place = tuple[int, int, int]
_log = get_logger(__name__)


class Notebook:
    """``chat_api``: writes summaries; None where none are wanted. ``budget``: of a request, in tokens. Raises
    StorageError."""

    def __init__(self, history: History, vault: Vault, chat_api: ChatApi | None, budget: int) -> None:
        self._history = history
        self._vault = vault
        self._chat_api = chat_api
        self._budget = budget
        self._memory: OrderedDict[tuple[int, int, int], tuple[_Mark, Notes]] = OrderedDict()

    async def read(self, state: ChatState, topic: int) -> Notes | None:
        """The notes on the current conversation of a topic; None where nothing of it was left out yet."""
        if state.first.get(topic, 1) <= 1:
            return None
        place = _place(state, topic)
        known = self._memory.get(place)
        if known is not None and known[0] == _mark(state, topic):
            return known[1]  # at most without a summary that another process had written
        sealed, notes = await self._read(state, place)
        return notes if sealed else None

    async def keep(self, state: ChatState, topic: int, context: Context, notes: Notes | None) -> bool:
        """Stores the notes of a context that was trimmed, where they are others than those that were read."""
        if context.notes is None or context.notes is notes:
            return False
        place = _place(state, topic)
        sealed, _ = await self._read(state, place)
        return await self._write(state, place, sealed, context.notes)

    async def summarise(self, state: ChatState, topic: int, dropped: Sequence[Past]) -> None:
        """Lets the model sum up what was just left out. Beside the turn: it may take its time, and may fail."""
        if self._chat_api is None or self._chat_api.keeps or not dropped:
            return
        place = _place(state, topic)
        try:
            sealed, notes = await self._read(state, place)
            answer = await self._chat_api.ask(Ask(summary_request(notes, list(dropped))), lambda _: None)
            await self._write(state, place, sealed, notes.with_summary(answer.text))
        except (ChatApiError, StorageError) as error:
            _log.info("notes.without_summary", error=type(error).__name__)

    async def rebuild(self, state: ChatState, topic: int, turn: int, *, conversation: int | None = None) -> None:
        """Makes the notes anew after a correction or a removal of a turn that they cover; of the topic's current
        conversation, unless another one is named."""
        place = (state.ready.chat_id, topic, state.conversation_of(topic) if conversation is None else conversation)
        for _ in range(_TRIES):  # a summary that comes in meanwhile is of the words as they were
            sealed, notes = await self._read(state, place)
            if not sealed or turn > notes.upto > 0:
                return
            fresh = Notes()
            for first in range(state.oldest.get(place[1:], 1), notes.upto + 1, _PAGE):
                past = await self._past(place, first, min(first + _PAGE - 1, notes.upto))
                fresh = fresh.grown(past, self._budget // STATEMENTS_PART)
            if await self._write(state, place, sealed, fresh):
                return

    async def remove(self, chat_id: int, conversations: Sequence[tuple[int, int]] | None) -> None:
        """Removes the notes on conversations (topic, number), None for all."""
        await self._history.unnote(chat_id, conversations)
        for place in [place for place in self._memory if place[0] == chat_id]:
            del self._memory[place]

    async def _read(self, state: ChatState, place: _Place) -> tuple[bytes, Notes]:
        """The sealed notes and what they say; empty ones where there are none, or none that open."""
        sealed = await self._history.notes(*place)
        if not sealed:
            return b"", Notes()
        try:
            notes = Notes.unpacked(await self._vault.open_any(sealed, notes_bound(*place)))
        except SealBrokenError:
            return sealed, Notes()
        self._remember(state, place, notes)
        return sealed, notes

    async def _write(self, state: ChatState, place: _Place, old: bytes, notes: Notes) -> bool:
        """Under the key of the oldest turn that they are of: they end with it, and are made anew from the others."""
        _, topic, conversation = place
        key = await self._oldest_key(place, state.oldest.get((topic, conversation), 1), notes.upto)
        # Without a key nothing is left that they could be of, or it was forgotten meanwhile.
        fresh = self._vault.seal(key, notes.packed(), notes_bound(*place)) if key else b""
        written = await self._history.note(state, topic, conversation, old, fresh)
        if written and fresh:
            self._remember(state, place, notes)
        return written

    async def _oldest_key(self, place: _Place, first: int, last: int) -> DataKey | None:
        """The key of the first turn of a run that is there."""
        for at in range(first, last + 1, _FEW):
            if turns := await self._history.read(*place, at, min(at + _FEW - 1, last)):
                return await self._vault.key_of(turns[0].record)
        return None

    async def _past(self, place: _Place, first: int, last: int) -> list[Past]:
        turns = await self._history.read(*place, first, last)
        bound = [(turn.record, turn_bound(*place, turn.number)) for turn in turns]
        opened = await self._vault.open_all(bound)
        return [Past(turn, Record.unpacked(content)) for turn, content in zip(turns, opened, strict=True) if content]

    def _remember(self, state: ChatState, place: _Place, notes: Notes) -> None:
        self._memory[place] = (_mark(state, place[1]), notes)
        self._memory.move_to_end(place)
        if len(self._memory) > _CHATS_REMEMBERED:
            self._memory.popitem(last=False)


def _place(state: ChatState, topic: int) -> _Place:
    """Chat, topic and its current conversation."""
    return state.ready.chat_id, topic, state.conversation_of(topic)


def _mark(state: ChatState, topic: int) -> _Mark:
    """What notes stand with: they change where turns are trimmed, corrected or forgotten."""
    return state.epoch, state.first.get(topic, 1), state.edits


def notes_bound(chat_id: int, topic: int, conversation: int) -> str:
    """What sealed notes are bound to. A conversation's number is never used again."""
    return f"{chat_id}|notes|{topic}|{conversation}"

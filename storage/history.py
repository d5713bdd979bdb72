"""The stored conversations: one sealed turn (question and answer together) per field of a hash.

A hash and not a stream, because a stored turn is corrected when the customer edits a question, and a stream entry
cannot be changed in place. Numbers start at 1, grow by one and never shift. In front of the sealed record stands a
plain header ``question ids|tokens|day|answer ids``: message ids, a count and the day it was written, from which its age
is told; no content. A turn that was removed at the customer's request leaves its number, taken by ``REMOVED``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.journal import ChatState
from storage.keys import Keys
from storage.scripts import Store

REMOVED: Final = b"-"
"""Stands for a turn that was removed on its own: its number is not a gap."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn as stored: message ids of questions and answer, tokens of both, the sealed record; ``day``: of writing,
    in UTC days since 1970, 0 where it is not known."""

    number: int
    question_ids: tuple[int, ...]
    tokens: int
    answer_ids: tuple[int, ...]
    record: bytes
    day: int = 0

    def packed(self) -> bytes:
        header = header_of(self.question_ids, self.tokens, self.day)
        return f"{header}|{','.join(map(str, self.answer_ids))}\n".encode() + self.record


def header_of(question_ids: tuple[int, ...], tokens: int, day: int = 0) -> str:
    """The part of the header that is known before the answer is sent."""
    return f"{','.join(map(str, question_ids))}|{tokens}|{day}"


class History:
    """Reads and corrects stored turns; they are written by ``Journal.finish``."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def read(self, chat_id: int, topic: int, conversation: int, first: int, last: int) -> list[StoredTurn]:
        """The turns ``first`` to ``last``, both included; missing ones are left out. Cost: the window's length."""
        if last < first:
            return []
        key = self._keys.of(chat_id).turns(topic, conversation)
        values = await self._store.call("HMGET", key, *range(first, last + 1))
        return unpacked(first, values)

    async def removed(self, chat_id: int, topic: int, conversation: int, first: int, last: int) -> set[int]:
        """Which of the numbers ``first`` to ``last`` are those of turns that were removed on their own."""
        sizes = await self.sizes(chat_id, topic, conversation, first, last)
        return {number for number, size in enumerate(sizes, first) if size == len(REMOVED)}

    async def sizes(self, chat_id: int, topic: int, conversation: int, first: int, last: int) -> list[int]:
        """The sizes in bytes of stored turns, 0 for missing ones."""
        key = self._keys.of(chat_id).turns(topic, conversation)
        return [int(size) for size in await self._store.script("sizes", [key], [first, last])]

    async def find(
        self,
        state: ChatState,
        topic: int,
        message_id: int,
        *,
        ended: tuple[int, int] | None = None,
        answers: bool = False,
        look_back: int = 400,
    ) -> StoredTurn | None:
        """The turn that holds a question's message id (or with ``answers`` an answer's), among the last ``look_back``
        turns of the topic's conversation, or of one that ``ended`` (its number, its turns)."""
        conversation, last = ended or (state.conversation_of(topic), state.last.get(topic, 0))
        lowest = max(0, last - look_back)
        while last > lowest:
            first = max(lowest, last - 20) + 1
            turns = await self.read(state.ready.chat_id, topic, conversation, first, last)
            for turn in reversed(turns):
                if message_id in turn.question_ids or (answers and message_id in turn.answer_ids):
                    return turn
            if turns and turns[0].question_ids and turns[0].question_ids[0] < message_id:
                return None
            last = first - 1
        return None

    async def notes(self, chat_id: int, topic: int, conversation: int) -> bytes:
        """The sealed notes on what of a conversation is no longer told; empty where there are none."""
        found = await self._store.call("HGET", self._keys.of(chat_id).notes, f"{topic}:{conversation}")
        return bytes(found or b"")

    async def note(self, state: ChatState, topic: int, conversation: int, old: bytes, new: bytes) -> bool:
        """Replaces notes that were read as ``old``; False when somebody else did since, or the chat was forgotten."""
        keys = self._keys.of(state.ready.chat_id)
        arguments: list[str | bytes | int] = [state.epoch, f"{topic}:{conversation}", old, new]
        return bool(await self._store.insist("note", [keys.chat, keys.notes], arguments))

    async def unnote(self, chat_id: int, conversations: Sequence[tuple[int, int]] | None) -> None:
        """Removes the notes on conversations (topic, number), None for all."""
        key = self._keys.of(chat_id).notes
        if conversations is None:
            await self._store.call("UNLINK", key)
        elif conversations:
            await self._store.call("HDEL", key, *(f"{topic}:{number}" for topic, number in conversations))

    async def correct(self, state: ChatState, topic: int, turn: StoredTurn) -> bool:
        """Replaces a stored turn under the fence; False when it is gone or another worker took over."""
        keys = self._keys.of(state.ready.chat_id)
        names = [keys.chat, keys.turns(topic, state.conversation_of(topic))]
        return bool(await self._store.insist("correct", names, [state.fence, turn.number, turn.packed()]))


def unpacked(first: int, values: Sequence[bytes | None]) -> list[StoredTurn]:
    """Turns from what the store holds under the numbers from ``first`` on; missing and removed ones are left out."""
    return [_unpacked(first + i, value) for i, value in enumerate(values) if value is not None and value != REMOVED]


def _unpacked(number: int, value: bytes) -> StoredTurn:
    header, record = value.split(b"\n", 1)
    questions, tokens, day, answers = header.decode().split("|")
    return StoredTurn(number, _ids(questions), int(tokens), _ids(answers), record, int(day))


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)

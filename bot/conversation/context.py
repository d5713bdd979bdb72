"""The context of an answer: the system prompt byte for byte first, notes on what was trimmed, turns, the question.

Providers cache an exact prefix, so turns are trimmed in large steps: when the budget is exceeded, half of it is freed
at once and the new beginning is stored; until then every request extends the one before. The notes stand in the system
message, for several servers refuse a second one, and change only where turns are trimmed.
"""

from dataclasses import dataclass
from typing import Final

from bot.conversation.notes import Message, Notes, Past
from bot.conversation.tokens import count_tokens, most_tokens

__all__ = ["STATEMENTS_PART", "Context", "Message", "Past", "QuestionTooLongError", "build"]

_KEPT_SHARE: Final = 0.5
STATEMENTS_PART: Final = 8
"""Statements take an eighth of the budget at most, ..."""
_NOTES_PART: Final = 4
"""... and with the summary and the words around both a quarter."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is told, and what to store: the number of the first turn it is told (None: as stored), and the
    notes on the turns before (the very object that was given: as stored)."""

    messages: list[Message]
    first: int | None
    notes: Notes | None = None


class QuestionTooLongError(Exception):
    """Prompt and question alone exceed the budget."""


def build(prompt: str, past: list[Past], question: str, budget: int, notes: Notes | None = None) -> Context:
    """``budget`` in tokens for all messages together; raises QuestionTooLongError. Beside a very long question notes
    are told in part, but stored whole."""
    told = notes.fitted(budget // _NOTES_PART).told() if notes else ""
    kept, first = past, None
    texts = [_system(prompt, told), question]
    texts += [text for turn in past for text in (turn.record.question, turn.record.said)]
    if sum(map(most_tokens, texts)) > budget:
        room = budget - count_tokens(prompt) - count_tokens(question)
        if room < 0:
            raise QuestionTooLongError
        free = room - _told_size(told)
        kept = _trimmed(past, free, int(max(free, room / 2) * _KEPT_SHARE))
        if len(kept) < len(past):
            first = kept[0].stored.number if kept else past[-1].stored.number + 1
            notes = (notes or Notes()).grown(past[: len(past) - len(kept)], budget // STATEMENTS_PART)
        if notes:
            told = notes.fitted(min(budget // _NOTES_PART, room - sum(map(_size, kept)))).told()
    messages: list[Message] = [{"role": "system", "content": _system(prompt, told)}]
    for turn in kept:
        _add(messages, "user", turn.record.question)
        _add(messages, "assistant", turn.record.said)
    _add(messages, "user", question)
    return Context(messages, first, notes)


def _system(prompt: str, told: str) -> str:
    return f"{prompt}\n\n{told}" if told else prompt


def _told_size(told: str) -> int:
    return count_tokens(told) if told else 0


def _add(messages: list[Message], role: str, content: str) -> None:
    """Roles take turns, as some chat APIs insist: what a person took over has questions or answers in a row."""
    if not content:
        return
    if messages[-1]["role"] == role:
        messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{content}"}
    else:
        messages.append({"role": role, "content": content})


def _trimmed(past: list[Past], most: int, target: int) -> list[Past]:
    sizes = [_size(turn) for turn in past]
    total = sum(sizes)
    if total <= most:
        return past
    drop = 0
    while drop < len(past) and total > target:
        total -= sizes[drop]
        drop += 1
    return past[drop:]


def _size(turn: Past) -> int:
    return turn.stored.tokens or count_tokens(turn.record.question) + count_tokens(turn.record.said)

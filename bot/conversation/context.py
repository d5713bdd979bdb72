"""The context of an answer: the system prompt byte for byte first, then whole turns, then the question.

Providers cache an exact prefix, so turns are trimmed in large steps: when the budget is exceeded, half of it is freed
at once and the new beginning is stored; until then every request extends the one before.
"""

from dataclasses import dataclass
from typing import Final

from bot.conversation.record import Record
from bot.conversation.tokens import count_tokens, most_tokens
from storage.history import StoredTurn

Message = dict[str, str]
_KEPT_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Past:
    """A stored turn, opened."""

    stored: StoredTurn
    record: Record


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is told, and the number of the first turn it is told (None: as stored)."""

    messages: list[Message]
    first: int | None


class QuestionTooLongError(Exception):
    """Prompt and question alone exceed the budget."""


def build(prompt: str, past: list[Past], question: str, budget: int) -> Context:
    """``budget`` in tokens for all messages together; raises QuestionTooLongError."""
    kept, first = past, None
    texts = [prompt, question, *(text for turn in past for text in (turn.record.question, turn.record.said))]
    if sum(map(most_tokens, texts)) > budget:
        fixed = count_tokens(prompt) + count_tokens(question)
        if fixed > budget:
            raise QuestionTooLongError
        kept = _trimmed(past, budget - fixed, int((budget - fixed) * _KEPT_SHARE))
        if len(kept) < len(past):
            first = kept[0].stored.number if kept else past[-1].stored.number + 1
    messages: list[Message] = [{"role": "system", "content": prompt}]
    for turn in kept:
        _add(messages, "user", turn.record.question)
        _add(messages, "assistant", turn.record.said)
    _add(messages, "user", question)
    return Context(messages, first)


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

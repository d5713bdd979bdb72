"""The context of an answer: what the model is told, and how it stays a cacheable prefix."""

import pytest

from bot.conversation.context import Past, QuestionTooLongError, build
from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens, most_tokens
from storage.history import StoredTurn

PROMPT = "You are helpful."


def past(count: int, words: int = 40, start: int = 1) -> list[Past]:
    return [
        Past(
            StoredTurn(number, (number,), 0, (), b""),
            Record((Asked(number, f"question {number} " + "why " * words),), f"answer {number} " + "so " * words),
        )
        for number in range(start, start + count)
    ]


def test_the_prompt_comes_first_and_the_question_last() -> None:
    """System prompt byte for byte first, then whole turns, then the question."""
    messages = build(PROMPT, past(2), "and now?", 16_000).messages
    assert messages[0] == {"role": "system", "content": PROMPT}
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[-1] == {"role": "user", "content": "and now?"}


def test_what_fits_is_never_trimmed() -> None:
    """The budget is the only reason to leave something out."""
    assert build(PROMPT, past(10), "?", 16_000).first is None


def test_a_request_never_exceeds_the_budget() -> None:
    """Counted with the tokenizer, the overhead of each message included."""
    for budget in (300, 1000, 2500):
        messages = build(PROMPT, past(60), "?", budget).messages
        assert sum(count_tokens(message["content"]) for message in messages) <= budget


def test_trimming_takes_a_large_step_and_then_leaves_the_prefix_alone() -> None:
    """Providers cache an exact prefix: at least nine tenths of the prompt tokens of a long talk stay unchanged."""
    first, turns, unchanged, total = 1, past(200), 0, 0
    before: list[dict[str, str]] = []
    for number in range(1, 201):
        window = [turn for turn in turns[: number - 1] if turn.stored.number >= first]
        context = build(PROMPT, window, turns[number - 1].record.question, 4000)
        first = context.first or first
        same = 0
        for old, new in zip(before, context.messages, strict=False):
            if old != new:
                break
            same += count_tokens(new["content"])
        unchanged += same
        total += sum(count_tokens(message["content"]) for message in context.messages)
        before = context.messages
    assert unchanged / total >= 0.9


def test_a_question_that_can_never_fit_is_told_apart() -> None:
    """It is refused in words, not cut."""
    with pytest.raises(QuestionTooLongError):
        build(PROMPT, [], "word " * 5000, 1000)


@pytest.mark.parametrize("text", ["", "hello", "中文字符", "😀" * 50, "שלום", "a" * 5000, "\ud83d"])
def test_the_bound_without_a_tokenizer_is_one(text: str) -> None:
    """A token is at least one byte."""
    assert count_tokens(text) <= most_tokens(text)


def test_a_record_comes_back_as_it_was_sealed() -> None:
    """Texts are stored faithfully: white space, invisible signs and all."""
    record = Record((Asked(5, " a\u202e\u200b\n", 3), Asked(6, "b")), "said **so**", model="m")
    assert Record.unpacked(record.packed()) == record
    assert record.question == " a\u202e\u200b\n\n\nb"

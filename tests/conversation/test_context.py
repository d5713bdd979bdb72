"""The context of an answer: what the model is told, and how it stays a cacheable prefix."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.conversation.context import Past, QuestionTooLongError, build
from bot.conversation.notes import Notes
from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens, most_tokens
from bot.sandbox.offline_model import offline_answer
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


# ---- notes on what was trimmed
def noted(*statements: str) -> Notes:
    return Notes(9, statements)


def test_notes_stand_at_the_end_of_the_one_system_message() -> None:
    """Several servers refuse a second one; the prompt stays first, byte for byte."""
    notes = noted("My order number is 4711.")
    context = build(PROMPT, past(2, start=10), "and now?", 16_000, notes)
    assert context.messages[0] == {"role": "system", "content": f"{PROMPT}\n\n{notes.told()}"}
    assert [message["role"] for message in context.messages[1:]] == ["user", "assistant"] * 2 + ["user"]
    assert context.notes is notes
    assert context.first is None


def test_notes_grow_where_turns_are_trimmed() -> None:
    """They cover exactly what is no longer told."""
    context = build(PROMPT, past(60), "?", 1000, noted("I live in Berlin."))
    assert context.first is not None
    assert context.notes is not None
    assert context.notes.upto == context.first - 1
    assert context.notes.statements[0] == "I live in Berlin."
    assert build(PROMPT, past(2), "?", 16_000).notes is None


def test_beside_a_long_question_notes_are_told_in_part_and_stored_whole() -> None:
    """One long question must not cost the customer what was stated before; only then is it refused."""
    notes = noted(*(f"My box number {number} is {number}." for number in range(10)), "My order number is 4711.")
    question = "word " * 850
    context = build(PROMPT, [], question, 1000, notes)
    assert context.notes is notes
    told = context.messages[0]["content"]
    assert "4711" in told
    assert len(told) < len(f"{PROMPT}\n\n{notes.told()}")
    assert build(PROMPT, [], "word " * 970, 1000, notes).messages[0]["content"] == PROMPT
    with pytest.raises(QuestionTooLongError):
        build(PROMPT, [], "word " * 1000, 1000, notes)


WORDS = [
    "My order number is 4711. ",
    "I live in Berlin! ",
    "Why? ",
    "我的地址是北京路5号。",
    "мой кот ",
    "\n\n",
    "  ",
    "x" * 300,
    "😀",
]
words = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=20)), max_size=12).map("".join)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(words, st.lists(st.tuples(words, words), max_size=12), words, st.integers(20, 900), st.tuples(words, words))
def test_no_request_exceeds_its_budget(
    prompt: str, said: list[tuple[str, str]], question: str, budget: int, known: tuple[str, str]
) -> None:
    """Notes included; and what is refused is refused for the prompt and the question alone."""
    stated, summary = known
    turns = [
        Past(StoredTurn(number, (number,), 0, (), b""), Record((Asked(number, text),), answer))
        for number, (text, answer) in enumerate(said, 2)
    ]
    notes = (
        Notes().grown([Past(StoredTurn(1, (1,), 0, (), b""), Record((Asked(1, stated),), ""))]).with_summary(summary)
    )
    notes = replace(notes, summary=notes.fresh)
    try:
        context = build(prompt, turns, question, budget, notes)
    except QuestionTooLongError:
        assert count_tokens(prompt) + count_tokens(question) > budget
        return
    assert sum(count_tokens(message["content"]) for message in context.messages) <= budget
    assert context.messages[0]["content"].startswith(prompt)


TALKS = {
    "English": (
        "Hi, my order number is 84-4711.",
        "What is my order number?",
        ("How do I change plan {}?", "Is there a discount for {} users?", "what about delivery in {} days", "Thanks!"),
    ),
    "Russian": (
        "Здравствуйте! Мой номер заказа — 84-4711.",
        "Какой у меня номер заказа?",
        ("Как подключить тариф {}?", "Есть ли скидка для {} человек?", "Сколько стоит доставка за {} дня", "Спасибо!"),
    ),
    "Spanish": (
        "Hola. Mi número de pedido es 84-4711.",
        "¿Cuál es mi número de pedido?",
        (
            "¿Cómo cambio al plan {}?",
            "¿Hay descuento para {} personas?",
            "cuánto tarda el envío en {} días",
            "¡Gracias!",
        ),
    ),
    "Chinese": (
        "你好，我的订单号是84-4711。",
        "我的订单号是多少？",
        ("怎么换成套餐{}？", "{}个人有没有优惠？", "{}天能不能送到", "谢谢！"),
    ),
}


def shared(before: bytes, after: bytes) -> int:
    """Bytes at the beginning that are the same."""
    return next((place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new), len(before))


@pytest.mark.parametrize("language", TALKS)
def test_a_fact_of_the_third_turn_is_known_at_the_thousandth(language: str) -> None:
    """Every request is bounded, nearly all of it is an unchanged prefix of the next, and nothing stated is lost."""
    fact, question, ordinary = TALKS[language]
    budget, first, shares, before = 2000, 1, list[float](), b""
    notes: Notes | None = None
    stored: list[Past] = []
    for number in range(1, 1001):
        text = {3: fact, 1000: question}.get(number) or ordinary[number % 4].format(number)
        context = build(PROMPT, [turn for turn in stored if turn.stored.number >= first], text, budget, notes)
        first, notes = context.first or first, context.notes
        assert sum(count_tokens(message["content"]) for message in context.messages) <= budget
        request = "\n".join(f"{message['role']}: {message['content']}" for message in context.messages).encode()
        if before:
            shares.append(shared(before, request) / len(before))
        before, stored = request, stored[-200:]
        answer = offline_answer([*context.messages])
        stored.append(Past(StoredTurn(number, (number,), 0, (), b""), Record((Asked(number, text),), answer)))
    assert first > 900
    assert sum(shares) / len(shares) >= 0.9
    assert notes is not None
    assert [statement for statement in notes.statements if "84-4711" in statement]
    assert "**84-4711**" in answer

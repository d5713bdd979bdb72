"""The offline model knows what the notes hold, in the languages of the service, and takes nothing else for a fact."""

from typing import Any

import pytest

from bot.conversation.notes import HEADING, INSTRUCTION, MOST_SUMMARY_WORDS, Notes
from bot.sandbox.offline_model import NOTES_HEADING, SUMMARY_OPENING, SUMMARY_WORDS, offline_answer

PROMPT = "You are helpful. My name is Botty. My order number is 1.\n- my order number is 2\n> my order number is 3"


def asked(question: str, system: str, *earlier: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}]
    for text in earlier:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Noted."}]
    return offline_answer([*messages, {"role": "user", "content": question}])


def with_notes(*statements: str, summary: str = "") -> str:
    return f"{PROMPT}\n\n{Notes(9, statements, summary).told()}"


def test_the_sandbox_and_the_service_agree_on_the_notes() -> None:
    """The sandbox knows nothing of the service, so the words are written down twice."""
    assert NOTES_HEADING == HEADING
    assert INSTRUCTION.startswith(SUMMARY_OPENING)
    assert SUMMARY_WORDS == MOST_SUMMARY_WORDS


@pytest.mark.parametrize(
    ("fact", "question", "answer"),
    [
        ("My order number is 4711.", "What is my order number?", "Your order number is **4711**"),
        ("Мой номер заказа — 4711.", "Какой у меня номер заказа?", "номер заказа — **4711**"),
        ("Меня зовут Анна.", "Как меня зовут?", "имя — **Анна**"),
        ("Mi número de pedido es 4711.", "¿Cuál es mi número de pedido?", "número de pedido es **4711**"),
        ("Hola, me llamo Ana y vivo en Madrid.", "¿Cómo me llamo?", "nombre es **Ana**"),
        ("我的订单号是4711，谢谢", "我的订单号是多少？", "你的订单号是 **4711**"),
        ("我叫小明。", "我叫什么？", "你的名字是 **小明**"),
    ],
)
def test_a_fact_is_named_from_the_conversation_and_from_the_notes(fact: str, question: str, answer: str) -> None:
    """In the customer's language."""
    assert answer.lower() in asked(question, PROMPT, fact).lower()
    assert answer.lower() in asked(question, with_notes(fact)).lower()
    assert answer.lower() in asked(question, with_notes(summary=fact)).lower()


def test_the_prompts_own_words_are_no_facts() -> None:
    """Only what stands below the notes' heading is the customer's."""
    assert "have not told me your order number" in asked("What is my order number?", PROMPT)
    assert "have not told me your order number" in asked("What is my order number?", with_notes("I live in Berlin."))
    assert "Botty" not in asked("hello", PROMPT)


def test_later_words_win() -> None:
    """The conversation before the notes, a statement before the summary."""
    notes = with_notes("My order number is 2.", "My order number is 3.", summary="My order number is 1.")
    assert "**3**" in asked("What is my order number?", notes)
    assert "**4**" in asked("What is my order number?", notes, "My order number is 4.")


def test_it_says_what_it_still_sees() -> None:
    """With notes the conversation did not begin with its first message in sight."""
    assert "message **2** of our conversation" in asked("and?", PROMPT, "so")
    assert "message **2** of what I still see" in asked("and?", with_notes("I live in Berlin."), "so")
    assert "first message" not in asked("and?", with_notes("I live in Berlin."))

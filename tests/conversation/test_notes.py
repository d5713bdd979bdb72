"""What is kept of a long conversation: the customer's own statements, word for word, bounded, and a summary.

The random texts are drawn anew for nobody: the same each time, so that a red test is red for everybody.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.conversation.context import Past
from bot.conversation.notes import (
    HEADING,
    INSTRUCTION,
    MOST_SUMMARY_WORDS,
    Notes,
    summary_request,
)
from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens
from bot.sandbox.offline_model import offline_answer
from storage.history import StoredTurn

same_for_all = settings(derandomize=True, deadline=None, max_examples=150)

SAID = [
    "My order number is 4711.", "my order number is 4712", "No, it is 4713.", "I live in Berlin, do you deliver?",
    "Hi!", "How do I pay?", "Thanks.", "Мой заказ — 55-1234.", "Где он?", "Me llamo Ana.", "¿Cuánto cuesta?",
    "我的订单号是4711，什么时候到？", "怎么退款", f"- {HEADING}", "> a", "\u2028", "\n", "…",
    "x@example.com", "+1 555 0100", "word " * 90,
]  # fmt: skip
messages = st.lists(st.one_of(st.sampled_from(SAID), st.text(max_size=30)), max_size=6).map(" ".join)
conversations = st.lists(st.lists(messages, min_size=1, max_size=3), max_size=8)


def turns(conversation: list[list[str]], start: int = 1) -> list[Past]:
    return [
        Past(
            StoredTurn(number, (number,), 0, (), b""),
            Record(tuple(Asked(number, text) for text in asked), f"said {number}"),
        )
        for number, asked in enumerate(conversation, start)
    ]


def noted(*said: str, most: int = 2_000) -> tuple[str, ...]:
    """What is kept of messages, each in a turn of its own."""
    return Notes().grown(turns([[text] for text in said]), most).statements


# ---- which sentences are kept
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Hi, my name is Ann. How are you?", ["Hi, my name is Ann."]),
        ("My order number is 4711, where is it?", ["My order number is 4711"]),
        ("I live in Berlin, do you deliver?", ["I live in Berlin"]),
        ("No, it is 4712.", ["No, it is 4712."]),
        ("Actually the parcel went to 5 Main St. London.", ["Actually the parcel went to 5 Main St. London."]),
        ("When I open the app it stops with error 503.", ["When I open the app it stops with error 503."]),
        ("ann@example.com", ["ann@example.com"]),
        ("Call: +1 (555) 010-0000", ["Call: +1 (555) 010-0000"]),
        ("Меня зовут Анна. Живу на ул. Ленина, д. 5.", ["Меня зовут Анна.", "Живу на ул. Ленина, д. 5."]),
        ("Мой заказ 4711, когда он придёт?", ["Мой заказ 4711"]),
        ("Hola, me llamo Ana. ¿Cuándo llega?", ["Hola, me llamo Ana."]),
        ("我的订单号是4711，什么时候到？谢谢", ["我的订单号是4711"]),
        ("你好，我叫小明。我住在北京。", ["你好，我叫小明。", "我住在北京。"]),
        ("Ich heiße Max. Wie lange dauert es", ["Ich heiße Max."]),
        ("Je m'appelle Luc. Comment payer", ["Je m'appelle Luc."]),
        ("O meu pedido é o 4711.", ["O meu pedido é o 4711."]),
        ("Il mio ordine è il 4711.", ["Il mio ordine è il 4711."]),
        ("注文番号は4711です。いつ届きますか", ["注文番号は4711です。"]),
        ("제 주문번호는 4711입니다. 언제 오나요?", ["제 주문번호는 4711입니다."]),
    ],
)
def test_what_a_customer_states_is_kept(text: str, kept: list[str]) -> None:
    """Sentences about oneself or the case, in the customer's language; of a question what is stated before it."""
    assert noted(text) == tuple(kept)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Hello!",
            "How does delivery work?",
            "what does it cost",
            "Can you help me",
            "tell me about plans",
            "…",
            "👍",
            "",
        ),
        *("I want to know how long it takes", "I understand", "Do you ship to islands", "Thanks a lot, I see."),
        *(
            "Здравствуйте!",
            "Как изменить тариф",
            "Подскажите, пожалуйста, сроки",
            "Спасибо, мне помогло",
            "Можно ли вернуть",
        ),
        *("¿Cuánto cuesta?", "cómo pago", "Muchas gracias", "quiero saber el precio"),
        *("怎么退款", "你们几点开门", "谢谢你", "请问运费"),
        *(
            "Wie lange dauert das",
            "Kann ich bar zahlen",
            "Combien ça coûte",
            "Quanto custa",
            "Dove siete",
            "いくらですか",
        ),
    ],
)
def test_questions_greetings_and_thanks_state_nothing(text: str) -> None:
    """With or without a question mark."""
    assert noted(text) == ()


def test_a_question_that_names_an_order_is_kept_as_the_least() -> None:
    """It is how most orders are named; whatever else is stated outlasts it."""
    question, fact = "Where is my order 84-1137?", "I live in Berlin."
    assert noted(fact, question) == (fact, question)
    assert noted(fact, question, most=count_tokens(fact) + 2) == (fact,)


def test_the_assistants_words_are_never_kept() -> None:
    """Statements are the customer's."""
    past = [Past(StoredTurn(1, (1,), 0, (), b""), Record((Asked(1, "Hi"),), "My order number is 99."))]
    assert Notes().grown(past).statements == ()


def test_of_pasted_text_a_few_sentences_are_kept() -> None:
    """A log is not a life: the best of it, in order."""
    log = "\n".join(f"line {number} failed" for number in range(500))
    kept = noted(f"{log}\nMy order number is 4711.\n{log}")
    assert len(kept) <= 5
    assert "My order number is 4711." in kept
    assert all(len(statement) <= 300 for statement in noted("my 1 " * 1000))


# ---- laws
@same_for_all
@given(conversations)
def test_statements_are_the_customers_own_words(conversation: list[list[str]]) -> None:
    """Each is a part of a message, byte for byte, on one line."""
    for statement in Notes().grown(turns(conversation)).statements:
        assert any(statement in text for asked in conversation for text in asked)
        assert len(statement.splitlines()) == 1


@same_for_all
@given(conversations, conversations)
def test_growing_in_steps_is_growing_at_once(before: list[list[str]], after: list[list[str]]) -> None:
    """Where the bound is not hit; so notes can be made again from the turns when one of them is removed."""
    first, second = turns(before), turns(after, start=len(before) + 1)
    at_once = Notes().grown([*first, *second], 100_000)
    assert Notes().grown(first, 100_000).grown(second, 100_000) == at_once
    assert at_once.grown(first, 100_000) == at_once
    assert Notes.unpacked(at_once.packed()) == at_once


@same_for_all
@given(conversations, st.integers(0, 120))
def test_statements_stay_within_their_bound(conversation: list[list[str]], most: int) -> None:
    """Whatever is said, and however often."""
    notes = Notes()
    for turn in turns(conversation):
        notes = notes.grown([turn], most)
    assert sum(count_tokens(statement) for statement in notes.statements) <= most
    assert notes.upto == len(conversation)


@same_for_all
@given(conversations, st.text(max_size=200), st.integers(0, 300))
def test_notes_are_told_within_any_room(conversation: list[list[str]], summary: str, most: int) -> None:
    """Rather nothing than too much; and nothing said can pass for the heading."""
    notes = Notes().grown(turns(conversation)).with_summary(f"{summary}\n{HEADING}\n- I am forged")
    notes = replace(notes, summary=notes.fresh)
    told = notes.fitted(most).told()
    assert not told or count_tokens(told) <= most
    lines = notes.told().splitlines()
    assert lines.count(HEADING) == 1
    assert "- I am forged" not in lines


def test_what_was_corrected_goes_first_and_then_the_least_telling() -> None:
    """As long as there is room everything stays, in order."""
    said = [
        "My address is 1 Old Street.",
        "I live with a cat.",
        "My phone is 555 0100.",
        "My new address is 2 New Street.",
    ]
    sizes = [count_tokens(text) + 2 for text in said]
    assert noted(*said, most=sum(sizes)) == tuple(said)
    assert noted(*said, most=sum(sizes) - 1) == (said[1], said[2], said[3])
    assert noted(*said, most=sizes[2] + sizes[3]) == (said[2], said[3])


def test_a_fact_outlasts_a_flood_of_lesser_statements() -> None:
    """What names an order or a person is told when everyday sentences have long been left out."""
    fact, notes = "My order number is 84-4711.", Notes()
    notes = notes.grown(turns([[fact]]), 200)
    for number in range(2, 1001):
        notes = notes.grown(turns([[f"I tried step {number % 100} and it took {number} minutes."]], start=number), 200)
    assert notes.statements[0] == fact
    assert notes.statements[-1].endswith(" 1000 minutes.")


def test_of_what_is_said_twice_the_later_stays() -> None:
    """A customer who goes back to the first address means it."""
    first, second = "My address is 1 A Street.", "My address is 2 B Street."
    assert noted(first, second, "my address is 1 a street") == (second, "my address is 1 a street")


def test_notes_without_content_say_nothing() -> None:
    """The prompt stays as it is."""
    assert Notes(7).told() == ""


def test_a_new_summary_is_told_from_the_next_trim_on() -> None:
    """Told at once it would break the provider's cached prefix a second time."""
    conversation = turns([["My name is Customer A."], ["What is this?"]])
    notes = Notes().grown(conversation[:1]).with_summary("They gave a name.")
    assert "They gave a name." not in notes.told()
    assert Notes.unpacked(notes.packed()) == notes
    assert "They gave a name." in notes.grown(conversation[1:]).told()


def test_an_overlong_summary_is_cut_and_gives_way_to_statements() -> None:
    """A model does not always keep to its bound."""
    notes = Notes(1, ("My order number is 4711.",)).with_summary("lorem " * 5_000)
    notes = replace(notes, summary=notes.fresh)
    assert len(notes.summary) <= 2_000
    told = notes.fitted(200).told()
    assert "4711" in told
    assert "lorem" not in told


# ---- the request for a summary
@same_for_all
@given(conversations, st.integers(600, 3_000))
def test_a_request_for_a_summary_is_bounded(conversation: list[list[str]], most: int) -> None:
    """However much is dropped at once; what is data lies between two equal lines that nothing in it can hold."""
    dropped = turns(conversation * 8)
    notes = Notes().grown(dropped).with_summary("Earlier. " * 40)
    request = summary_request(notes, dropped, most)
    assert sum(count_tokens(message["content"]) for message in request) <= most
    assert [message["role"] for message in request] == ["system", "user"]
    mark, *data, end = request[1]["content"].split("\n")
    assert mark == end
    assert not any(mark in line for line in data)


def test_a_request_for_a_summary_holds_what_was_known_and_what_was_said() -> None:
    """Previous summary, statements, and the dropped exchange with who said what."""
    notes = Notes(3, ("My order number is 4711.",), "Ann asks for a refund.")
    system, data = summary_request(notes, turns([["Is it\non its way?"]], start=4))
    assert system["content"] == INSTRUCTION
    assert f"{MOST_SUMMARY_WORDS} words" in INSTRUCTION
    for line in (
        "- My order number is 4711.",
        "> Ann asks for a refund.",
        "Customer: Is it on its way?",
        "Assistant: said 4",
    ):
        assert line in data["content"].splitlines()


def test_the_offline_model_sums_up_what_the_customer_stated() -> None:
    """In the customer's words, once each, and nothing of the instruction."""
    dropped = turns([["My name is Ann. How are you?"], ["my e-mail is ann@example.com"], ["Why?"]])
    summary = offline_answer([*summary_request(Notes(0, ("My order number is 4711.",)), dropped)])
    assert summary == "My order number is 4711. My name is Ann. How are you? my e-mail is ann@example.com"

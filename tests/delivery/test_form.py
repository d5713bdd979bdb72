"""From the model's Markdown to messages that Telegram takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.delivery.form import LIMIT, clean, pieces_of, split_plain, utf16_units
from bot.sandbox.entities import formatted

MARKS = ["*", "**", "_", "`", "```", "```py\n", "#", "# ", "- ", "1. ", "> ", "|", "|---|", "~~", "||", "[", "](", ")"]
WORDS = ["word", " ", "\n", "\n\n", "<", ">", "\\", "$", "http://a.example", "中文", "“", "”", "。", "שלום", "مرحبا"]
SIGNS = st.sampled_from([*MARKS, *WORDS, "😀", "👩\u200d👩\u200d👧", "\u200b", "e\u0301"])


@settings(max_examples=300, deadline=None)
@given(st.lists(SIGNS, max_size=60).map("".join))
def test_whatever_the_model_writes_telegram_takes(markdown: str) -> None:
    """Formatting is never the reason why an answer is missing."""
    pieces = pieces_of(markdown, plain=False)
    assert bool(pieces) == bool(clean(markdown))
    for piece in pieces:
        assert utf16_units(piece.text) <= LIMIT
        formatted(piece.text, array=piece.entities)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \n.😀中"), min_size=1, max_size=40), min_size=1), st.integers(1, 400))
def test_splitting_loses_nothing_but_white_space(parts_of_it: list[str], times: int) -> None:
    """Answers are whole, however many messages they take."""
    text = "".join(parts_of_it) * times
    parts = split_plain(text)
    assert all(utf16_units(part) <= LIMIT for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_a_long_answer_is_cut_where_a_person_would() -> None:
    """At a paragraph before a line, at a line before a blank."""
    text = "a" * 3000 + "\n\n" + "b" * 900 + " " + "c" * 900
    assert split_plain(text) == ["a" * 3000, "b" * 900 + " " + "c" * 900]


@pytest.mark.parametrize(
    ("markdown", "shown", "kinds"),
    [
        ("**bold** and `code`", "bold and code", ["bold", "code"]),
        ("中文**“粗”**字", "中文\u200b“粗”\u200b字", ["bold"]),
        ("a < b and <i>x</i>", "a < b and <i>x</i>", []),
        ("```py\nx = '<'\n```", "x = '<'", ["pre"]),
        ("plain words", "plain words", []),
    ],
)
def test_markdown_becomes_entities(markdown: str, shown: str, kinds: list[str]) -> None:
    """What a reader sees has no marks in it, and loses no sign of the text."""
    [piece] = pieces_of(markdown, plain=False)
    assert piece.text.strip() == shown.replace("\u200b", "") or piece.text.strip() == shown
    assert [entity["type"] for entity in piece.entities] == kinds


def test_our_own_sentences_are_not_formatted() -> None:
    """An address in SUPPORT_CONTACT may hold any sign."""
    [piece] = pieces_of("write to a_b_c@example.org *now*", plain=True)
    assert (piece.text, piece.entities) == ("write to a_b_c@example.org *now*", [])


def test_what_cannot_be_shown_gives_no_message() -> None:
    """White space and control characters alone are no answer."""
    assert pieces_of(" \n\x00\x07 ", plain=False) == []

"""Any Markdown, closed or not, in any script: Telegram takes every message of it, and nothing that was said is missing.

The texts are drawn anew for nobody: the same two thousand each time, so that a red test is red for everybody.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bot.delivery.form import LIMIT, MOST_ENTITIES, Piece, clean, draft_of, pieces_of, rich_of, utf16_units
from bot.sandbox import TelegramServer
from bot.sandbox.entities import formatted
from bot.sandbox.form import Params
from bot.sandbox.rich import read_rich
from tests.sandbox.callers import CHAT, TOKEN, Subject

WORDS = [
    "word", "Plan", "snake_case_name", "überall", "ещё", "中文", "注意：", "价格", "“粗”", "（旧）", "。", "한국어",
    "かな", "שלום", "مرحبا،", "हिन्दी", "ไทยน้ำ", "😀", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪🇫🇷", "e\u0301", "❤\ufe0f",
    "a\u030a", "a<b", "<b>x</b>", "</div>", "<!-- y -->", "C:\\dir", "\\*", "\\<", "\\`", "10*20*30", "$5", "~3", "||",
    "a|b", "&", "#tag", "!", "[x]", "[^n]", "https://a.example/p_q", "<https://b.example>", "mail@c.example",
    "\u200b", "\u2028", "\t", "---", "===",
]  # fmt: skip
"""Words, signs and what looks like markup. None of them says a word as markup that would vanish rightly."""
LOOSE = [
    "*", "**", "***", "_", "__", "`", "``", "```", "~~", "~~~", "[", "](", "](h", ")", "![", "<", ">", "|", "\\", "# ",
    "- ", "1. ",
]  # fmt: skip
LINKS = [
    "https://a.example/x?y=1", "http://b.example", "/relative/path", "mailto:who@c.example", "tel:+49", "",
    "javascript:x", "http://host",
]  # fmt: skip
LANGUAGES = ["", "py", "c++", "bash -x", "sehr lange Sprache", "text"]

words = st.sampled_from(WORDS)
joints = st.sampled_from(["", " ", " ", " ", "\n"])


def wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Inline markup around inline text, sometimes never closed."""
    pairs = st.sampled_from(["**", "*", "_", "__", "~~", "`", "``", "***"])
    closed = st.builds(lambda sign, text: f"{sign}{text}{sign}", pairs, inner)
    unclosed = st.builds(lambda sign, text: f"{sign}{text}", pairs, inner)
    link = st.builds(
        lambda bang, text, url: f"{bang}[{text}]({url})", st.sampled_from(["", "", "!"]), inner, st.sampled_from(LINKS)
    )
    several = st.builds(lambda joint, parts: joint.join(parts), joints, st.lists(inner, min_size=2, max_size=5))
    return st.one_of(closed, unclosed, link, several)


inline = st.recursive(st.one_of(words, words, st.sampled_from(LOOSE)), wrapped, max_leaves=5)


def table(rows: list[list[str]]) -> str:
    """As many cells in a row as drawn, which need not be as many as the head has."""
    lines = [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + ":--|" * len(rows[0]), *lines[1:]])


def nested(block: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Blocks in quotes and lists."""
    bullets = st.sampled_from(["- ", "* ", "1. ", "7) ", "- [ ] ", "- [x] "])
    quote = block.map(lambda text: "\n".join(f"> {line}" for line in text.split("\n")))
    item = st.builds(lambda sign, text: sign + text.replace("\n", "\n" + " " * len(sign)), bullets, block)
    return st.one_of(quote, item, st.lists(item, min_size=2, max_size=4).map("\n".join))


fence = st.builds(
    lambda sign, language, body, end: f"{sign}{language}\n{body}\n{end}",
    st.sampled_from(["```", "~~~", "````"]),
    st.sampled_from(LANGUAGES),
    st.one_of(inline, st.just("\tdef f(x):\n\t\treturn '```'")),
    st.sampled_from(["```", "~~~", "````", ""]),
)
heading = st.builds(lambda level, text: f"{'#' * level} {text}", st.integers(1, 7), inline)
tables = st.lists(st.lists(inline, min_size=1, max_size=4), min_size=1, max_size=4).map(table)
definition = st.builds(lambda label, rest: f"[{label}]: {rest}", words, st.one_of(words, st.sampled_from(LINKS)))
flat = st.one_of(
    inline,
    inline,
    fence,
    heading,
    definition,
    inline.map(lambda text: f"    {text}"),
    inline.map(lambda text: f"{text}\n---"),
)
blocks = st.recursive(flat, nested, max_leaves=4)
gaps = st.sampled_from(["\n", "\n\n", "\n\n\n", " "])
times = st.sampled_from([1, 1, 1, 1, 1, 1, 3, 20, 60])


def document(block: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Blocks one after the other, some of them often enough for several messages."""
    part = st.builds(
        lambda text, gap, count: (text + gap) * min(count, 6_000 // (len(text) + 1) + 1), block, gaps, times
    )
    return st.lists(part, max_size=5).map("".join)


QUIETLY = settings(max_examples=2000, deadline=None, derandomize=True, database=None)
"""A busy machine must not turn a test red, and no earlier run may change what is tested."""
LIGHTLY = settings(QUIETLY, max_examples=300)


@QUIETLY
@given(document(st.one_of(blocks, blocks, tables)))
@pytest.mark.slow
def test_two_thousand_texts_are_taken_whole_and_lose_no_word(markdown: str) -> None:
    """Formatting is never the reason why an answer, or a word of it, is missing."""
    pieces = pieces_of(markdown, plain=False)
    assert bool(pieces) == bool(clean(markdown).strip("\u200b \n\t"))
    for piece in pieces:
        assert_taken_as_it_is(piece)
    said = re.sub(r"\[[^\]\n]*\]:", "", markdown)  # the name of a link's definition, where it is one
    missing = Counter(essence(said)) - Counter(essence(shown(pieces)))
    assert not missing, missing


@LIGHTLY
@given(document(blocks))
def test_words_stay_in_their_order(markdown: str) -> None:
    """Tables aside, whose rows may repeat the head, the text reads from front to back as it was written.

    A link's definition stands where it is used. What follows the language of a block of code stands above the block,
    and so before the language.
    """
    assume("]:" not in markdown)
    rest = iter(essence(shown(pieces_of(markdown, plain=False))))
    assert all(sign in rest for sign in essence(re.sub("bash (?=-x)|sehr (?=lange)", "", markdown)))


@LIGHTLY
@given(document(st.one_of(blocks, tables)), st.integers(0, 9_000))
def test_a_draft_of_any_beginning_is_taken(markdown: str, length: int) -> None:
    """A preview stops anywhere, in the middle of a sign as well."""
    draft = draft_of(markdown[:length])
    if draft.text:
        assert_taken_as_it_is(draft)
    assert bool(draft.text) <= bool(clean(markdown[:length]))


@LIGHTLY
@given(document(st.one_of(blocks, tables)))
def test_rich_messages_keep_their_limits(markdown: str) -> None:
    """A refusal costs a call; what is known to be too much is not tried."""
    rich = rich_of(markdown)
    if rich is not None:
        assert read_rich(Params({"rich_message": rich})).text == clean(markdown)


@LIGHTLY
@given(document(st.one_of(blocks, tables)))
def test_the_same_text_makes_the_same_messages(markdown: str) -> None:
    """A worker that takes an answer over after a crash goes on where the other stopped."""
    assert pieces_of(markdown, plain=False) == pieces_of(clean(markdown), plain=False)


@settings(QUIETLY, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document(st.one_of(blocks, tables)))
async def test_messages_go_over_the_wire_unchanged(api: Subject, markdown: str) -> None:
    """As the bot sends them: over HTTP, as JSON, where an offset counted otherwise would show."""
    for piece in pieces_of(markdown, plain=False):
        message = await api.send(piece.text, entities=piece.entities)
        assert (message["text"], message.get("entities", [])) == (piece.text, piece.entities)


@pytest.fixture
async def api() -> AsyncIterator[Subject]:
    """The sandbox's Bot API over HTTP; every example may use the same, for a message changes nothing for the next."""
    telegram = TelegramServer()
    telegram.add_bot(TOKEN)
    telegram.add_chat(CHAT)
    await telegram.start()
    async with aiohttp.ClientSession() as http:
        yield Subject(telegram.url, TOKEN, CHAT, http, telegram)
    await telegram.aclose()


def assert_taken_as_it_is(piece: Piece) -> None:
    """By the rules of the sandbox, which changes nothing of it, and by Telegram's rules on nesting."""
    assert formatted(piece.text, array=piece.entities) == (piece.text, piece.entities)
    assert utf16_units(piece.text) <= LIMIT
    assert len(piece.entities) <= MOST_ENTITIES
    opened: list[dict[str, Any]] = []
    for entity in piece.entities:
        while opened and end_of(opened[-1]) <= entity["offset"]:
            opened.pop()
        if opened:
            assert end_of(entity) <= end_of(opened[-1]), "overlapping"
        around = {outer["type"] for outer in opened}
        assert entity["type"] not in around
        assert not around & {"code", "pre"}
        if entity["type"] in {"code", "pre"}:
            assert around <= {"blockquote"}
        opened.append(entity)


def end_of(entity: dict[str, Any]) -> int:
    end: int = entity["offset"] + entity["length"]
    return end


def shown(pieces: list[Piece]) -> str:
    """What the messages say, with the addresses of links and the languages of code where they stand."""
    return "\n".join("".join(linear(piece)) for piece in pieces)


def linear(piece: Piece) -> Iterator[str]:
    raw = piece.text.encode("utf-16-le")
    hidden = sorted(
        [(end_of(entity), entity["url"]) for entity in piece.entities if "url" in entity]
        + [(entity["offset"], entity["language"]) for entity in piece.entities if "language" in entity]
    )
    done = 0
    for at, words_of_it in hidden:
        yield raw[done * 2 : at * 2].decode("utf-16-le") + words_of_it
        done = at
    yield raw[done * 2 :].decode("utf-16-le")


def essence(text: str) -> str:
    """Letters, marks, symbols: all but blanks, punctuation, the numbers of lists and the crosses of tasks.

    Of an address that is no link, what stands before it (`mailto:`) is markup as well; a picture that links to itself
    says its address once, so of each address only the first counts.
    """
    text = clean(text)
    for link in filter(None, LINKS):
        first, *rest = text.split(link)
        text = link.join([first, "".join(rest)]) if rest else first
    text = re.sub(r"\[[xX]\]|\d+|mailto:|tel:", "", text)
    return "".join(
        sign for sign in text if unicodedata.category(sign)[0] in "LMN" or unicodedata.category(sign) == "So"
    )

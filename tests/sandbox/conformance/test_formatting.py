"""Parse modes and entities."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.callers import Subject, refused


@pytest.mark.parametrize("mode", ["HTML", "html", "Html"])
async def test_parse_mode_comes_in_any_case(subject: Subject, mode: str) -> None:
    """Server: the parse mode is lowered before it is looked up."""
    message = await subject.send("<b>x</b>", parse_mode=mode)
    assert message["entities"] == [{"type": "bold", "offset": 0, "length": 1}]


async def test_an_unknown_parse_mode_is_refused(subject: Subject) -> None:
    """Server: only HTML, Markdown and MarkdownV2 exist."""
    reason = refused("unsupported parse_mode")
    assert await subject.no("sendMessage", chat_id=subject.chat, text="x", parse_mode="BBCode") == reason


@pytest.mark.parametrize(
    ("mode", "text", "shown", "kinds"),
    [
        ("HTML", "<b>b</b> <i>i</i> &lt;&amp;&#33;", "b i <&!", ["bold", "italic"]),
        ("HTML", '<a href="https://example.org/x">l</a>', "l", ["text_link"]),
        ("HTML", '<pre><code class="language-py">p</code></pre>', "p", ["pre"]),
        ("HTML", "<blockquote expandable>q</blockquote>", "q", ["expandable_blockquote"]),
        ("HTML", '<span class="tg-spoiler">s</span>', "s", ["spoiler"]),
        ("MarkdownV2", "*b* _i_ __u__ ~s~", "b i u s", ["bold", "italic", "underline", "strikethrough"]),
        ("MarkdownV2", "||h||", "h", ["spoiler"]),
        ("MarkdownV2", r"1\. *a\*b* `c.d\``", "1. a*b c.d`", ["bold", "code"]),
        ("MarkdownV2", "[t](https://example.org/a\\)b)", "t", ["text_link"]),
        ("MarkdownV2", ">quoted\n>more\nnot", "quoted\nmore\nnot", ["blockquote"]),
        ("MarkdownV2", "```py\nx = 1\n```", "x = 1", ["pre"]),
        ("Markdown", "*b* _i_ `c` a.b [t](example.org)", "b i c a.b t", ["bold", "italic", "code", "text_link"]),
        ("Markdown", r"snake\_case", "snake_case", []),
    ],
)  # fmt: skip
async def test_markup_becomes_entities(subject: Subject, mode: str, text: str, shown: str, kinds: list[str]) -> None:
    """Bot API, formatting options."""
    message = await subject.send(text, parse_mode=mode)
    assert message["text"] == shown
    assert [entity["type"] for entity in message.get("entities", [])] == kinds


@pytest.mark.parametrize(
    ("mode", "text", "reason"),
    [
        ("HTML", "é<div>x</div>", 'Unsupported start tag "div" at byte offset 2'),
        ("HTML", "a < b", 'Unsupported start tag "" at byte offset 2'),
        ("HTML", "<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("HTML", "x</b>", "Unexpected end tag at byte offset 1"),
        ("HTML", "<b><i>x</b></i>", 'Unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ("HTML", "x<b", "Unclosed start tag at byte offset 1"),
        ("HTML", "<b>x</b", "Unclosed end tag at byte offset 4"),
        ("HTML", '<span class="x">x</span>', 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("MarkdownV2", "a.b", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "1 - 2", "Character '-' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "é*x", "Can't find end of Bold entity at byte offset 2"),
        ("MarkdownV2", "`x", "Can't find end of Code entity at byte offset 0"),
        ("MarkdownV2", "```py\nx", "Can't find end of PreCode entity at byte offset 0"),
        ("MarkdownV2", "[x](http://a", "Can't find end of a URL at byte offset 4"),
        ("Markdown", "snake_case", "Can't find end of the entity starting at byte offset 5"),
        ("Markdown", "*x", "Can't find end of the entity starting at byte offset 0"),
    ],
)  # fmt: skip
async def test_broken_markup_is_refused_in_the_servers_words(
    subject: Subject, mode: str, text: str, reason: str
) -> None:
    """Server: the parsers' own error texts, offsets in bytes."""
    expected = refused(f"can't parse entities: {reason}")
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text, parse_mode=mode) == expected


async def test_entity_offsets_count_utf16_units(subject: Subject) -> None:
    """Bot API, MessageEntity: offset and length in UTF-16 code units."""
    entities = [{"type": "bold", "offset": 3, "length": 2}]
    assert (await subject.send("\U0001f600 ab", entities=entities))["entities"] == entities


@pytest.mark.parametrize(
    ("entity", "reason"),
    [
        ({"type": "bold", "offset": 9, "length": 1}, "entity begins after the end of the text at UTF-16 offset 9"),
        (
            {"type": "bold", "offset": 0, "length": 9},
            "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 9",
        ),
        ({"type": "bold", "offset": 1, "length": 2}, "entity begins in a middle of a UTF-16 symbol at byte offset 4"),
        (
            {"type": "bold", "offset": 0, "length": 1},
            "entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at byte offset 4",
        ),
        ({"type": "bold", "offset": -1, "length": 1}, "receive an entity with incorrect offset -1"),
        ({"type": "glitter", "offset": 0, "length": 2}, "can't parse MessageEntity: Unsupported type specified"),
        ({"type": "bold", "offset": 0}, "can't parse MessageEntity: Can't find field \"length\""),
        ("bold", "can't parse MessageEntity: expected an Object"),
    ],
)
async def test_wrong_entities_are_refused(subject: Subject, entity: Any, reason: str) -> None:
    """Server: entities must lie on characters of the text."""
    code, description = await subject.no("sendMessage", chat_id=subject.chat, text="\U0001f600ab", entities=[entity])
    assert (code, description) == refused(reason)

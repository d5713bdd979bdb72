"""Text as Telegram reads it: properties over any input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.sandbox.entities import commands_in, formatted
from bot.sandbox.refusal import BadRequestError
from bot.sandbox.units import checked_link, utf16_length

MARKS = st.text(alphabet="*_~|`[]()!>\\<>/&;=\"' abi\n.\U0001f600é#0", max_size=40)

#: The same examples each time, and no limit on how long one takes: a busy machine must not turn a test red.
QUIETLY = settings(deadline=None, derandomize=True)


@QUIETLY
@given(MARKS, st.sampled_from(["", "HTML", "Markdown", "MarkdownV2"]))
def test_any_text_is_read_or_refused(text: str, mode: str) -> None:
    """Never an error of our own; entities lie within the text."""
    try:
        result = formatted(text, mode, may_be_empty=True)
    except BadRequestError:
        return
    size = utf16_length(result.text)
    for entity in result.entities:
        assert 0 <= entity["offset"] < entity["offset"] + entity["length"] <= size


@QUIETLY
@given(st.text(max_size=60))
def test_reading_twice_changes_nothing(text: str) -> None:
    """What was cleaned and trimmed is clean: a repeated edit is "not modified"."""
    try:
        once = formatted(text, may_be_empty=True)
    except BadRequestError:
        return
    assert formatted(once.text, may_be_empty=True) == once


@QUIETLY
@given(st.text(max_size=60))
def test_utf16_length_is_that_of_the_encoding(text: str) -> None:
    """The unit of Telegram's limits."""
    assert utf16_length(text) == len(text.encode("utf-16-le", "surrogatepass")) // 2


def test_entities_shrink_with_what_is_removed() -> None:
    """A removed character inside an entity shortens it, one before moves it."""
    entities = [{"type": "bold", "offset": 2, "length": 3}]
    result = formatted("\ra\rb\rc", array=[{**entities[0], "offset": 1, "length": 4}])
    assert result == ("abc", [{"type": "bold", "offset": 0, "length": 2}])


def test_trimming_stops_at_the_first_entity() -> None:
    """Blank text under an entity stays in front, as in the original."""
    assert formatted("  x", array=[{"type": "code", "offset": 1, "length": 2}]).text == " x"
    assert formatted("x  ", array=[{"type": "code", "offset": 0, "length": 3}]).entities[0]["length"] == 1


def test_lone_surrogates_are_refused() -> None:
    """Server: strings must be encoded in UTF-8."""
    with pytest.raises(BadRequestError, match="UTF-8"):
        formatted("\ud83d")


def test_a_text_of_over_32_kilobytes_is_not_even_parsed() -> None:
    """Server: text is too long."""
    with pytest.raises(BadRequestError, match="text is too long"):
        formatted("я" * 20_000, "HTML")


@pytest.mark.parametrize(
    ("url", "checked"),
    [("example.org", "http://example.org/"), ("https://example.org/x?y", "https://example.org/x?y"), ("nonsense", ""),
     ("javascript:alert(1)", ""), ("file:///etc/passwd", ""), ("tg://resolve?domain=x", "tg://resolve?domain=x")],
)  # fmt: skip
def test_only_links_become_links(url: str, checked: str) -> None:
    """Other addresses leave plain text."""
    assert checked_link(url) == checked


def test_a_link_to_a_user_is_a_mention() -> None:
    """Bot API, formatting options: tg://user?id=…"""
    (entity,) = formatted('<a href="tg://user?id=42">you</a>', "HTML").entities
    assert (entity["type"], entity["user"]["id"]) == ("text_mention", 42)


def test_commands_are_found_as_the_apps_find_them() -> None:
    """With the bot's name, in the middle, not inside paths; offsets in UTF-16."""
    found = commands_in("\U0001f600 /help@sandbox_bot and /new, not a/b, </b> or /x/y")
    assert [(entity["offset"], entity["length"]) for entity in found] == [(3, 17), (25, 4)]

"""Whatever was written comes back as it was, and in the page it is never anything but text."""

import asyncio
import base64
import hashlib
import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.privacy import content, page
from bot.privacy.archive import Entry, Noted, Skipped, archive
from tests.privacy.samples import Reading, about, conversations, entry, messages, packed, say, told, unpacked
from tests.privacy.samples import page as page_of

OURS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "main", "section", "article", "header", "b", "bdi",
    "p", "time", "small", "ul", "li",
}  # fmt: skip
HARMLESS = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "dir", "datetime"}
PIECES = st.sampled_from([
    "</style><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</p></article></main>", "<!--", "-->",
    "]]>", "<![CDATA[", "<?php", "&lt;", "&#60;", "&amp;amp;", "&notit;", "\"'`", "{bot}", "{0}", "%s", "\x00", "\x0b",
    "\x85", "\x9b", "\u202e", "\u2066", "\u2069", "\u200f", "\ud83d", "\ude00", "\ufeff", "\ufffe", "\u2028", "\\",
    "\\ud83d", "\r\n", "\r", "\n\n", "\t", "  ", "e\u0301" * 9, "https://a.example/?a=1&b=2", "javascript:alert(1)",
    "中文", "שלום", "👩\u200d👩\u200d👧",
])  # fmt: skip
TEXTS = st.lists(PIECES | st.text(st.characters(exclude_categories=()), max_size=20), max_size=12).map("".join)


def joined(text: str) -> str:
    """Two halves of a pair that stand together are one sign wherever a text is encoded."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def visible(text: str) -> str:
    """What a page can show of a text: line ends are one sign, and what is no sign at all is replaced by one."""
    kept = re.sub("\r\n?", "\n", text)
    return "".join(sign if sign in "\n\t" else _replaced(sign) for sign in kept)


def _replaced(sign: str) -> str:
    match unicodedata.category(sign):
        case "Cc" if ord(sign) < 0x20:
            return chr(0x2400 + ord(sign))
        case "Cc" if ord(sign) == 0x7F:
            return "\u2421"
        case "Cc" | "Cs":
            return "\ufffd"
    return sign


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS.filter(bool), TEXTS, TEXTS)
@example("x" * 100_000, "<" * 100_000, "a", "b")
def test_hostile_text_stays_text(question: str, answer: str, name: str, skipped: str) -> None:
    """JSON gives back the very text; the page shows it and holds no element and no attribute that is not ours."""
    noted = Noted(0, 0, 1, (question, answer), name)
    archived = packed([entry(1, question, answer, state=name), noted], about(Skipped(skipped, skipped), bot=name))
    assert [joined(message["text"]) for message in messages(archived)] == [joined(question), joined(answer)]
    notes = conversations(archived)["conversations"][0]["notes"]
    assert [joined(text) for text in notes["statements"]] == [joined(question), joined(answer)]
    assert joined(notes.get("summary", "")) == joined(name)
    read = page_of(archived)
    assert read.elements <= OURS
    assert read.attributes <= HARMLESS
    assert read.of(".said") == [visible(question), visible(answer), *([visible(name)] if name else [])]
    assert read.of("h1") == [visible(f"Your conversations with {name}")]
    reason = skipped or content.NO_REASON
    assert read.of("li") == [visible(question), visible(answer), visible(f"{skipped}: {reason}")]


@pytest.mark.parametrize("language", ["zh-hans", "", '"><script>alert(1)</script>'])
def test_the_language_is_an_attribute_and_nothing_else(language: str) -> None:
    """It comes from the customer's app."""
    of = about()
    of = type(of)(of.bot, of.chat_id, of.made_s, of.part, of.parts, language)
    assert page_of(packed([], of)).elements <= OURS


def test_what_people_wrote_is_not_in_the_pages_language() -> None:
    """Read aloud, or drawn with another language's signs, it would be wrong: each text is of a language unknown."""
    html = unpacked(packed([entry(1)]))["chat.html"].decode()
    assert html.count('lang="en"') == 1
    assert html.count('<p class="said" lang="" dir="auto">') == 2


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    """The policy comes before everything it is about, and its hash is that of the style as it stands there."""
    html = unpacked(packed([entry(1)]))["chat.html"].decode()
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    [style] = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_tells_days_times_people_and_states() -> None:
    """In words and once a day: not in the names that programs use."""
    entries = [entry(1, state="stopped"), entry(2, answer="", state="handed"), entry(90, answer="hi", state="operator")]
    read = page_of(packed(entries))
    assert read.of(".day") == ["2026-11-20", "2026-11-21"]
    assert read.of("header") == [
        "You 14:13", "AI assistant 14:14", "You 14:23", "You 05:03", "Support team 05:04",
    ]  # fmt: skip
    assert read.of("small") == ["You stopped this answer.", "Passed on to a person."]


def test_conversations_have_headings_of_their_own() -> None:
    """People count from 1; a topic is named where there is one."""
    entries = [entry(1), entry(1, conversation=1), entry(2, conversation=1), entry(1, topic=5)]
    assert page_of(packed(entries)).of("h2") == ["Conversation 1", "Conversation 2", "Topic 5, conversation 1"]


def test_every_sentence_of_the_page_is_translated() -> None:
    """Also the reasons, which are sentences of ours; texts of people are left alone."""
    marked = "¡{}!"
    skipped = Skipped("foto 4", "Only text is kept.")

    async def made() -> bytes:
        turns = [entry(1, state="stopped"), entry(2, state="handed"), entry(3, state="operator")]
        entries: list[Entry | Noted] = [*turns, Noted(0, 0, 1, ("my order is 5",), "an order")]
        stream = archive(about(skipped, part=2, parts=2), lambda: told(entries), marked.format)
        return b"".join([chunk async for chunk in stream])

    read = Reading(unpacked(asyncio.run(made()))["chat.html"])
    ours = [text for name in ("h1", "h2", "b", "small", "title") for text in read.of(name)]
    assert ours
    assert all(text.startswith("¡") and text.endswith("!") for text in ours)
    assert read.of("li") == ["my order is 5", "foto 4: ¡Only text is kept.!"]
    assert [text.count("¡") for text in read.of(".quiet")] == [2, 1, 1]
    assert read.of(".said")[0] == "how?"


def test_every_role_has_words() -> None:
    """A new kind of speaker must not end an export."""
    assert set(page.ROLES) == set(content.Role)
    assert say(page.NOTHING) == page.NOTHING

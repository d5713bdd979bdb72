"""An answer keeps its words and loses every address that the operator does not allow, however it is written."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.delivery.form import Piece, clean, draft_of, pieces_of
from bot.safety.links import LinkRules, without_images

GONE = "[link removed]"
RULES = LinkRules(("example.com", "help.example.org", "münchen.de"), GONE)
NO_RULES = LinkRules((), GONE)

UNCHANGED = [
    "See https://example.com/a_b(c)?x=1#y, https://docs.example.com. And (http://EXAMPLE.com:8080/).",
    "[words](https://example.com/x 'Title') and <https://www.example.com> and [r][1]\n\n[1]: https://help.example.org/x",
    "example.com, www.example.com/path, help.example.org.",
    "https://MÜNCHEN.de https://xn--mnchen-3ya.de https://example.com./ https://git@example.com",
    "Write to someone@other.com, mailto:someone@other.com, <someone@other.com>, [us](mailto:someone@other.com).",
    "Ask @support_bot, see #tag, /start, call [us](tel:+49301234567) at 10:30.",
    "Version 1.2.3 of Node.js, e.g. for config.yaml, i.e. a.b, U.S., p.m., etc.and so on.",
    "Done.It works now.So open the menu.You can.",
    "A path such as src/main.py, ./run.sh or C:\\Users\\me; a key such as user.key; 3.5 or 2026.03.12.",
    "`https://other.com` and ``a `https://other.com` b`` stay",
    "```\nhttps://other.com ![x](https://other.com)\n```\nafter",
    "Use https:// or http://.",
    "[top](#top) and [page](/path/page.html)",
    "- [ ] task\n- **bold** _it_ ~~no~~ | a | <b>html</b> &amp; ]: [x] ![",
    "人民币 100。元；「引用」",
]
CHANGED = {
    "bare": ("See https://other.com/x?y=1.", f"See {GONE}."),
    "inline": ("[**Click** here](https://other.com) now", f"**Click** here {GONE} now"),
    "reference": ("[a][1] [1] [1][]\n\n[1]: https://other.com 'T'\n", f"a {GONE} 1 {GONE} 1 {GONE}\n\n\n"),
    "autolink": ("<https://other.com/x>", GONE),
    "words are an address": ("[https://example.com](https://other.com)", f"https://example.com {GONE}"),
    "words are another address": ("[other.com](https://example.com)", f"[{GONE}](https://example.com)"),
    "other schemes": ("ftp://other.com ws://other.com/x foo://bar", f"{GONE} {GONE} {GONE}"),
    "bare domains": ("other.com/x www.other.foo other.example/path t.me/other", " ".join([GONE] * 4)),
    "upper case": ("HTTPS://OTHER.COM and OTHER.COM", f"{GONE} and {GONE}"),
    "Telegram": ("tg://resolve?domain=x [t](tg://user?id=1)", f"{GONE} t {GONE}"),
    "user": ("https://example.com@other.com", GONE),
    "user and password": ("https://example.com:pw@other.com/", GONE),
    "user alone": ("a@other.com/path", GONE),
    "backslash": ("https://other.com\\@example.com https://other.com\\.example.com", f"{GONE} {GONE}"),
    "percent": ("https://other%2ecom https://example.com%2eother.com", f"{GONE} {GONE}"),
    "look-alike letter": ("https://ехample.com ехample.com", f"{GONE} {GONE}"),
    "Punycode": ("https://xn--xample-9uf.com", GONE),
    "full-width letters": ("https://ｏther.com", GONE),
    "other host with an allowed end": ("https://notexample.com example.com.other.com", f"{GONE} {GONE}"),
    "trailing dot": ("https://other.com./x other.com.", f"{GONE} {GONE}."),
    "port": ("other.com:443 https://other.com:8443/x", f"{GONE} {GONE}"),
    "one slash": ("http:/other.com https:\\other.com", f"{GONE} {GONE}"),
    "in a query": ("https://example.com/?to=https://other.com", GONE),
    "hidden characters": ("https://ot\u200bher.com o\u00adther.com", f"{GONE} {GONE}"),
    "control characters": ("[x](https://ot&#9;her.com) [y](java&#9;script:alert)", f"x {GONE} y {GONE}"),
    "nested brackets": ("[a [b](https://other.com)](https://example.com)", f"[a b {GONE}](https://example.com)"),
    "emphasis inside": ("ot*her*.com", GONE),
    "escape inside": ("other\\.com", GONE),
    "entity inside": ("other&#46;com https://example.com&#46;other.com", f"{GONE} {GONE}"),
    "title": ("[x](https://example.com 'other.com')", f"x {GONE}"),
    "no scheme": ("[x](//other.com) [y](other.com/a)", f"x {GONE} y {GONE}"),
    "unknown scheme": ("[x](skype:someone)", f"x {GONE}"),
    "mail with a subject": ("[m](mailto:a@other.com?subject=x)", "[m](mailto:a@other.com)"),
    "mail with words in front": ("Mail:a@other.com", "Mail: a@other.com"),
    "language of code": ("```x other.com/y\ncode\n```", f"```x {GONE}\ncode\n```"),
    "indented": ("a\n\n    https://other.com", f"a\n\n    {GONE}"),
    "broken link": ("[x](https://other.com", f"x {GONE}"),
    "emphasised": ("**https://other.com** _other.com_", f"**{GONE}** _{GONE}_"),
    "no new link": ("https://other.com(a b) https://other.com: x", f"{GONE} (a b) {GONE} : x"),
    "files and numbers become code": ("setup.py, README.md, 10.0.0.1", "`setup.py`, `README.md`, `10.0.0.1`"),
    "a file with signs": ("__init__.py snake\\_case.py", "`__init__.py` `snake_case.py`"),
    "allowed within Chinese": ("请访问example.com获取", "请访问 example.com 获取"),
    "allowed before Chinese": ("看https://example.com获取", "看https://example.com 获取"),
    "mail within Chinese": ("请联系help@other.com吧", "请联系help@other.com吧"),
    "other within Chinese": ("请访问other.com获取", f"请访问{GONE}获取"),
    "domain in Chinese and Russian": ("例子.中国 пример.рф", f"{GONE} {GONE}"),
    "letters in front": ("наexample.com", GONE),
}


@pytest.mark.parametrize("text", UNCHANGED)
def test_what_is_allowed_or_no_link_stays_as_it_is(text: str) -> None:
    """Rules touch nothing but addresses that Telegram, or an app, would make a link of."""
    assert RULES.kept(text) == text


@pytest.mark.parametrize(("text", "kept"), CHANGED.values(), ids=CHANGED)
def test_an_address_that_is_not_allowed_is_removed(text: str, kept: str) -> None:
    """The words stay, the address goes, whatever trick it is written with."""
    assert RULES.kept(text) == kept


@pytest.mark.parametrize("text", ["https://other.com", "[a](//other.com/x)", "other.com", "10.0.0.1", "a@other.com/x"])
def test_without_rules_every_address_stays(text: str) -> None:
    """No list means no rule."""
    assert NO_RULES.kept(text) == text


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "JaVaScRiPt:x", "data:text/html;base64,xx", "vbscript:x", "java&#9;script:x"]
)
def test_what_runs_or_carries_a_page_is_removed_even_without_rules(target: str) -> None:
    """Such a target is never an address of something."""
    for rules in (RULES, NO_RULES):
        assert rules.kept(f"[x]({target})") == f"x {GONE}"
        assert rules.kept(f"[x][y]\n\n[y]: {target}") == f"x {GONE}\n\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("![a *b*](https://example.com/x.png)", "a *b*"),
        ("![](https://example.com/x.png)!", "!"),
        ("[![alt](x.png)](https://example.com)", "[alt](https://example.com)"),
        ("![q][z] ![z]\n\n[z]: https://example.com/x.png\n", "q z\n\n\n"),
        ("![out ![in](a)](b)", "out in"),
        ("![x](two words)", "[x](two words)"),
        ("<img src='https://example.com/x' alt=\"A cat\"> <IMG src=x>", "A cat "),
        ("`![a](b)`", "`![a](b)`"),
        ("Wow![", "Wow!["),
        ("!![a](b)[c](d)", "!a[c](d)"),
    ],
)
def test_a_picture_becomes_its_words(text: str, told: str) -> None:
    """Nothing loads by itself, with rules or without."""
    assert without_images(text) == told
    assert NO_RULES.kept(text) == told


def test_a_growing_text_shows_no_address_before_it_is_known_to_be_allowed() -> None:
    """Each beginning of an answer is safe, and nothing flickers where the address turns out to be allowed."""
    answer = "Go [to it](https://docs.example.com/a) or https://help.example.org/b now."
    for length in range(len(answer) + 1):
        kept = RULES.kept(answer[:length], growing=True)
        assert GONE not in kept
        assert not _addresses(kept)
        assert not _addresses(RULES.kept(answer[:length]))
        assert not _linked([draft_of(kept)])
    assert RULES.kept("See [it](https://other.com", growing=True) == "See it"
    assert RULES.kept("See https://other.com", growing=True) == "See "
    assert RULES.kept("See https://other.com and", growing=True) == f"See {GONE} and"


@pytest.mark.parametrize("hosts", [("https://example.com",), ("",), ("a b",), ("exa%6dple.com",), ("*.example.com",)])
def test_a_rule_that_is_no_host_is_refused(hosts: tuple[str, ...]) -> None:
    """A rule that would never match is told, not kept."""
    with pytest.raises(ValueError, match="is not the name of a host"):
        LinkRules(hosts, GONE)


@pytest.mark.parametrize("removed", ["see https://other.com", "a\nb", "`code`", "other.com"])
def test_what_stands_for_a_link_is_no_link(removed: str) -> None:
    """The words in place of an address must not be one."""
    with pytest.raises(ValueError, match="a few plain words"):
        LinkRules(("example.com",), removed)


_FENCED = re.compile(r"^```[^\n]*\n.*?(?:^```|\Z)", re.DOTALL | re.MULTILINE)
_HOST = re.compile(
    r"(?:[a-z]://|(?<![\w@.+/#\\-]))((?:[a-z0-9-]+\.)+(?:com|net|ru|me))(?![\w.-]*@)(?![\w-]|\.\w)", re.IGNORECASE
)

_ALLOWED = re.compile(
    r"(?<![\w.@-])(?:example\.com|help\.example\.org)(?::\d+)?[/?#][^\s<>\"()\[\]`*|]*", re.IGNORECASE
)


def _addresses(text: str) -> list[str]:
    """Hosts that a simple reader finds and does not know as allowed; an allowed address is one link, path and all."""
    found = (match[1].lower() for match in _HOST.finditer(_ALLOWED.sub(" ", text)))
    return [host for host in found if not f".{host}".endswith((".example.com", ".help.example.org"))]


def _linked(pieces: list[Piece]) -> list[str]:
    """Hosts in the messages that would be sent, code left out."""
    hosts = []
    for piece in pieces:
        data = piece.text.encode("utf-16-le")
        for entity in piece.entities:
            if entity["type"] in {"code", "pre"}:
                begin, end = 2 * entity["offset"], 2 * (entity["offset"] + entity["length"])
                data = data[:begin] + " ".encode("utf-16-le") * (entity["length"]) + data[end:]
            hosts += _addresses(entity.get("url", ""))
        hosts += _addresses(data.decode("utf-16-le"))
    return hosts


_PIECES = st.sampled_from(
    [
        *("https://", "HTTP:/", "www.", "t.me/", "tg://", "mailto:", "javascript:", "data:text/html,"),
        *(
            "other.com",
            "example.com",
            "help.example.org",
            "evil.net",
            "злой.ru",
            "@",
            ".",
            "/",
            "\\",
            ":",
            ":80/",
            "%2e",
            "#",
        ),
        *(
            "[",
            "](",
            ")",
            "]",
            "![",
            "<",
            ">",
            "[a]: ",
            "[a]",
            "`",
            "```",
            "```\n",
            "\n",
            "\n\n",
            "    ",
            "|",
            "*",
            "_",
            "**",
            "~",
        ),
        *(
            "&#46;",
            "&amp;",
            "\\.",
            "\u200b",
            "\u00ad",
            "\ufeff",
            "\u0333",
            "\t",
            " ",
            "a",
            "setup.py",
            "1.2.3.4",
            "看",
            "😀",
            "<img alt='x' src=",
        ),
    ]
)
_ANSWERS = st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=14).map("".join)


@settings(max_examples=400)
@given(_ANSWERS, st.booleans())
@example("`other.com", False)
@example("[a]: https://other.com\n[a]: https://evil.net\n\n[a]", False)
@example("```\nother.com\n``` other.com", False)
@example("\ud800https://other.com\udfff", True)
def test_no_text_gets_a_foreign_address_through(text: str, growing: bool) -> None:
    """kept() raises for no text, changes nothing a second time, and leaves no address that a simple reader finds."""
    kept = RULES.kept(text, growing=growing)
    assert RULES.kept(kept, growing=growing) == kept
    assert _linked(pieces_of(clean(kept), plain=False)) == []
    assert _linked([draft_of(RULES.kept(text, growing=True))]) == []


@settings(max_examples=150)
@given(_ANSWERS)
def test_without_rules_any_text_comes_to_rest(text: str) -> None:
    """The same without a list: no picture is left outside code, and a second call changes nothing."""
    kept = NO_RULES.kept(text)
    assert NO_RULES.kept(kept) == kept

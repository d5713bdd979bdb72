"""Rules of the operator and an endpoint's verdict; the stricter of the two counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import ChatApiTimeoutError
from bot.safety.moderation import (
    MOST_CHARACTERS,
    Action,
    Moderation,
    ModerationApi,
    ModerationUnavailableError,
    Rules,
    Verdict,
)

RULES = Rules("""
# what the shop does not talk about
warn: refund.*lawyer
refuse:  \\b(?:bomb|weapon)s?\\b
  person: suicid|kill myself
Warn: возврат\\s+денег
answer: bombastic
""")


def _reply(flagged: bool, **categories: bool | None) -> dict[str, Any]:
    return {"id": "modr-1", "results": [{"flagged": flagged, "categories": categories}]}


class _Endpoint:
    """Answers with what it is given, or raises it, and keeps what it was asked."""

    def __init__(self, reply: object) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []

    async def post(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply  # type: ignore[return-value]


def test_the_strictest_rule_wins_wherever_it_stands() -> None:
    """A text that several rules match is treated as the strictest of them says."""
    assert RULES.verdict("I'll kill myself with a bomb, refund or my lawyer") == Verdict(
        Action.PERSON, "suicid|kill myself"
    )
    assert RULES.verdict("a refund, or I call my lawyer").action is Action.WARN
    assert RULES.verdict("a bombastic shop") == Verdict(Action.ANSWER, None)


def test_hidden_and_styled_letters_do_not_get_around_a_rule() -> None:
    """Rules read what a person sees: hidden characters are gone, full-width and styled letters are ordinary ones."""
    for text in ("BOMB", "b\u200bo\u00adm\ufeffb", "ｂｏｍｂ", "𝐛𝐨𝐦𝐛", "ВОЗВРАТ  ДЕНЕГ"):
        assert RULES.verdict(text).action > Action.ANSWER, text


def test_a_match_is_found_anywhere_in_a_long_text() -> None:
    """The windows overlap, so no place in the part that is looked at is blind."""
    for place in (0, 990, 1999, 2000, 2995, MOST_CHARACTERS - 10):
        text = "x" * (place - 1) + " refund, lawyer"[(place == 0) :]
        assert RULES.verdict(text[: MOST_CHARACTERS + 5] + " y" * 3000).action is (
            Action.WARN if place < MOST_CHARACTERS - 20 else Action.ANSWER
        )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("no colon here", "Line 3 of the moderation rules is not `action: pattern`, with one of answer, warn"),
        ("delete: x", "Line 3 of the moderation rules is not `action: pattern`"),
        ("warn:", "Line 3 of the moderation rules is not `action: pattern`"),
        ("warn: (a", "Line 3 of the moderation rules is no regular expression"),
        ("warn: a*", "Line 3 of the moderation rules matches every text"),
    ],
)
def test_a_wrong_line_is_named_in_a_sentence(line: str, sentence: str) -> None:
    """Whoever writes rules reads which line is wrong, and why."""
    with pytest.raises(ValueError, match="Line 3") as caught:
        Rules(f"# rules\n\n{line}\nwarn: x")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "pattern",
    [r"(a+)+$", r"(x+x+)+y", r"(?:\w+\s?)*!", r"(ab|ab)*c", r"((0-)+)+x", r"(é|é)+z", r"([a-z]+)*\d", r".*.*.*.*z"],
)
def test_a_pattern_that_hostile_text_makes_slow_is_refused(pattern: str) -> None:
    """Python cannot interrupt a regular expression, so a slow one must never be loaded."""
    with pytest.raises(ValueError, match="can take too long"):
        Rules(f"warn: {pattern}")


@pytest.mark.parametrize(
    "pattern",
    [
        r"refund.*lawyer",
        r"\b\d{16}\b",
        r"(?:free|cheap)\s+(?:money|loans?)",
        r"[\w.+-]+@[\w-]+\.\w+",
        r"退款|投诉",
        r"a.*b.*c",
    ],
)
def test_a_natural_pattern_is_allowed(pattern: str) -> None:
    """What people write as rules is not refused for what only a clever text would make slow."""
    assert len(Rules(f"warn: {pattern}")) == 1


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    """A verdict is given for any text, halves of characters included."""
    assert RULES.verdict(text + "\ud800").action in Action


async def test_the_endpoint_counts_only_the_categories_asked_for() -> None:
    """A shop for knives does not want "violence" to count; a category covers those below it."""
    endpoint = _Endpoint(
        _reply(True, **{"violence": True, "harassment/threatening": True, "hate": False, "illicit": None})
    )
    some = ModerationApi(endpoint.post, Action.REFUSE, frozenset({"harassment", "hate"}))
    assert await some.look("te\u200bxt") == Verdict(Action.REFUSE, "moderation: harassment/threatening")
    assert endpoint.asked == [{"input": "text"}]
    none = ModerationApi(endpoint.post, Action.REFUSE, frozenset({"self-harm"}))
    assert (await none.look("text")).action is Action.ANSWER
    every = ModerationApi(endpoint.post, Action.PERSON, model="omni-moderation-latest")
    assert await every.look("text") == Verdict(Action.PERSON, "moderation: harassment/threatening, violence")
    assert endpoint.asked[-1] == {"input": "text", "model": "omni-moderation-latest"}


async def test_a_text_that_is_not_flagged_is_answered() -> None:
    """Nothing found is the mildest verdict."""
    api = ModerationApi(_Endpoint(_reply(False, hate=False)).post, Action.REFUSE)
    assert await api.look("hello") == Verdict(Action.ANSWER)
    assert await ModerationApi(_Endpoint(_reply(True)).post, Action.WARN).look("x") == Verdict(
        Action.WARN, "moderation: flagged"
    )


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"results": []},
        {"results": [{}]},
        {"results": [{"flagged": "no"}]},
        {"results": [{"flagged": True, "categories": ["x"]}]},
        None,
        [],
        ChatApiTimeoutError("slow"),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=repr,
)
async def test_an_endpoint_that_fails_gives_no_verdict(reply: object) -> None:
    """A failure means neither "allowed" nor "forbidden": the caller decides, and knows the rules' own word."""
    api = ModerationApi(_Endpoint(reply).post, Action.REFUSE)
    with pytest.raises(ModerationUnavailableError):
        await api.look("x")
    with pytest.raises(ModerationUnavailableError) as caught:
        await Moderation(RULES, api).look("a refund, lawyer")
    assert caught.value.verdict == Verdict(Action.WARN, "refund.*lawyer")


async def test_rules_and_endpoint_together_give_the_stricter_verdict() -> None:
    """The endpoint is not asked where it could change nothing: for an empty text, or a rule as strict as itself."""
    endpoint = _Endpoint(_reply(True, hate=True))
    both = Moderation(RULES, ModerationApi(endpoint.post, Action.REFUSE))
    assert (await both.look("a refund, lawyer")).rule == "moderation: hate"
    assert len(endpoint.asked) == 1
    assert (await both.look("a bomb")).rule == r"\b(?:bomb|weapon)s?\b"
    assert (await both.look(" ")).action is Action.ANSWER
    assert len(endpoint.asked) == 1
    assert (await Moderation(RULES).look("a bomb")).action is Action.REFUSE

"""The visible text of an answer: no reasoning, no circles, no more than the bound; however it is cut into deltas."""

import random

import pytest

from bot.chat_api.growing import Growing, goes_round
from bot.errors import ChatApiEmptyError

THOUGHT = "İ think <b> aloud </thin about < > it"
MOST = 64_000


def grown(*deltas: str, most: int = MOST) -> str:
    growing = Growing(most)
    for delta in deltas:
        growing.add(delta)
        assert THOUGHT[:5] not in growing.text
    growing.end()
    return growing.text


def splits(text: str) -> list[list[str]]:
    return [list(text), *([text[:at], text[at:]] for at in range(len(text) + 1))]


@pytest.mark.parametrize("tag", ["think", "thinking", "thought", "thoughts", "reasoning", "THINK"])
def test_a_thought_at_the_beginning_is_not_shown(tag: str) -> None:
    """In every split; the closing tag belongs to the opening one, and blanks behind it are no text."""
    text = f" \n<{tag}>\n{THOUGHT}\n</{tag}>\n\n Hello <b>you</b>"
    for deltas in splits(text):
        assert grown(*deltas) == "Hello <b>you</b>"


def test_thoughts_one_after_the_other_are_not_shown() -> None:
    """In every split, and as one piece."""
    for deltas in splits(f"<think>{THOUGHT}</think>\n<think></think> \n<thought>{THOUGHT}</thought>Hello"):
        assert grown(*deltas) == "Hello"


def test_a_thought_of_any_length_costs_no_letter_of_the_answer() -> None:
    """Letters that change their length in lower case are thought, too."""
    assert grown(f"<think>{'İ' * 500}</think>Merhaba") == "Merhaba"
    assert grown(*(["<think>"] + ["İ"] * 500 + ["</think>", "Merhaba"])) == "Merhaba"


def test_a_thought_that_never_ends_is_no_answer() -> None:
    """The limit of an answer was used up by reasoning."""
    for deltas in splits(f"<think>{THOUGHT}"):
        assert grown(*deltas) == ""


def test_a_thought_whose_beginning_is_missing_is_not_kept() -> None:
    """Templates of some models hold the opening tag; the server then sends only the closing one."""
    for deltas in splits("I wonder.\n</think>\n\nHello"):
        growing = Growing(MOST)
        for delta in deltas:
            growing.add(delta)
        growing.end()
        assert growing.text == "Hello"


@pytest.mark.parametrize(
    "text",
    [
        "<thin", "<", "<b>bold</b>", "<thinker> is no tag", "I <think> so </think> too", " <", "\n\n- one\n- two",
        "<<think>",         "The tag `</think>` ends a thought.", "Write\n```\nx </think> y\n```",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_thought_is_text(text: str) -> None:
    """In every split, to the letter."""
    for deltas in splits(text):
        assert grown(*deltas) == text


def test_text_is_bounded_whatever_comes() -> None:
    """In small deltas, in one, in a replacement, and in whatever comes after."""
    for deltas in (["x y " * 10] * 1000, ["abc " * 40_000]):
        growing = Growing(1000)
        for delta in deltas:
            growing._looked = growing._size  # the same words over and over are another matter
            growing.add(delta)
        assert (len(growing.text), growing.is_full) == (1000, True)
    growing = Growing(1000)
    growing.replace("z" * 5000)
    growing.add("more" * 2000)
    growing.add("more" * 2000)
    assert (len(growing.text), growing.is_full) == (1000, True)


def test_a_replacement_takes_back_all_before_it() -> None:
    """What comes behind it is added to it."""
    growing = Growing(MOST)
    growing.add("<think>never closed")
    growing.replace("Instead")
    growing.add(" of it")
    assert growing.text == "Instead of it"


@pytest.mark.parametrize("passage", ["no ", "I can help you with your order. ", "你好，请问。", "a", "x" * 299 + " "])
def test_circles_are_seen_while_they_are_drawn(passage: str) -> None:
    """Behind an honest beginning too, and not long after they began."""
    with pytest.raises(ChatApiEmptyError):
        grown("An honest beginning, with words of its own. ", *[passage] * (4000 // len(passage)))


def test_circles_at_the_end_are_seen_at_the_end() -> None:
    """An answer that came as one piece is looked at as well."""
    growing = Growing(MOST)
    growing.add("Well, " * 100)
    growing.add("and again " * 99)
    growing.add("and again " * 30)
    with pytest.raises(ChatApiEmptyError):
        growing.end()


def _texts() -> dict[str, str]:
    words = [f"word{number}" for number in range(60)]
    source = random.Random(5)
    rows = "".join(f"| item {number} | {number * 7 % 13} | yes |\n" for number in range(300))
    return {
        "prose": " ".join(source.choices(words, k=4000)),
        "table": "| name | count | there |\n|---|---|---|\n" + rows,
        "list": "".join(f"- step {number}: do it again\n" for number in range(400)),
        "code": "".join(f"    if value == {number}:\n        return {number}\n" for number in range(300)),
        "numbers": "0, " * 3000,
        "rule": "-" * 3000,
        "dots": "….\n" * 1000,
        "cjk": "".join(source.choices("的一是在不了有和人这中大为上个国我以要他", k=6000)),
        "verse": "".join(f"{n} green bottles hanging on the wall,\n" * 2 + "And if one fell\n" for n in range(99)),
        "zeros": "".join(f"row {number}: {'0 ' * 400}\n" for number in range(9)),
        "repeated once": "The same paragraph of some length, twice. " * 20 + "And then the end, which is different. ",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(_texts()))
def test_ordinary_long_texts_are_no_circles(name: str) -> None:
    """Tables, lists, code, verse and figures repeat themselves in part, and are answers."""
    text = _texts()[name]
    growing = Growing(MOST)
    for at in range(0, len(text), 7):
        growing.add(text[at : at + 7])
    growing.end()
    assert growing.text == text


def test_looking_for_circles_agrees_with_the_definition() -> None:
    """Small alphabets and short periods: the last 1,200 characters have a period of 300 at most, or they have not."""
    source = random.Random(11)
    for _ in range(500):
        period = source.randint(1, 420)
        text = "".join(source.choices("ab ", k=period)) * (1500 // period + 1)
        if source.random() < 0.5:
            at = source.randrange(len(text))
            text = f"{text[:at]}c{text[at + 1 :]}"
        tail = text[-1200:]
        wanted = any(tail[p:] == tail[:-p] for p in range(1, 301)) and any(map(str.isalpha, tail))
        assert goes_round(text) is wanted

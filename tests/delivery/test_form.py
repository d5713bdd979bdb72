"""From the model's Markdown to messages: what a reader sees of each construct, and where a long answer is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.delivery.form import (
    LIMIT,
    MOST_BLOCKS,
    MOST_COLUMNS,
    MOST_ENTITIES,
    MOST_RICH,
    Piece,
    clean,
    draft_of,
    pieces_of,
    rich_of,
    split_plain,
    utf16_units,
)

STEPS = """\
## Reset your password

Follow **these *three* steps**:

1. Open [Settings](https://a.example/settings), then **Security**.
2. Tap `Reset password`.
   - On iOS, hold the button.
   - Elsewhere:

     ```bash
     tool reset --all
     ```
3. Write to ~~us~~ help@a.example.

> **Note:** the link expires after 15 minutes.

| Plan | Price |
|---|---:|
| **Free** | $0 |
| Team | `$12` |

Thank you!
"""
CHINESE = """\
## 退款政策

**注意：**退款需要**3–5个工作日**，请打开**“设置”**页面；点击`申请退款`。

| 套餐 | 价格 |
|---|---|
| 免费 | ¥0 |
| 团队版 | ¥88 |
"""
ARABIC = """\
1. افتح **الإعدادات**.
2. شغّل `npm install --force` ثم أعد التشغيل.

| الخطة | السعر |
|---|---|
| مجاني | 0 |
"""


def seen(piece: Piece) -> str:
    """The text with its entities in angle brackets, as one may read them."""
    raw = piece.text.encode("utf-16-le")
    signs = []
    for entity in piece.entities:
        start, end = entity["offset"], entity["offset"] + entity["length"]
        value = entity.get("url") or entity.get("language")
        signs.append((start, 1, -end, f"<{entity['type']} {value}>" if value else f"<{entity['type']}>"))
        signs.append((end, 0, -start, "</>"))
    parts, done = [], 0
    for at, _, _, sign in sorted(signs):
        parts.append(raw[done * 2 : at * 2].decode("utf-16-le") + sign)
        done = at
    return "".join(parts) + raw[done * 2 :].decode("utf-16-le")


def shown(markdown: str) -> str:
    """The one message of a short text."""
    [piece] = pieces_of(markdown, plain=False)
    return seen(piece)


@pytest.mark.parametrize(
    ("markdown", "as_read"),
    [
        (
            "**bold**, *italic*, __bold__, _italic_",
            "<bold>bold</>, <italic>italic</>, <bold>bold</>, <italic>italic</>",
        ),
        ("~~old~~ and ~3 days", "<strikethrough>old</> and ~3 days"),
        ("**bold `code` bold**", "<bold>bold</> <code>code</> <bold>bold</>"),
        ("5 * 3 = 15, 2*3*4, $5–$10, a || b, snake_case_name", "5 * 3 = 15, 2*3*4, $5–$10, a || b, snake_case_name"),
        ("# One\ntext\n### Two\ntext", "<bold>One</>\ntext\n\n<bold>Two</>\ntext"),
        ("A line\n---\nmore", "A line\n———\nmore"),
        ("***\n- a\n- b", "———\n• a\n• b"),
        ("- a\n  - b\n    - c", "• a\n    ◦ b\n        ▪ c"),
        ("1. a\n1. b\n1. c", "1. a\n2. b\n3. c"),
        ("3) a\n4) b", "3) a\n4) b"),
        ("- [x] done\n- [ ] open", "☑ done\n☐ open"),
        ("> a\n> > b\n\nc", "<blockquote>a\nb</>\n\nc"),
        ("```py\nx = '<'\n    y\n```", "<pre py>x = '<'\n    y</>"),
        ("~~~\n\ta\n~~~", "<pre>    a</>"),
        ("```bash -x\nls\n```", "-x\n<pre bash>ls</>"),
        ("```never closed\ncode", "closed\n<pre never>code</>"),
        ("[words](https://a.example/x_y)", "<text_link https://a.example/x_y>words</>"),
        ("[https://a.example](https://a.example)", "https://a.example"),
        ("[file](/relative), [mail](mailto:help@a.example)", "file (/relative), mail (help@a.example)"),
        ("[x](javascript:alert)", "x (javascript:alert)"),
        ("![a chart](https://a.example/c.png)", "<text_link https://a.example/c.png>a chart</>"),
        ("[![](https://a.example/c.png)](https://a.example/c.png)", "https://a.example/c.png"),
        ("see[^1]\n\n[^1]: the note", "see[1]\n\n[1]: the note"),
        ("[Note]: Important", "[Note]: Important"),
        ("a < b, <b>x</b>, <!-- y -->, &lt;, a<br>b", "a < b, <b>x</b>, <!-- y -->, <, a\nb"),
        ("`a < b` and \\*stars\\*", "<code>a < b</> and *stars*"),
        ("**never closed and `neither", "**never closed and `neither"),
        ("**Note:**text", "<bold>Note:</>text"),
        ("中文**“粗”**字，**注意：**下", "中文<bold>“粗”</>字，<bold>注意：</>下"),
        ("**👩\u200d👩\u200d👧 e\u0301**!", "<bold>👩\u200d👩\u200d👧 e\u0301</>!"),
        ("plain words", "plain words"),
        ("#", "#"),
    ],
)
def test_each_construct_reads_as_it_was_meant(markdown: str, as_read: str) -> None:
    """A reader sees no markup that has a meaning, and misses no word."""
    assert shown(markdown) == as_read


def test_an_answer_in_steps_reads_well() -> None:
    """Lists stay lists, tables that fit are aligned, paragraphs stay apart."""
    assert shown(STEPS) == (
        "<bold>Reset your password</>\n\n"
        "Follow <bold>these <italic>three</> steps</>:\n\n"
        "1. Open <text_link https://a.example/settings>Settings</>, then <bold>Security</>.\n"
        "2. Tap <code>Reset password</>.\n"
        "    ◦ On iOS, hold the button.\n"
        "    ◦ Elsewhere:\n\n"
        "<pre bash>tool reset --all</>\n"
        "3. Write to <strikethrough>us</> help@a.example.\n\n"
        "<blockquote><bold>Note:</> the link expires after 15 minutes.</>\n\n"
        "<pre>Plan  Price\n----  -----\nFree     $0\nTeam    $12</>\n\n"
        "Thank you!"
    )


def test_chinese_is_bold_where_the_model_said_so_and_its_tables_are_aligned() -> None:
    """Scripts without blanks, and signs that are wider than a letter."""
    assert shown(CHINESE) == (
        "<bold>退款政策</>\n\n"
        "<bold>注意：</>退款需要<bold>3–5个工作日</>，请打开<bold>“设置”</>页面；点击<code>申请退款</>。\n\n"
        "<pre>套餐\u3000  价格\n------  -------\n免费\u3000  ¥0\n团队版  ¥88</>"
    )


def test_right_to_left_text_keeps_its_order() -> None:
    """Code is isolated, or `--force` would read force--; a table becomes lines, for a grid would change its columns."""
    assert shown(ARABIC) == (
        "1. افتح <bold>الإعدادات</>.\n"
        "2. شغّل \u2066<code>npm install --force</>\u2069 ثم أعد التشغيل.\n\n"
        "<bold>الخطة: مجاني</>\nالسعر: 0"
    )


def test_a_table_too_wide_for_a_phone_becomes_lines() -> None:
    """A wrapped grid is unreadable; links in a grid would be dead."""
    wide = "| Feature | What it does | Where |\n|---|---|---|\n"
    wide += "| Export | Writes every conversation to a file | [Docs](https://a.example/e) |\n| Import | | Settings |"
    assert shown(wide) == (
        "<bold>Feature: Export</>\nWhat it does: Writes every conversation to a file\n"
        "Where: <text_link https://a.example/e>Docs</>\n\n"
        "<bold>Feature: Import</>\nWhat it does: –\nWhere: Settings"
    )


def test_cells_without_a_column_are_not_lost() -> None:
    """Markdown says that what is too much is dropped; an answer's words are not."""
    assert "three" in shown("| a | b |\n|---|---|\n| one | two | three |")


@pytest.mark.parametrize("text", ["", " \n\x00\x07 ", "\u200b", "\u2800\u3164"])
def test_what_cannot_be_seen_gives_no_message(text: str) -> None:
    """Telegram refuses it as empty."""
    assert pieces_of(text, plain=False) == []
    assert draft_of(text) == Piece("", [])
    assert rich_of(text) is None


def test_our_own_sentences_are_not_formatted() -> None:
    """An address in SUPPORT_CONTACT may hold any sign."""
    [piece] = pieces_of("write to a_b_c@example.org *now*", plain=True)
    assert (piece.text, piece.entities) == ("write to a_b_c@example.org *now*", [])


def test_what_telegram_would_take_out_is_taken_out_before() -> None:
    """Or offsets would be wrong, and a message that is looked for again would not be the one that was sent."""
    assert clean(" a\r\nb\u2028c\x07d\u202ee\ufeff \ud800") == "a\nb\ncde ?"
    assert clean("a\u030a") == "å"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(st.sampled_from("ab \n.😀中"), min_size=1, max_size=40), min_size=1), st.integers(1, 400))
def test_splitting_loses_nothing_but_white_space(parts_of_it: list[str], times: int) -> None:
    """Answers are whole, however many messages they take."""
    text = "".join(parts_of_it) * times
    parts = split_plain(text)
    assert all(utf16_units(part) <= LIMIT for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("a" * 3000 + "\n\n" + "b" * 900 + "\n" + "c" * 900, "b"),
        ("a" * 3000 + " d\n" + "b" * 900 + ". " + "c" * 900, "b"),
        ("a " * 1500 + "sentence. " + "b " * 900, "b"),
        ("字" * 3000 + "。" + "文" * 2000, "文"),
        ("a" * 4000 + " " + "b" * 1000, "b"),
    ],
)
def test_a_long_answer_is_cut_where_a_person_would(text: str, begins: str) -> None:
    """At a paragraph before a line, at a line before a sentence, at a sentence before a blank."""
    first, second = split_plain(text)
    assert begins not in first[:2000]
    assert second.startswith(begins)


def test_a_section_moves_to_the_next_message_with_its_heading() -> None:
    """A heading alone at the end of a message belongs to nothing."""
    first, second = pieces_of("word " * 700 + "\n\n## Next section\n\n" + "more " * 300, plain=False)
    assert first.text.endswith("word")
    assert seen(second).startswith("<bold>Next section</>\n\nmore")


@pytest.mark.parametrize("cluster", ["👩\u200d👩\u200d👧", "🇩🇪", "e\u0301\u0323", "👍🏽", "น้ำ", "❤\ufe0f"])
def test_no_cut_goes_through_what_is_one_sign_to_a_reader(cluster: str) -> None:
    """Half a family is another emoji, half a flag a letter."""
    for lead in range(4):
        for part in split_plain("x" * lead + cluster * 2000):
            rest = part.removeprefix("x" * lead)
            assert rest == cluster * (len(rest) // len(cluster))


def test_code_cut_in_two_stays_code_with_its_language_and_indentation() -> None:
    """Each message can be copied on its own, and the lines put together are the program."""
    lines = [f"    line_{number} = compute({number})" for number in range(400)]
    code = "def f():\n" + "\n".join(lines)
    pieces = pieces_of(f"Run this:\n\n```python\n{code}\n```\n\nDone.", plain=False)
    assert len(pieces) > 2
    blocks = []
    for piece in pieces:
        [entity] = piece.entities
        assert (entity["type"], entity["language"]) == ("pre", "python")
        blocks.append(piece.text[entity["offset"] :][: entity["length"]])
    assert "\n".join(blocks) == code
    assert pieces[0].text.startswith("Run this:")
    assert pieces[-1].text.endswith("\n\nDone.")


def test_code_that_fits_a_message_is_not_cut() -> None:
    """The message before it ends early instead."""
    code = "\n".join(f"step {number}" for number in range(200))
    first, second = pieces_of("word " * 600 + f"\n\n```\n{code}\n```", plain=False)
    assert first.entities == []
    assert second.text == code


def test_a_message_never_has_more_entities_than_telegram_shows() -> None:
    """It leaves the rest out silently: a longer answer is cut sooner, in a dense one links stay and ornaments go."""
    long = pieces_of("**word** and more of it\n" * 250, plain=False)
    assert [len(piece.entities) for piece in long] == [100, 100, 50]
    [dense] = pieces_of("**b** " * 120 + "[a](https://a.example) " * 5, plain=False)
    kinds = [entity["type"] for entity in dense.entities]
    assert (len(kinds), kinds.count("text_link")) == (MOST_ENTITIES, 5)


def test_a_link_is_not_cut_in_two() -> None:
    """Nor anything else that is one thing to tap on."""
    words = "one two three four five " * 4
    for piece in pieces_of(f"[{words.strip()}](https://a.example) and " * 80, plain=False):
        for entity in piece.entities:
            assert entity["length"] == len(words.strip())


@pytest.mark.parametrize("answer", [STEPS, CHINESE, ARABIC], ids=["steps", "chinese", "arabic"])
def test_a_growing_preview_shows_no_raw_markup(answer: str) -> None:
    """Whatever it stops at: a sign that has no partner yet is not a word."""
    for end in range(len(answer) + 1):
        text = draft_of(answer[:end]).text
        assert not any(sign in text for sign in ("*", "`", "](", "|", "#", "~~")), (answer[:end][-30:], text[-30:])


@pytest.mark.parametrize(
    ("growing", "as_shown"),
    [
        ("", ""),
        ("**bo", "<bold>bo</>"),
        ("**bold*", "<bold>bold</>"),
        ("**bold** **", "<bold>bold</>"),
        ("*a **b", "<italic>a <bold>b</></>"),
        ("run `tool --f", "run <code>tool --f</>"),
        ("a\n\n```py", "a"),
        ("a\n\n```py\nx = 1\n``", "a\n\n<pre py>x = 1</>"),
        ("```\na *b\n\nc\n```", "<pre>a *b\n\nc</>"),
        ("see [our gui", "see our gui"),
        ("see [our guide](https://a.exa", "see our guide"),
        ("see <https://a.exa", "see https://a.exa"),
        ("- one *x\n- tw", "• one *x\n• tw"),
        ("- one\n- ", "• one"),
        ("- [", ""),
        ("Great!", "Great!"),
        ("2*3*", "2*3"),
        ("Plans:\n| Plan | Pri", "Plans:\n<pre>Plan  Pri\n----  ---</>"),
        ("| a | b |\n|---|---|\n| **c", "<pre>a  b\n-  -\nc</>"),
    ],
)
def test_a_preview_closes_what_is_open(growing: str, as_shown: str) -> None:
    """As it will probably go on, so that nothing flickers."""
    assert seen(draft_of(growing)) == as_shown


def test_a_preview_of_a_long_answer_shows_the_message_being_written() -> None:
    """What came before was read already."""
    text = "First words.\n\n" * 400 + "Last **wor"
    draft = draft_of(text)
    assert utf16_units(draft.text) <= LIMIT
    assert draft.text.endswith("Last wor")


def test_a_finished_preview_is_the_last_message() -> None:
    """Nothing jumps when the draft becomes the message."""
    for answer in (STEPS, CHINESE, ARABIC, STEPS * 12):
        assert draft_of(answer) == pieces_of(answer, plain=False)[-1]


def test_a_rich_message_is_the_markdown_itself() -> None:
    """Telegram formats it; the direction is said, because it cannot be told from signs."""
    assert rich_of(STEPS) == {"markdown": STEPS.strip()}
    assert rich_of(ARABIC) == {"markdown": ARABIC.strip(), "is_rtl": True}


@pytest.mark.parametrize(
    "markdown",
    [
        "no markup at all",
        "**a** " + "b" * MOST_RICH,
        "- a\n" * (MOST_BLOCKS + 1),
        "|" + "a|" * (MOST_COLUMNS + 1) + "\n|" + "-|" * (MOST_COLUMNS + 1),
        "# Look\n![](https://a.example/?what=they-said)",
        '# Look\n<img src="https://a.example/?what=they-said">',
    ],
    ids=["plain", "long", "blocks", "columns", "picture", "html-picture"],
)
def test_a_rich_message_is_not_tried_where_it_would_be_refused_or_do_harm(markdown: str) -> None:
    """Beyond its limits, with nothing to format, or with pictures that Telegram would fetch from anywhere."""
    assert rich_of(markdown) is None

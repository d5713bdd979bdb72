"""What the service says, in every language that it speaks."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from string import Formatter
from types import ModuleType
from typing import Final

import pytest
from babel.messages.catalog import Message

from bot import texts
from bot.delivery.form import utf16_units
from bot.privacy import content, export, page
from bot.texts import LANGUAGES, LOCALES, Sentence, Words, language_of
from tests.house.catalogues import (
    PACKAGES,
    ROOT,
    TRANSLATED,
    forms,
    marked,
    path_of,
    stored,
    untranslated,
    updated,
    written,
)

COMMAND: Final = re.compile(r"(?<!\S)/[a-z]+(?=[\s.,;:!?]|$)")
BUTTONS: Final = (
    texts.TALK_TO_A_PERSON, texts.FORGET_THIS, texts.FORGET_ALL, texts.FORGET_EXPORT, texts.FORGET_CANCEL,
    texts.REMOVE_MINE,
)  # fmt: skip
COUNTED: Final = {
    "en": ["0 exchanges", "1 exchange ", "2 exchanges", "5 exchanges", "11 exchanges", "21 exchanges"],
    "zh": ["0 轮", "1 轮", "2 轮", "5 轮", "11 轮", "21 轮"],
    "ru": ["0 вопросов", "1 вопрос ", "2 вопроса ", "5 вопросов", "11 вопросов", "21 вопрос "],
    "es": ["0 preguntas", "1 pregunta ", "2 preguntas", "5 preguntas", "11 preguntas", "21 preguntas"],
}
each_catalogue = pytest.mark.parametrize("language", TRANSLATED)
each_language = pytest.mark.parametrize("language", LANGUAGES)


def sentences(language: str) -> list[Message]:
    """What a catalogue translates; its head is no sentence."""
    return [message for message in stored(language) if message.id]


def fields(text: str) -> Counter[str]:
    """The places for values, with their conversions."""
    parsed = Formatter().parse(text)
    return Counter(f"{name}!{conversion or ''}:{spec}" for _, name, spec, conversion in parsed if name is not None)


def english(message: Message) -> str:
    return message.id if isinstance(message.id, str) else message.id[-1]


# ---- catalogues
def test_there_is_a_catalogue_for_every_language_and_no_other() -> None:
    """English is in the code; nothing compiled lies beside the texts."""
    files = {path for path in LOCALES.rglob("*") if path.is_file()}
    assert files == {path_of(language) for language in TRANSLATED}


@each_catalogue
def test_catalogues_hold_exactly_the_marked_sentences(language: str) -> None:
    """In the code's order, nothing obsolete, nothing that a tool adds: `make texts` would change no byte."""
    assert path_of(language).read_text(encoding="utf-8") == written(updated(language), language), "run `make texts`"
    assert {message.id for message in sentences(language)} == {sentence for _, sentence in marked()}
    assert not stored(language).obsolete


@each_catalogue
def test_every_sentence_is_translated(language: str) -> None:
    """In each of its forms, and by someone: a fuzzy translation is a machine's guess."""
    assert untranslated(stored(language)) == []
    assert [message.id for message in sentences(language) if message.fuzzy] == []
    assert [text for message in sentences(language) for text in forms(message) if text == english(message)] == []


@each_catalogue
def test_translations_keep_values_commands_and_lines(language: str) -> None:
    """A value with another name would be an error when the sentence is said; a command glued to a word is none."""
    for message in sentences(language):
        original = english(message)
        for text in forms(message):
            assert fields(text) == fields(original), text
            assert Counter(COMMAND.findall(text)) == Counter(COMMAND.findall(original)), text
            assert text.count("/") == original.count("/"), text
            assert text.count("\n") == original.count("\n"), text
            assert text == text.strip(), text


@pytest.mark.parametrize(("language", "number"), [("zh", 1), ("ru", 3), ("es", 2)])
def test_what_is_counted_has_every_form(language: str, number: int) -> None:
    """The head says how many forms the language has, and the pairs have as many."""
    assert stored(language).num_plurals == number
    assert {len(forms(message)) for message in sentences(language) if message.pluralizable} == {number}


def test_both_forms_of_a_counted_sentence_have_the_same_values() -> None:
    """The languages that have one form for everything take the second's."""
    pairs = [sentence for _, sentence in marked() if not isinstance(sentence, str)]
    assert pairs
    assert all(fields(one) == fields(many) and "count!:" in fields(one) for one, many in pairs)


@pytest.mark.parametrize("module", [texts, page, content, export])
def test_no_sentence_lacks_its_mark(module: ModuleType) -> None:
    """An unmarked sentence would stay English without a word."""
    known = {text for _, sentence in marked() for text in ([sentence] if isinstance(sentence, str) else sentence)}
    said = {name: value for name, value in vars(module).items() if re.fullmatch(r"[A-Z][A-Z_]+", name)}
    told = [value for name, value in said.items() if isinstance(value, str) and name != "POLICY"]
    for name in said.keys() & {"COMMANDS", "ROLES", "STATES"}:
        told += said[name].values()
    assert told
    assert set(told) <= known


def test_counted_sentences_are_marked_as_pairs() -> None:
    """`Sentence(text, plural=…)` finds a translation only for a pair that was marked as one."""
    pairs = {sentence for _, sentence in marked() if not isinstance(sentence, str)}
    assert set(counted()) == pairs


def counted() -> Iterator[tuple[str, str]]:
    """The pairs that the code says."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call):
                    yield from (
                        (named(call.args[0]), named(word.value)) for word in call.keywords if word.arg == "plural"
                    )


def named(value: ast.expr) -> str:
    """The sentence that ``texts.NAME`` stands for."""
    assert isinstance(value, ast.Attribute)
    return str(getattr(texts, value.attr))


# ---- lengths
@each_language
def test_labels_of_buttons_are_short(language: str) -> None:
    """Telegram cuts what does not fit on a phone's button; one in a row has room for about thirty signs."""
    assert [label for text in BUTTONS if utf16_units(label := Words().say(text, language)) > 30] == []


@each_language
def test_descriptions_of_commands_fit(language: str) -> None:
    """Bot API, BotCommand: a description has 1 to 256 characters. Beyond some forty a phone cuts it."""
    said = {command: Words().say(text, language) for command, text in texts.COMMANDS.items()}
    assert [text for text in said.values() if not 1 <= utf16_units(text) <= 45] == []


@each_language
def test_every_sentence_fits_into_a_message(language: str) -> None:
    """Bot API: a message has up to 4,096 characters, a caption 1,024; half of that leaves room for the values."""
    sizes = {text: utf16_units(Words().worded(text, language)) for _, text in marked() if isinstance(text, str)}
    assert max(sizes.values()) <= 2048
    assert max(sizes[texts.EXPORT_CAPTION], sizes[texts.EXPORT_PART]) <= 512


# ---- speaking
@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("en", "en"), ("en-GB", "en"), ("zh-hans", "zh"), ("zh-TW", "zh"), ("zh_CN", "zh"), ("ru", "ru"), ("RU", "ru"),
        ("es", "es"), ("es-419", "es"), ("pt", "en"), ("pt-br", "en"), ("", "en"), ("est", "en"), ("../ru", "en"),
    ],
)  # fmt: skip
def test_language_codes_lead_to_the_languages_there_are(code: str, language: str) -> None:
    """IETF tags, as Telegram names them or a customer's app makes them up; English for all others."""
    assert language_of(code) == language


@pytest.mark.parametrize(
    ("language", "name"), [("en", "English"), ("zh", "简体中文"), ("ru", "на русском языке"), ("es", "español")]
)
def test_a_chosen_language_names_itself(language: str, name: str) -> None:
    """Whoever chose by mistake sees what was chosen."""
    assert name in Words().say(texts.LANGUAGE_CHOSEN, language)


@each_language
def test_counts_are_said_with_the_right_form(language: str) -> None:
    """Russian: one for 1 and 21, another for 2, a third for 0, 5 and 11. Spanish and English: one and several."""
    for count, expected in zip((0, 1, 2, 5, 11, 21), COUNTED[language], strict=True):
        sentence = Sentence(texts.FORGOTTEN, {"when": "2026-11-21 16:00"}, plural=texts.FORGOTTEN_MANY, count=count)
        assert expected in Words().say(sentence, language).replace(".", " ")


@each_language
def test_values_are_filled_in(language: str) -> None:
    """Standing ones and a sentence's own, in every language."""
    words = Words(processor="api.example", contact="help@example.com")
    assert "api.example" in words.say(texts.WELCOME, language)
    assert "help@example.com" in words.say(texts.CONTACT, language)
    part = words.say(Sentence(texts.EXPORT_PART, {"part": 2, "parts": 3}), language)
    assert "2" in part
    assert "3" in part
    assert "{" not in part


@each_language
@pytest.mark.parametrize("name", ["{processor}", "{0}", "{", "}", "{name.__class__}", "{{}}", "%s"])
def test_braces_in_a_value_stay_text(language: str, name: str) -> None:
    """Customers choose their names: what looks like a place for a value is filled with nothing."""
    said = Words(processor="api.example").say(Sentence(texts.RELAY, {"name": name}), language)
    assert said.startswith(name)
    assert "api.example" not in said


def test_an_unknown_language_is_answered_in_english() -> None:
    """As Telegram names languages that have no catalogue."""
    assert Words().say(texts.FORGET_KEPT, "pt-br") == texts.FORGET_KEPT


@each_language
def test_the_archive_gets_its_sentences_unfilled(language: str) -> None:
    """It fills in its values as HTML, and a bot's name may hold anything."""
    for text in (page.TITLE, page.MADE, page.PART, page.TOPIC, page.SOME_MISSING):
        assert fields(Words(processor="api.example").worded(text, language)) == fields(text)


@each_catalogue
def test_a_sentence_that_is_none_of_ours_stays_as_it_is(language: str) -> None:
    """A reason in an archive may be another's word; the catalogue knows it not and leaves it alone."""
    assert Words().worded("Written elsewhere.", language) == "Written elsewhere."

"""The gettext catalogues, kept in step with the sentences marked in the code: ``make texts``.

A catalogue tells what is translated and nothing about who wrote it with what and when, so that it changes only when a
sentence does. The marks alone decide what stands in it. A changed sentence loses its translation: a guess at what it
may still mean would be said to customers.
"""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from bot.texts import LANGUAGES, LOCALES

ROOT: Final = LOCALES.parent.parent
PACKAGES: Final = ("bot", "handlers")
MARKS: Final = {"N_": None, "NN_": (1, 2)}
TRANSLATED: Final = tuple(language for language in LANGUAGES if language != "en")
_WIDTH: Final = 100

Id = str | tuple[str, ...]


@cache
def marked() -> tuple[tuple[str, Id], ...]:
    """Every marked sentence with its file, by file and place; of a plural pair both."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            found += [(name, sentence) for _, sentence, *_ in extract_from_file("python", path, keywords=MARKS)]
    return tuple(found)


def path_of(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / "messages.po"


def stored(language: str) -> Catalog:
    """What is translated so far."""
    if not path_of(language).exists():
        return Catalog(locale=language)
    with path_of(language).open("rb") as file:
        return read_po(file, locale=language)


def updated(language: str) -> Catalog:
    """The marked sentences, with the translations that they have."""
    before, after = stored(language), Catalog(locale=language)
    for name, sentence in marked():
        known = before.get(sentence)
        if known and known.id == sentence and not known.fuzzy:
            after.add(sentence, known.string, locations=[(name, 0)], user_comments=known.user_comments)
        else:
            after.add(sentence, locations=[(name, 0)])
    return after


def written(catalogue: Catalog, language: str) -> str:
    """A catalogue as its file holds it."""
    body = BytesIO()
    write_po(body, catalogue, width=_WIDTH, omit_header=True, include_lineno=False)
    return f"{_head(catalogue, language)}\n{body.getvalue().decode().strip()}\n"


def untranslated(catalogue: Catalog) -> list[str]:
    """Sentences that lack a translation, or a form of it."""
    return [str(message.id) for message in catalogue if message.id and not all(forms(message))]


def forms(message: Message) -> tuple[str, ...]:
    """The translation in each plural form; a sentence that does not count has one."""
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ("",))


def main() -> None:
    for language in TRANSLATED:
        path, catalogue = path_of(language), updated(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written(catalogue, language), encoding="utf-8")
        left = untranslated(catalogue)
        print(f"{path.relative_to(ROOT)}: {len(catalogue)} sentences, {len(left)} to translate", *left, sep="\n    ")


def _head(catalogue: Catalog, language: str) -> str:
    """The head as it stands, with the translators' notes above it; a new catalogue's has none."""
    if path_of(language).exists():
        return path_of(language).read_text(encoding="utf-8").partition("\n\n")[0] + "\n"
    fields = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": catalogue.plural_forms,
    }
    lines = [rf'"{name}: {value}\n"' for name, value in fields.items()]
    return "\n".join(['msgid ""', 'msgstr ""', *lines, ""])


if __name__ == "__main__":
    main()

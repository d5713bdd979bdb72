"""What the chat API says in crash tests: answers that name every question they cover, and can be told from each other.

Each answer bears a tag of its own, so that two answers to one question are two, and each piece of a long one says which
it is. It also tells how many turns the model was told of: the history in use, as the customer could check it.
"""

import re
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from bot.delivery.form import pieces_of

LONG: Final = "at length"
"""A question with these words gets an answer of two messages, with `VERY_LONG` of three."""
VERY_LONG: Final = "at great length"
BOLD: Final = "in bold"

MARKER: Final = re.compile(r"\bQ\d+Q\b")
_FILLER: Final = "word after word of an answer that has a lot to tell and takes its time to tell it all " * 9


@dataclass(frozen=True, slots=True)
class Made:
    """One answer: its tag, the questions it covers, what it says in which messages, how many turns came before."""

    tag: str
    markers: tuple[str, ...]
    text: str
    pieces: tuple[str, ...]
    before: int


class Model:
    """Makes answers and remembers them."""

    def __init__(self) -> None:
        self.made: dict[str, Made] = {}
        self.pieces: dict[str, tuple[Made, int]] = {}
        self._numbers = count(1)

    def answer(self, messages: list[dict[str, Any]]) -> str:
        """The answer to the last message; the chat API server's ``behaviour.answer``."""
        question = str(messages[-1]["content"])
        before = sum(message["role"] == "assistant" for message in messages)
        return self.say(tuple(MARKER.findall(question)), before, question).text

    def say(self, markers: tuple[str, ...], before: int, question: str = "") -> Made:
        """An answer; Telegram shows its pieces without white space at either end."""
        tag = f"A{next(self._numbers)}A"
        text = f"{tag} to {' '.join(markers)} after {before}"
        if BOLD in question:
            text += f", **bold {tag}** and `code`"
        parts = 12 if VERY_LONG in question else 6 if LONG in question else 0
        text = "\n\n".join([text, *(f"{tag} part {number} {_FILLER}".strip() for number in range(parts))])
        pieces = tuple(piece.text.strip() for piece in pieces_of(text, plain=False))
        made = self.made[tag] = Made(tag, markers, text, pieces, before)
        for number, piece in enumerate(pieces):
            self.pieces[piece] = made, number
        return made

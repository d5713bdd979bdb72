"""The visible text of an answer while it grows: reasoning left out, bounds kept, endless repetition seen.

Some servers write a model's reasoning into the answer itself, between tags at its beginning. It is never shown and
never kept; until the tag is closed nothing is visible.
"""

import re
from typing import Final

from bot.errors import ChatApiEmptyError

_TAGS: Final = ("think", "thinking", "thought", "thoughts", "reasoning")
_OPENING: Final = re.compile(rf"\s*<({'|'.join(_TAGS)})>", re.IGNORECASE)
_CLOSING_ALONE: Final = re.compile(r"(?:\A|\n)[ \t]*</think>[ \t]*(?:\n|\Z)")
_LONGEST_TAG: Final = 14
_LONGEST_BLANK: Final = 200
_LOOK_EVERY: Final = 1_000
_LOOP_CHARACTERS: Final = 1_200
_LONGEST_LOOP: Final = 300


class Growing:
    """Takes deltas, gives the visible text. ``most``: characters after which an answer is cut, whatever was asked."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[str] = []
        self._held: str | None = ""  # undecided whether it is reasoning; None: it is not
        self._tag = ""
        self._thought = False
        self._looked = 0
        self._size = 0
        self._text = ""

    @property
    def text(self) -> str:
        """What is visible so far."""
        if self._parts:
            self._text += "".join(self._parts)
            self._parts.clear()
        return self._text

    @property
    def is_full(self) -> bool:
        return self._size >= self._most

    def add(self, delta: str) -> bool:
        """Whether the visible text grew. Raises ChatApiEmptyError when it goes round in circles."""
        if self._held is not None:
            delta = self._released(delta)
        if not delta:
            return False
        delta = delta[: self._most - self._size]
        self._parts.append(delta)
        self._size += len(delta)
        if "</think>" in delta:
            self._without_thought()
        if self._size - self._looked >= _LOOK_EVERY:
            self._looked = self._size
            self.look()
        return True

    def replace(self, text: str) -> None:
        """The server takes back what it said, for another text."""
        self._parts, self._text, self._looked, self._held = [], text[: self._most], 0, None
        self._size = len(self._text)

    def end(self) -> None:
        """The answer is whole: what looked like the beginning of a tag was none."""
        if self._held and not self._tag:
            self._parts.append(self._held[: self._most - self._size])
            self._size += len(self._parts[-1])
        self._held = None
        self._without_thought()
        self.look()

    def _without_thought(self) -> None:
        """Some models' templates hold the opening tag, so it is not sent: all before the closing one is thought."""
        if not self._thought and (closing := _CLOSING_ALONE.search(self.text)) is not None:
            self._text, self._thought = self._text[closing.end() :].lstrip(), True
            self._size = self._looked = len(self._text)
            self._held = None if self._text else ""

    def look(self) -> None:
        """Raises ChatApiEmptyError where the end of the text repeats itself over and over."""
        if goes_round(self.text):
            raise ChatApiEmptyError("the answer repeats itself")

    def _released(self, delta: str) -> str:
        """What of the beginning is visible."""
        self._held = (self._held or "") + delta
        while True:
            if self._tag:
                closing = re.search(f"</{self._tag}>", self._held, re.IGNORECASE)
                if closing is None:
                    self._held = self._held[-_LONGEST_TAG:]
                    return ""
                self._held, self._tag, self._thought = self._held[closing.end() :], "", True
            if self._thought:
                self._held = self._held.lstrip()  # blanks behind the tag are no text yet
            opening = _OPENING.match(self._held)
            if opening is None:
                break
            self._held, self._tag = self._held[opening.end() :], opening[1].lower()
        if _may_open(self._held):
            return ""
        found, self._held = self._held, None
        return found


def _may_open(held: str) -> bool:
    begun = held.lstrip().lower()
    return any(f"<{tag}>".startswith(begun) for tag in _TAGS) and len(held) < _LONGEST_BLANK


def goes_round(text: str) -> bool:
    """Whether the last 1,200 characters are one passage of words over and over. Linear in them."""
    if len(text) < _LOOP_CHARACTERS:
        return False
    tail = text[-_LOOP_CHARACTERS:]
    if not any(map(str.isalpha, tail)):
        return False
    # A text of period p equals itself moved by p; the first place where its own end is found again names the period.
    probe = tail[-_LONGEST_LOOP:]
    again = tail.rfind(probe, 0, _LOOP_CHARACTERS - 1)
    if again < 0:
        return False
    period = _LOOP_CHARACTERS - _LONGEST_LOOP - again
    return 0 < period <= _LONGEST_LOOP and tail[period:] == tail[:-period]

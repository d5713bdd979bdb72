"""The record of a turn: what is sealed, journaled and kept as history."""

from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Asked:
    """One message of the customer: its id, its text as written, Telegram's date (s)."""

    message_id: int
    text: str
    date: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """Questions and what was said to them. ``plain``: one of our own sentences, shown as it is."""

    asked: tuple[Asked, ...]
    said: str
    plain: bool = False
    model: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """All messages of the turn as one text, in order."""
        return "\n\n".join(asked.text for asked in self.asked)

    def packed(self) -> bytes:
        return orjson.dumps(
            {
                "q": [[asked.message_id, asked.text, asked.date] for asked in self.asked],
                "a": self.said,
                "p": self.plain,
                "m": self.model,
                **self.more,
            }
        )

    @classmethod
    def unpacked(cls, content: bytes) -> "Record":
        fields = orjson.loads(content)
        asked = tuple(Asked(*entry) for entry in fields.pop("q"))
        return cls(asked, fields.pop("a"), fields.pop("p"), fields.pop("m"), fields)

"""What is left of a copied chat when something of it is gone: the same as a forget or a retention leaves in a store.

A conversation that lost its beginning starts later; what is lost in between leaves its numbers; one that lost all of it
is no more, and its number is never used again. Where nothing of a chat opens, all of it was forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from storage.backup import Talk, paired
from storage.backup_file import Value

_KEPT_AFTER_A_FORGET: Final = (b"fence", b"done", b"blocked", b"day", b"told", b"forget", b"u:")
_OF_A_TURN: Final = (
    b"turn", b"record", b"header", b"take", b"pieces", b"kind", b"topic", b"seq", b"piece", b"hi", b"attempt", b"t",
    b"claims", b"fails", b"marker", b"doubt", b"rested", b"change",
)  # fmt: skip


@dataclass(slots=True)
class Kept:
    """What is put back of a conversation: from turn ``first`` on (0: nothing); ``lost``: something of it is not."""

    talk: Talk
    oldest: int
    first: int = 0
    lost: bool = False

    @property
    def over(self) -> bool:
        """Nothing is left of it, and something was there."""
        return self.lost and not self.first


@dataclass(slots=True)
class ChatCopy:
    """A chat while it is put back."""

    id: int
    fields: dict[bytes, bytes]
    parts: dict[str, list[Value]]
    expires: dict[str, int]
    talks: dict[tuple[int, int], Kept]
    erased: int = 0
    opens: int = 0
    """How many of its sealed values open, and how many do not."""

    noted: frozenset[bytes] = frozenset()
    """The conversations (``topic:conversation``) that it has notes on, whether they open or not."""


def leave(chat: ChatCopy, kept: Kept) -> None:
    """A conversation of which something is gone, as a retention or a forget leaves it."""
    fields, (topic, number, current) = chat.fields, (kept.talk.topic, kept.talk.number, kept.talk.current)
    place = b"%d:%d" % (topic, number)
    notes = paired(chat.parts.get("notes", ()))
    notes.pop(place, None)
    chat.parts["notes"] = in_turn(notes)
    if current:
        fields.pop(b"r:%d" % topic, None)
        fields[b"edits"] = b"%d" % (int(fields.get(b"edits", 0)) + 1)
    if kept.first:
        fields[b"o:" + place] = b"%d" % kept.first
        if current:
            told_from = int(fields.get(b"s:%d" % topic, 1))
            fields[b"s:%d" % topic] = b"%d" % (kept.first if place in chat.noted else max(told_from, kept.first))
        return
    _drop(fields, (b"o:" + place, b"g:" + place + b":"))
    if current:
        for of_topic in (b"n:%d", b"s:%d"):
            fields.pop(of_topic % topic, None)
        fields[b"newest"] = fields[b"c:%d" % topic] = b"%d" % _next_number(fields)
    else:
        entry = place + b":%d" % kept.talk.last
        chat.parts["past"] = [other for other in chat.parts["past"] if other != entry]


def leave_nothing(chat: ChatCopy) -> None:
    """All of it was forgotten, so nothing may be used again: neither the numbers of conversations, nor the epoch."""
    fields = chat.fields
    fresh, epoch = _next_number(fields), int(fields.get(b"epoch", 0)) + 1
    for name in [name for name in fields if not name.startswith(_KEPT_AFTER_A_FORGET)]:
        del fields[name]
    fields |= {b"base": b"%d" % fresh, b"newest": b"%d" % fresh, b"epoch": b"%d" % epoch}
    for part in ("tomb", "dead", "past", "notes", "remotes"):
        chat.parts[part] = []


def _next_number(fields: Mapping[bytes, bytes]) -> int:
    used = [int(fields.get(name, 0)) for name in (b"base", b"newest")]
    return max(used + [int(value) for name, value in fields.items() if name.startswith(b"c:")]) + 1


def drop_turn(fields: dict[bytes, bytes]) -> None:
    for name in [name for name in fields if name in _OF_A_TURN or name.startswith(b"mid:")]:
        del fields[name]


def _drop(fields: dict[bytes, bytes], names: Iterable[bytes]) -> None:
    """Fields of these names; where one ends in a colon, all that begin so."""
    for name in names:
        for found in [found for found in fields if found == name or (name[-1:] == b":" and found.startswith(name))]:
            del fields[found]


def in_turn(fields: Mapping[bytes, bytes]) -> list[Value]:
    return [part for pair in fields.items() for part in pair]

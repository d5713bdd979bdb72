"""What a record shows in Telegram: the words it keeps, with the marks around them that are no part of the history."""

from dataclasses import replace
from typing import Any, Final

from bot.conversation.intents import Sender
from bot.conversation.record import Record
from bot.delivery.form import LIMIT, MOST_ENTITIES, Piece, pieces_of, rich_of, utf16_units
from bot.delivery.lane import Copy
from bot.texts import Sentence

_STATE: Final = "state"
_SHOW: Final = "show"
_HEAD: Final = "head"
_TAIL: Final = "tail"
_BUTTONS: Final = "buttons"
_COPY: Final = "copy"
_SENDER: Final = "from"

Buttons = tuple[tuple[tuple[Sentence | str, str], ...], ...]
"""Rows of buttons: label and callback data."""


def with_marks(
    record: Record,
    *,
    state: str = "",
    show: str = "",
    head: str = "",
    tail: str = "",
    buttons: Buttons = (),
    copy: tuple[int, int, str] | None = None,
    sender: Sender | None = None,
) -> Record:
    """The record with its state (stopped, handed, operator); ``show``: said instead of its words, ``head`` and
    ``tail``: around them; ``copy``: chat and id of a message that is shown below, and what is shown where it cannot be;
    all of it translated already, so that a successor shows the same. ``sender``: whose words these are."""
    given = (
        (_STATE, state),
        (_SHOW, show),
        (_HEAD, head),
        (_TAIL, tail),
        (_BUTTONS, buttons),
        (_COPY, copy),
        (_SENDER, list(sender) if sender else None),
    )
    more = {**record.more, **{name: value for name, value in given if value}}
    return Record(record.asked, record.said, record.plain, record.model, more)


def shown(record: Record, *, rich: bool = False) -> list[Piece | Copy]:
    """The messages of a record. Deterministic. ``rich``: what fits into one message is a rich one, too, to be sent as
    that where Telegram takes it; a longer answer is not, since its ordinary messages would be several."""
    more = record.more
    if _COPY in more:
        return [*_words(record, rich=rich), Copy(*more[_COPY])]
    return list(_words(record, rich=rich))


def _words(record: Record, *, rich: bool) -> list[Piece]:
    more = record.more
    if _SHOW in more:
        return pieces_of(str(more[_SHOW]), plain=True)
    if _HEAD in more:
        pieces = pieces_of(f"{more[_HEAD]}\n{'' if _COPY in more else record.said}", plain=True)
        bold = {"type": "bold", "offset": 0, "length": utf16_units(str(more[_HEAD]))}
        return [Piece(pieces[0].text, [bold]), *pieces[1:]] if pieces else []
    pieces = pieces_of(record.said, plain=record.plain)
    if _TAIL in more:
        return _ended(pieces, str(more[_TAIL]))
    if rich and len(pieces) == 1 and not record.plain:
        return [replace(pieces[0], rich=rich_of(record.said))]
    return pieces


def sender_of(record: Record) -> Sender | None:
    """Who is to be told where a record cannot be delivered."""
    sender = record.more.get(_SENDER)
    return Sender(*sender) if sender else None


def keyboard(record: Record) -> dict[str, Any] | None:
    """The buttons under a record's last message."""
    rows = record.more.get(_BUTTONS)
    if not rows:
        return None
    return {"inline_keyboard": [[{"text": label, "callback_data": data} for label, data in row] for row in rows]}


def _ended(pieces: list[Piece], mark: str) -> list[Piece]:
    italic: dict[str, Any] = {"type": "italic", "offset": 0, "length": utf16_units(mark)}
    if not pieces:
        return [Piece(mark, [italic])]
    last = pieces[-1]
    offset = utf16_units(last.text) + 2
    if offset + italic["length"] > LIMIT:
        return [*pieces, Piece(mark, [italic])]
    return [
        *pieces[:-1],
        Piece(f"{last.text}\n\n{mark}", [*last.entities[: MOST_ENTITIES - 1], italic | {"offset": offset}]),
    ]

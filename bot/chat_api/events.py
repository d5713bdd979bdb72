"""Server-sent events out of a body that arrives in any pieces: the ``data`` of each event, as bytes.

Works on bytes, so a character cut in two, U+2028 inside JSON or a stray form feed end no line (only CR, LF and CRLF do:
WHATWG HTML, "Server-sent events"), and an answer costs half of what decoding and splitting text does (make bench). More
lenient than the standard where servers are: an event that the end of the body cuts off its blank line still counts, and
so does one whose lines follow each other without any.
"""

import re
from typing import Any, Final

import orjson

from bot.errors import ChatApiGarbledError

MOST_EVENT_BYTES: Final = 16 << 20
"""An event that does not end would fill the memory."""

_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a character beyond U+FFFF, as servers send it that cut text by UTF-16 units. JSON allows it, not UTF-8."""

_BOM: Final = b"\xef\xbb\xbf"


class EventStream:
    """One body. ``feed`` its pieces, then ``end``; both give the data of the events that became whole."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises ChatApiGarbledError when an event grows beyond all bounds."""
        if not self._begun:
            piece = self._without_mark(piece)
        if not piece:
            return []
        if self._after_cr and piece[:1] == b"\n":
            piece, self._after_cr = piece[1:], False
            if not piece:
                return []
        self._after_cr = piece[-1:] == b"\r"
        if b"\n" not in piece and not self._after_cr and b"\r" not in piece:
            self._hold(piece)
            return []
        lines = piece.splitlines()
        if self._line:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
        rest = lines.pop() if piece[-1:] not in b"\r\n" else b""
        found = self._read(lines)
        if rest:
            self._hold(rest)
        return found

    def end(self) -> list[bytes]:
        """What the end of the body completes."""
        lines = [b"".join(self._line), b""]
        self._line.clear()
        self._begun = True
        return self._read(lines)

    def _without_mark(self, piece: bytes) -> bytes:
        piece = b"".join((*self._line, piece))
        self._line.clear()
        if len(piece) < len(_BOM) and _BOM.startswith(piece):
            self._line.append(piece)
            return b""
        self._begun = True
        self._size = 0
        return piece.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        self._line.append(piece)
        self._grow(len(piece))

    def _read(self, lines: list[bytes]) -> list[bytes]:
        found: list[bytes] = []
        for line in lines:
            if not line:
                if self._data:
                    found.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data = []
                self._size = 0
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._grow(len(line))
        return found

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MOST_EVENT_BYTES:
            raise ChatApiGarbledError("an event without an end")


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object that a whole body holds, or the first of a list. Raises ChatApiGarbledError."""
    try:
        reply = orjson.loads(body.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        raise ChatApiGarbledError("a reply that is no JSON") from error
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if not isinstance(reply, dict):
        raise ChatApiGarbledError("a reply that is no object")
    return reply


def objects_in(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects of an event's data, mostly one. Raises ChatApiGarbledError."""
    try:
        found = [orjson.loads(data)]
    except orjson.JSONDecodeError as error:
        found = _several(_HALF.sub(rb"\\ufffd", data), error)
    if not all(isinstance(one, dict) for one in found):
        raise ChatApiGarbledError("an event that is no object")
    return found


def _several(data: bytes, error: orjson.JSONDecodeError) -> list[Any]:
    try:
        return [orjson.loads(data)]
    except orjson.JSONDecodeError:
        # Without blank lines between them several events read as one; JSON over several lines was joined above.
        lines = [line for line in data.split(b"\n") if line.strip() and line.strip() != b"[DONE]"]
        if len(lines) < 2 and b"\n" not in data:
            raise ChatApiGarbledError("an event that is no JSON") from error
        try:
            return [orjson.loads(line) for line in lines]
        except orjson.JSONDecodeError:
            raise ChatApiGarbledError("an event that is no JSON") from error

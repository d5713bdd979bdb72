"""Event streams as servers write them: one reading, however the bytes are cut."""

import itertools
import random
from collections.abc import Iterator

import pytest

from bot.chat_api.events import MOST_EVENT_BYTES, EventStream, object_in, objects_in
from bot.errors import ChatApiGarbledError

SAID = ['{"a":"one"}', '{"b":"zwei – 你好 😀 a\u2028b\u2029c\u0085d"}', "[DONE]"]
DATA = [said.encode() for said in SAID]


def read(*pieces: bytes) -> list[bytes]:
    stream = EventStream()
    return [*(data for piece in pieces for data in stream.feed(piece)), *stream.end()]


def written(end: str, *, comments: bool = False, blank: bool = True, space: bool = True) -> bytes:
    lines: list[str] = []
    for said in SAID:
        lines += [": keep-alive", ""] if comments else []
        lines += ["event: message", f"data:{' ' if space else ''}{said}", *([""] if blank else [])]
    return "".join(line + end for line in lines).encode()


def splits(body: bytes) -> Iterator[list[bytes]]:
    yield [body[at : at + 1] for at in range(len(body))]
    yield from ([body[:at], body[at:]] for at in range(len(body) + 1))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("comments", [False, True])
def test_no_split_changes_what_is_read(end: str, comments: bool) -> None:
    """Every cut in two, and byte by byte: characters, line ends and marks may all be cut."""
    body = b"\xef\xbb\xbf" + written(end, comments=comments)
    for pieces in splits(body):
        assert read(*pieces) == DATA


def test_mixed_line_ends_are_read_the_same_in_pieces() -> None:
    """A line end of its own right behind a CRLF ends the event: it is no part of that CRLF."""
    body = b'data: {"a":1}\r\n\ndata: {"b":2}\r\n\ndata: {"c":3}\r\r\n'
    for pieces in splits(body):
        assert read(*pieces) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']


def test_the_space_behind_the_colon_is_optional_and_only_one_is_taken() -> None:
    """WHATWG HTML, event stream interpretation."""
    assert read(written("\n", space=False)) == DATA
    assert read(b"data:  x\n\n") == [b" x"]


def test_lines_of_one_event_are_joined() -> None:
    """JSON over several data lines is one object again."""
    (data,) = read(b'data: {\ndata: "a":\ndata: 1}\n\n')
    assert objects_in(data) == [{"a": 1}]


def test_events_without_blank_lines_between_are_all_read() -> None:
    """Some servers end each event with one line end: what reads as one is several."""
    (data,) = read(written("\n", blank=False))
    assert [list(found) for found in objects_in(data)] == [["a"], ["b"]]


def test_the_last_event_counts_without_its_blank_line() -> None:
    """A body that ends behind the data, or in the middle of its line end, lost nothing."""
    for end in (b"", b"\n", b"\r", b"\r\n"):
        assert read(b'data: {"a":1}\n\ndata: {"b":2}' + end) == [b'{"a":1}', b'{"b":2}']


def test_other_fields_and_comments_are_no_data() -> None:
    """Names, ids, times and comments tell nothing that is needed; a field without a value is none."""
    assert read(b": data: x\nevent: data: y\nid: 1\nretry: 3\ndata\n\ndatax: z\n\n") == []


def test_an_event_without_an_end_is_bounded() -> None:
    """As one line, and as many lines: it is given up before it fills the memory."""
    for piece in (b"x" * (1 << 20), b"data: " + b"x" * (1 << 20) + b"\n"):
        with pytest.raises(ChatApiGarbledError):
            read(*itertools.repeat(piece, MOST_EVENT_BYTES // len(piece) + 1))


def test_comments_without_end_take_no_memory() -> None:
    """Keep-alives may come for as long as they like."""
    stream = EventStream()
    for _ in range(40):
        assert stream.feed(b": " + b"x" * (1 << 20) + b"\n\n") == []


def test_half_a_character_costs_itself_and_not_the_answer() -> None:
    """Servers that cut text by UTF-16 units send halves of an emoji as escapes, each in an event of its own."""
    assert objects_in(rb'{"a":"x\ud83d"}') == [{"a": "x\ufffd"}]
    assert objects_in(rb'{"a":"\ude00y"}') == [{"a": "\ufffdy"}]
    assert objects_in(rb'{"a":"\ud83d\ude00"}') == [{"a": "😀"}]
    assert objects_in(rb'{"a":"\ude00 \ud83d\ude00 \ud83d"}') == [{"a": "\ufffd 😀 \ufffd"}]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"1", b'"a"', b"[1]", b'{"a":', b"\xff\xfe", b"[" * 5000])
def test_what_is_no_object_is_garbled(body: bytes) -> None:
    """Never another exception than ours."""
    with pytest.raises(ChatApiGarbledError):
        object_in(body)
    with pytest.raises(ChatApiGarbledError):
        objects_in(body or b"x")


def test_random_streams_are_read_the_same_in_random_pieces() -> None:
    """Whatever the bytes are, pieces change nothing, and nothing is raised."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    parts = [b"data: ", b"data", b":", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"\xef\xbb\xbf", b"{}", b"event: e", b" "]
    for _ in range(3000):
        body = b"".join(source.choices(parts, k=source.randint(0, 30)))
        cuts = sorted(source.randint(0, len(body)) for _ in range(source.randint(0, 8)))
        pieces = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert read(*pieces) == read(body), (body, pieces)

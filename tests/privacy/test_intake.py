"""An archive that comes back: what is ours is read as it was, and everything else is refused by its own reason."""

import io
import json
import os
import random
import struct
import zlib
from hashlib import sha256
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from bot.conversation.record import Asked, Record
from bot.privacy.archive import About, Account, Entry, Noted, Skipped
from bot.privacy.content import Message, clock_of, messages_of
from bot.privacy.intake import MOST_BYTES, IntakeError, Offer, Reason, Returned, examined
from bot.privacy.seal import Seal
from tests.privacy.samples import (
    BOT_ID,
    CHAT_ID,
    MADE_S,
    SEAL,
    about,
    entry,
    messages,
    packed,
    unpacked,
    unreadable,
)

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
SMALL = packed([entry(1), entry(2)])


def read(content: bytes, *, seal: Seal = SEAL, bot_id: int = BOT_ID, chat_id: int = CHAT_ID) -> Offer:
    return examined(content, seal=seal, bot_id=bot_id, chat_id=chat_id)


def refusal(content: bytes, **asked: Any) -> Reason:
    with pytest.raises(IntakeError) as refused:
        read(content, **asked)
    return refused.value.reason


def rezipped(files: dict[str, bytes], *, method: int = ZIP_DEFLATED) -> bytes:
    """As any other program would write it."""
    packed_again = io.BytesIO()
    with ZipFile(packed_again, "w", method) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return packed_again.getvalue()


def changed(files: dict[str, bytes], name: str, **fields: Any) -> dict[str, bytes]:
    return files | {name: json.dumps(json.loads(files[name]) | fields).encode()}


def resigned(files: dict[str, bytes], seal: Seal = SEAL, **more: Any) -> dict[str, bytes]:
    """With a manifest that fits the files, signed: what only the holder of the key can make."""
    manifest = json.loads(files["manifest.json"]) | more
    names = [name for name in files if not name.startswith("manifest")]
    manifest["files"] = [
        {"name": name, "bytes": len(files[name]), "sha256": sha256(files[name]).hexdigest()} for name in names
    ]
    told = json.dumps(manifest).encode()
    return files | {"manifest.json": told, "manifest.sig": seal.signed(told)}


# ---- what is ours
def test_an_offer_tells_what_it_is_of() -> None:
    """Enough for a preview: when it was made, which part it is, how much it holds and from when to when."""
    turns = [entry(1), entry(2), unreadable(3), entry(1, conversation=1), entry(5, topic=4)]
    offer = read(packed([*turns, Noted(4, 0, 5, ("my order is 5",), "an order")], about(part=2, parts=3)))
    assert (offer.made_s, offer.part, offer.parts) == (MADE_S, 2, 3)
    assert offer.counts == {"conversations": 3, "turns": 4, "messages": 8}
    assert (offer.earliest_s, offer.latest_s) == (MADE_S - 86_400 + 600, MADE_S - 86_400 + 3060)
    places = [(turn.topic, turn.conversation, turn.number) for turn in offer.turns()]
    assert places == [(0, 0, 1), (0, 0, 2), (0, 1, 1), (4, 0, 5)]
    assert list(offer.turns()) == list(offer.turns())


def test_an_empty_archive_is_read() -> None:
    """It offers nothing, and is none the worse for it."""
    offer = read(packed([], account=Account({"language": "de"}, [{"at": 1}], [{"id": "x"}])))
    assert (list(offer.turns()), offer.earliest_s, offer.latest_s) == ([], 0, 0)
    assert list(read(packed([unreadable(4)], about(Skipped("photo", "none")))).turns()) == []


@pytest.mark.parametrize("made_s", [0, 1, 1 << 35, 1 << 62])
def test_an_archive_of_a_wrong_clock_is_read(made_s: int) -> None:
    """As it was made."""
    of = About("Support", CHAT_ID, made_s, 1, 1, "en", bot_id=BOT_ID)
    assert read(packed([entry(1)], of)).made_s == (made_s if made_s < 1 << 40 else 0)


@pytest.mark.parametrize("method", [ZIP_DEFLATED, ZIP_STORED])
def test_what_was_unpacked_and_packed_again_is_still_ours(method: int) -> None:
    """Browsers unpack what they fetch: the signature is of the files and not of the zip around them."""
    offer = read(rezipped(unpacked(SMALL), method=method))
    assert list(offer.turns()) == list(read(SMALL).turns())


HOSTILE = st.sampled_from([
    "\ud83d", "\ude00", "\u2028", "\u2029", "\x85", "\x00", "\x0b", "\r\n", "\n", "\u202e", "שלום", "أين",
    "👩\u200d👩\u200d👧", "x" * 100_000,
    '"},', "]}", '],"notes":{', '{"topic":0,"conversation":0,"messages":[', "\\", "\\ud83d", "\ufeff", "\uffff",
])  # fmt: skip
TEXTS = st.lists(HOSTILE | st.text(st.characters(exclude_categories=()), max_size=9), max_size=4).map("".join)
TIMES = st.integers(-5, 2**40) | st.just(0) | st.integers(1, 2**31)
MORE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "t": TIMES | st.just("soon") | st.none(),
        "state": st.sampled_from(["stopped", "handed", "operator", "notice", "odd", ""]) | TEXTS,
        "version": TEXTS | st.integers(0, 9) | st.none(),
        "show": TEXTS,
    },
)
RECORDS = st.builds(
    Record,
    st.lists(st.builds(Asked, st.integers(-1, 2**53), TEXTS, TIMES), max_size=3).map(tuple),
    TEXTS,
    plain=st.booleans(),
    model=TEXTS,
    more=MORE,
)
TURNS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), RECORDS, st.lists(st.integers(0, 2**53), max_size=3).map(tuple)),
    max_size=6,
)


Turn = tuple[int, int, Record, tuple[int, ...]]
"""Topic, conversation, the record, ids of the answer."""


def entries_of(turns: list[Turn]) -> list[Entry]:
    """In order, with numbers that grow."""
    ordered = sorted(turns, key=lambda turn: turn[:2])
    return [
        Entry(topic, number, 3 * place + 1, record, ids) for place, (topic, number, record, ids) in enumerate(ordered)
    ]


def known(message: Message) -> Message:
    """What an archive can tell of a message: no time out of any calendar, and two halves that meet are one sign."""
    words = (message.text, message.state, message.model, message.version)
    text, state, model, version = (
        word.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for word in words
    )
    time_s = message.time_s if clock_of(message.time_s) else 0
    return message._replace(time_s=time_s, text=text, state=state, model=model, version=version)


@seed(SEED)
@settings(max_examples=100, deadline=None, print_blob=True)
@given(TURNS)
@example([(0, 0, Record((), "", more={"state": "stopped"}), ())])
def test_what_was_told_comes_back(turns: list[Turn]) -> None:
    """Ids, times, texts, roles, states, model and version of every message; and told again, it is told the same."""
    print(f"SEED={SEED}")
    comes_back(turns)


@pytest.mark.slow
@seed(SEED)
@settings(max_examples=1000, deadline=None, print_blob=True)
@given(TURNS)
def test_what_was_told_comes_back_a_thousand_times(turns: list[Turn]) -> None:
    """The same, with more hostile words."""
    print(f"SEED={SEED}")
    comes_back(turns)


def comes_back(turns: list[Turn]) -> None:
    """What is told of turns is what their archive gives back."""
    entries = entries_of(turns)
    content = packed(entries)
    told = [
        (one.topic, one.conversation, known(message))
        for one in entries
        if one.record
        for message in messages_of(one, one.record)
    ]
    offer = read(content)
    back = list(offer.turns())
    assert [(turn.topic, turn.conversation, message) for turn in back for message in turn.messages()] == told
    assert offer.counts["messages"] == len(told)
    again = packed([Entry(*turn) for turn in back])
    assert messages(again) == messages(content)
    assert list(read(again).turns()) == back


def test_a_record_comes_back_in_the_stores_own_form() -> None:
    """So that it can be kept as it is: what shows a message, and is no part of it, is not told and does not return."""
    record = Record((Asked(5, "q", MADE_S),), "a", model="m", more={"t": MADE_S + 1, "version": 3, "show": "shown"})
    [turn] = read(packed([Entry(0, 2, 9, record, (6, 7))])).turns()
    expected = Record((Asked(5, "q", MADE_S),), "a", model="m", more={"t": MADE_S + 1, "version": "3"})
    assert turn == Returned(0, 2, 9, expected, (6, 7))
    assert Record.unpacked(turn.record.packed()) == turn.record


def test_our_own_archives_are_no_bombs() -> None:
    """However often a text repeats itself: what would shrink too well is stored as it is."""
    turns = [entry(number, "a" * 4096, "b" * 60_000) for number in range(1, 400)]
    content = packed(turns)
    with ZipFile(io.BytesIO(content)) as opened:
        assert all(info.file_size < 100 * info.compress_size for info in opened.infolist() if info.file_size > 2**20)
        assert opened.testzip() is None
    assert read(content).counts["turns"] == 399


# ---- what is not
@pytest.mark.parametrize(
    "content", [b"", b"x", b"PK\3\4", bytes(5000), SMALL[:-1], SMALL[1:], SMALL[: len(SMALL) // 2]]
)
def test_no_zip_or_half_of_one_is_not_whole(content: bytes) -> None:
    """Also where a part in the middle is missing."""
    assert refusal(content) is Reason.NOT_WHOLE
    assert refusal(SMALL[:100] + SMALL[200:]) is Reason.NOT_WHOLE


def test_files_that_no_archive_has_are_unsafe() -> None:
    """Whatever their names try; two of one name, of which one would be checked and the other one read, too."""
    files = unpacked(SMALL)
    for name in ("../x", "/etc/passwd", "a/chat.html", "chat.html/", "CHAT.HTML", "con", "x" * 9000):
        assert refusal(rezipped(files | {name: b"x"})) is Reason.UNSAFE
    assert refusal(rezipped({f"{number}": b"" for number in range(17)})) is Reason.UNSAFE
    assert refusal(rezipped({f"{number}": b"" for number in range(60_000)})) is Reason.UNSAFE
    assert refusal(rezipped({"letter.docx": b"x"})) is Reason.UNSAFE
    doubled = rezipped(files | {"chat.htmm": files["chat.html"]}).replace(b"chat.htmm", b"chat.html")
    assert refusal(doubled) is Reason.UNSAFE


def test_bombs_are_not_opened() -> None:
    """By ratio, by size, by a claim that is too small, or by a zip in it; nor is any zip that asks for more room."""
    files = unpacked(SMALL)
    assert refusal(rezipped(files | {"chat.html": bytes(50 * 2**20)})) is Reason.UNSAFE
    assert refusal(rezipped(files | {"manifest.json": b"[" * 100_000}, method=ZIP_STORED)) is Reason.UNSAFE
    assert refusal(rezipped(files | {"chat.html": rezipped({"a": bytes(2**20)})})) is Reason.FORGED
    assert refusal(bytes(MOST_BYTES + 1)) is Reason.UNSAFE
    for name in ("manifest.json", "conversations.json"):
        for claimed in (0, 10, len(files[name]) - 1, len(files[name]) + 1):
            assert refusal(with_size(rezipped(files), name, claimed)) in {Reason.UNSAFE, Reason.FORGED}
    lying = with_size(rezipped(files | {"manifest.json": bytes(200 * 2**20)}), "manifest.json", 300)
    assert refusal(lying) is Reason.UNSAFE


def with_size(content: bytes, name: str, size: int) -> bytes:
    """A zip that claims another size of a file, in both places."""
    patched = bytearray(content)
    with ZipFile(io.BytesIO(content)) as opened:
        start = opened.getinfo(name).header_offset
    listed = content.rindex(name.encode()) - 46
    struct.pack_into("<L", patched, start + 22, size)
    struct.pack_into("<L", patched, listed + 24, size)
    return bytes(patched)


@pytest.mark.parametrize(
    ("in_list", "in_head", "value"),
    [
        (8, 6, b"\x01\0"),  # encrypted
        (8, 6, b"\x41\0"),  # strongly
        (10, 8, b"\x0c\0"),  # packed by bzip2
        (24, 22, b"\xff\xff\xff\xff"),  # its size stands elsewhere
        (42, None, b"\0\0\0\0"),  # where another file is
        (42, None, b"\xff\xff\xff\x7f"),  # behind the end
        (20, 18, b"\xff\xff\xff\x00"),  # over the end
        (20, 18, b"\xff\xff\x00\x00"),  # over the next one
        (None, 14, b"abcd"),  # of two minds
        (None, 26, b"\x05\0"),
        (30, None, b"\xff\xff"),
    ],
)
def test_a_zip_that_plays_tricks_is_unsafe(in_list: int | None, in_head: int | None, value: bytes) -> None:
    """What our writer never writes and no honest one has to."""
    content = bytearray(rezipped(unpacked(SMALL)))
    listed = content.rindex(b"chat.html") - 46
    [start] = struct.unpack_from("<L", content, listed + 42)
    if in_list is not None:
        content[listed + in_list : listed + in_list + len(value)] = value
    if in_head is not None:
        content[start + in_head : start + in_head + len(value)] = value
    assert refusal(bytes(content)) is Reason.UNSAFE


def test_an_extra_field_with_larger_sizes_is_unsafe() -> None:
    """Zip64 is for what no archive is."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as opened:
        for name, content in unpacked(SMALL).items():
            with opened.open(name, "w", force_zip64=True) as file:
                file.write(content)
    assert refusal(buffer.getvalue()) is Reason.UNSAFE


def test_what_was_altered_on_its_way_is_damaged() -> None:
    """A bit that flipped is no crime: the zip's own sums tell it from what somebody changed."""
    for name in unpacked(SMALL):
        content = bytearray(SMALL)
        with ZipFile(io.BytesIO(SMALL)) as opened:
            info = opened.getinfo(name)
        content[info.header_offset + 30 + len(name) + info.compress_size // 2] ^= 4
        assert refusal(bytes(content)) in {Reason.DAMAGED, Reason.UNSAFE}, name


def test_a_missing_file_or_an_old_version_is_damaged() -> None:
    """Nothing that was ever released looks so."""
    files = unpacked(SMALL)
    for name in files:
        assert refusal(rezipped({other: files[other] for other in files if other != name})) is Reason.DAMAGED
    for manifest in (b"", b"[]", b"[" * 60_000, b"{}", b"\xff", b'{"format":"support-export-manifest"}', b"9" * 60_000):
        assert refusal(rezipped(files | {"manifest.json": manifest})) is Reason.DAMAGED
    for version in (1, "2", None, 2.5, -(10**30)):
        older = changed(files, "manifest.json", version=version)
        assert refusal(rezipped(older)) is Reason.DAMAGED
    for signature in (b"", b"{}", b"[]", b"\xff"):
        assert refusal(rezipped(files | {"manifest.sig": signature})) is Reason.DAMAGED


def test_a_later_version_is_told_whatever_else_it_has() -> None:
    """It may have files and fields that are not known yet."""
    newer = changed(unpacked(SMALL), "manifest.json", version=3, more=[])
    assert refusal(rezipped(newer)) is Reason.NEWER
    assert refusal(rezipped(newer | {"ratings.json": b"{}"})) is Reason.NEWER


def test_an_archive_of_another_installation_is_foreign() -> None:
    """However well it is signed."""
    assert refusal(SMALL, seal=Seal.of(bytes(32))) is Reason.FOREIGN
    assert refusal(rezipped(resigned(unpacked(SMALL), Seal.of(bytes(32))))) is Reason.FOREIGN


@pytest.mark.parametrize("name", ["conversations.json", "chat.html", "account.json", "schema.json", "manifest.json"])
def test_a_file_that_was_changed_is_forged(name: str) -> None:
    """By one byte, in any file; also where the manifest was made to fit."""
    files = unpacked(SMALL)
    for content in (files[name] + b" ", files[name].replace(b"how?", b"why?").replace(b"1001", b"1002")):
        if content != files[name]:
            assert refusal(rezipped(files | {name: content})) is Reason.FORGED
    fitted = resigned(files | {"conversations.json": files["conversations.json"].replace(b"how?", b"why?")})
    assert refusal(rezipped(fitted | {"manifest.sig": files["manifest.sig"]})) is Reason.FORGED


def test_nothing_of_the_conversations_is_parsed_before_the_hash_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forger gets no further than a hash."""
    monkeypatch.setattr("bot.privacy.intake.returned", lambda *_: pytest.fail("parsed"))
    files = unpacked(SMALL)
    assert refusal(rezipped(files | {"conversations.json": b"[" * 9_000})) is Reason.FORGED


def test_an_archive_of_another_chat_or_bot_is_not_yours() -> None:
    """Told only of what is truly ours, and before its files are looked at."""
    assert refusal(SMALL, chat_id=CHAT_ID + 1) is Reason.NOT_YOURS
    assert refusal(SMALL, bot_id=BOT_ID + 1) is Reason.NOT_YOURS
    altered = rezipped(unpacked(SMALL) | {"chat.html": b"x"})
    assert refusal(altered, chat_id=CHAT_ID + 1) is Reason.NOT_YOURS


LINES = unpacked(packed([entry(1), entry(2), unreadable(3), Noted(0, 0, 2, ("s",), "t")]))[
    "conversations.json"
].splitlines(True)
MESSAGE = {"id": 10, "turn": 1, "role": "customer", "time": None, "text": "t"}
WRONG_FIELDS: list[dict[str, Any]] = [
    {"id": "1"}, {"id": None}, {"id": True}, {"ids": [1, 2]}, {"ids": [10, "x"]}, {"ids": 5}, {"turn": 0},
    {"turn": None}, {"turn": 1.5}, {"role": "system"}, {"role": []}, {"role": "operator", "state": "notice"},
    {"role": "assistant", "text": ""}, {"role": "assistant", "state": "operator"}, {"time": 5}, {"time": "today"},
    {"time": "2026-02-30T00:00:00Z"}, {"time": "2026-02-03T25:00:00Z"}, {"time": "1960-01-01T00:00:00Z"},
    {"text": None}, {"state": 5}, {"state": "stopped"}, {"model": "m"}, {"version": "1"}, {"more": 1},
]  # fmt: skip
WRONG = [
    b"[]", b"{}", b"\xff", b'{"topic":0,"conversation":0,"messages":[\n', b"]}\n", b"],\n", b'],"notes":{}}\n',
    b'],"notes":{"upto":1,"statements":[5]}}\n', b'],"notes":5}\n', b'{"id":1}\n', b"null\n",
    *(json.dumps(MESSAGE | fields).encode() + b",\n" for fields in WRONG_FIELDS),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(LINES) + 1))
def test_lines_that_are_none_of_ours_are_damaged(place: int) -> None:
    """Though signed by us: a fault of ours is refused like any other, and never half taken."""
    files = unpacked(SMALL)
    untouched = rezipped(resigned(files | {"conversations.json": b"".join(LINES)}))
    assert read(untouched).counts["turns"] == 2
    for wrong in WRONG:
        lines = b"".join([*LINES[:place], wrong, *LINES[place:]])
        content = rezipped(resigned(files | {"conversations.json": lines}), method=ZIP_STORED)
        assert refusal(content) is Reason.DAMAGED, wrong
    for cut in {b"".join(LINES[:place]), b"".join(LINES)[: -place or -1]} - {b"".join(LINES)}:
        assert refusal(rezipped(resigned(files | {"conversations.json": cut}))) is Reason.DAMAGED


def test_an_account_or_a_manifest_that_is_none_is_damaged() -> None:
    """Signed or not."""
    files = unpacked(SMALL)
    for wrong in (b"", b"[]", b"{}", files["account.json"].replace(b"1001", b"1002")):
        assert refusal(rezipped(resigned(files | {"account.json": wrong}))) is Reason.DAMAGED
    wrong_fields: list[dict[str, Any]] = [{"part": "1"}, {"more": 1}, {"made": None}, {"bot": 5}]
    for fields in wrong_fields:
        assert refusal(rezipped(resigned(files, **fields))) is Reason.DAMAGED
    lists: list[Any] = [[], [5], [{"name": "chat.html"}], 5]
    for listed in lists:
        told = json.dumps(json.loads(files["manifest.json"]) | {"files": listed}).encode()
        signed = files | {"manifest.json": told, "manifest.sig": SEAL.signed(told)}
        assert refusal(rezipped(signed)) is Reason.DAMAGED


def test_what_follows_the_end_of_a_files_content_is_refused() -> None:
    """Nothing hides behind it, wherever a piece ends."""
    files = unpacked(SMALL)
    for hidden in (b"x", bytes(70_000)):
        content = rezipped(files | {"schema.json": files["schema.json"]})
        with ZipFile(io.BytesIO(content)) as opened:
            info = opened.getinfo("schema.json")
        data = info.header_offset + 30 + len("schema.json")
        end = data + info.compress_size
        sums = struct.pack("<3L", zlib.crc32(files["schema.json"]), info.compress_size + len(hidden), info.file_size)
        old = struct.pack("<3L", info.CRC, info.compress_size, info.file_size)
        patched = (content[:end] + hidden + content[end:]).replace(old, sums)
        assert refusal(moved(patched, info.header_offset, len(hidden))) is Reason.DAMAGED


def moved(content: bytes, after: int, by: int) -> bytes:
    """The list of files set right after something was put into the zip."""
    patched = bytearray(content)
    [start] = struct.unpack_from("<L", content, len(content) - 6)
    struct.pack_into("<L", patched, len(content) - 6, start + by)
    at = start + by
    while content[at : at + 4] == b"PK\1\2":
        name, extra, comment = struct.unpack_from("<3H", content, at + 28)
        [offset] = struct.unpack_from("<L", content, at + 42)
        if offset > after:
            struct.pack_into("<L", patched, at + 42, offset + by)
        at += 46 + name + extra + comment
    return bytes(patched)

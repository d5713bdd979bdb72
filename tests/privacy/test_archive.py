"""The archive of `/export`: whole, checkable, the same each time, and never in memory as a whole."""

import asyncio
import hashlib
import io
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import pytest

from bot.conversation.record import Asked, Record
from bot.privacy.archive import CHUNK_BYTES, About, Account, Entry, Noted, Skipped, archive, file_name
from tests.privacy.samples import (
    MADE_S,
    about,
    chunks,
    conversations,
    entry,
    messages,
    packed,
    page,
    say,
    told,
    unpacked,
    unreadable,
)

HASHED = ["conversations.json", "chat.html", "account.json", "schema.json"]
ORDERED = [*HASHED, "manifest.json", "manifest.sig"]


def test_conversations_have_the_documented_layout() -> None:
    """Programs can rely on it: a change of it needs a new version number."""
    two = Record((Asked(5, "one", MADE_S), Asked(6, "two")), "both", model="m", more={"t": MADE_S + 1, "version": "3"})
    assert conversations(packed([entry(1), Entry(7, 2, 9, two, (8, 9))], about(bot="Support bot"))) == {
        "format": "support-export", "version": 2, "made": "2026-11-21T14:03:00Z", "bot": "Support bot",
        "bot_id": 77, "chat_id": 1001, "part": 1, "parts": 1,
        "conversations": [
            {"topic": 0, "conversation": 0, "messages": [
                {"id": 10, "turn": 1, "role": "customer", "time": "2026-11-20T14:13:00Z", "text": "how?"},
                {"id": 11, "turn": 1, "role": "assistant", "time": "2026-11-20T14:14:00Z", "text": "so", "model": "m"},
            ]},
            {"topic": 7, "conversation": 2, "messages": [
                {"id": 5, "turn": 9, "role": "customer", "time": "2026-11-21T14:03:00Z", "text": "one"},
                {"id": 6, "turn": 9, "role": "customer", "time": None, "text": "two"},
                {"id": 8, "ids": [8, 9], "turn": 9, "role": "assistant", "time": "2026-11-21T14:03:01Z",
                 "text": "both", "model": "m", "version": "3"},
            ]},
        ],
        "skipped": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record((Asked(1, "q"),), "a", more={"state": "stopped"}), [("customer", None), ("assistant", "stopped")]),
        (Record((Asked(1, "q"),), "", more={"state": "stopped"}), [("customer", None), ("assistant", "stopped")]),
        (Record((Asked(1, "q"),), "", more={"state": "handed"}), [("customer", "handed")]),
        (Record((), "a", more={"state": "operator"}), [("operator", None)]),
        (Record((Asked(1, "q"),), "a", more={"state": "operator"}), [("customer", None), ("operator", None)]),
        (Record((Asked(1, "q"),), "a", plain=True), [("customer", None), ("assistant", "notice")]),
        (Record((Asked(1, "q"),), ""), [("customer", None)]),
        (Record((), ""), []),
    ],
)
def test_who_said_it_and_what_became_of_it_is_told(record: Record, expected: list[tuple[str, str | None]]) -> None:
    """A stopped answer was shown, however short; a hand-off is told of the question; an operator is no assistant."""
    found = messages(packed([Entry(0, 0, 1, record, (2,))]))
    assert [(message["role"], message.get("state")) for message in found] == expected


@pytest.mark.parametrize("said_s", [0, -5, 1 << 62, "soon", None])
def test_a_time_that_is_none_does_not_stop_an_export(said_s: Any) -> None:
    """Old records have no time, and a broken one is no reason to keep somebody's data from them."""
    content = packed([entry(1, t=said_s)])
    assert messages(content)[1]["time"] is None
    assert page(content).of(".said") == ["how?", "so"]


def test_the_manifest_has_size_and_hash_of_each_file() -> None:
    """Whoever receives the archive can check it, with tools of their own."""
    content = packed(
        [entry(1), entry(2), unreadable(3), entry(1, conversation=1)], about(Skipped("photo 4", "no text"))
    )
    files = unpacked(content)
    assert list(files) == ORDERED
    manifest = json.loads(files["manifest.json"])
    assert manifest["files"] == [
        {"name": name, "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()} for name in HASHED
    ]
    assert manifest["counts"] == {"conversations": 2, "turns": 3, "messages": 6, "skipped": 2}
    assert (manifest["made"], manifest["chat_id"], manifest["parts"]) == ("2026-11-21T14:03:00Z", 1001, 1)


def test_the_same_history_gives_the_same_bytes() -> None:
    """A second try after a cut upload can be compared with the first; the files' time is the archive's."""
    assert packed([entry(1), unreadable(2)]) == packed([entry(1), unreadable(2)])
    with ZipFile(io.BytesIO(packed([]))) as opened:
        assert {info.date_time for info in opened.infolist()} == {(2026, 11, 21, 14, 3, 0)}


@pytest.mark.parametrize("made_s", [0, 1, 1 << 35, 1 << 62])
def test_a_clock_that_is_wrong_does_not_stop_an_export(made_s: int) -> None:
    """A zip knows the years 1980 to 2107."""
    of = About("Support", 1, made_s, 1, 1, "en")
    assert list(unpacked(packed([entry(1)], of))) == ORDERED


def test_what_is_left_out_is_named_with_its_reason_in_every_file() -> None:
    """Nothing is missing silently; neighbouring turns of one reason are one item."""
    gone = [unreadable(number) for number in (2, 3, 4)]
    other = [unreadable(5, reason="Its seal is broken."), unreadable(7), unreadable(7, conversation=1)]
    entries = [entry(1), *gone, other[0], entry(6), *other[1:], entry(8, conversation=1)]
    content = packed(entries, about(Skipped("voice message 17", "Only text is kept.")))
    key, seal = "Its key is gone.", "Its seal is broken."
    expected = [
        {"what": "voice message 17", "reason": "Only text is kept."},
        {"what": "turns 2 to 4 of conversation 0 in topic 0", "reason": key,
         "topic": 0, "conversation": 0, "first": 2, "last": 4},
        {"what": "turn 5 of conversation 0 in topic 0", "reason": seal,
         "topic": 0, "conversation": 0, "first": 5, "last": 5},
        {"what": "turn 7 of conversation 0 in topic 0", "reason": key,
         "topic": 0, "conversation": 0, "first": 7, "last": 7},
        {"what": "turn 7 of conversation 1 in topic 0", "reason": key,
         "topic": 0, "conversation": 1, "first": 7, "last": 7},
    ]  # fmt: skip
    assert conversations(content)["skipped"] == expected
    assert json.loads(unpacked(content)["manifest.json"])["counts"]["skipped"] == len(expected)
    missing = [
        f"Questions 2 to 4 and their answers are missing. {key}",
        f"Question 5 and its answer are missing. {seal}",
        f"Question 7 and its answer are missing. {key}",
        f"Question 7 and its answer are missing. {key}",
    ]
    assert page(content).of(".gap") == missing
    places = ["Conversation 1", "Conversation 1", "Conversation 1", "Conversation 2"]
    assert page(content).of("li") == [
        "voice message 17: Only text is kept.",
        *(f"{place}: {sentence}" for place, sentence in zip(places, missing, strict=True)),
    ]


def test_a_turn_that_was_removed_on_request_leaves_no_trace() -> None:
    """Nothing is missing: it is not listed, and it does not make one loss of the two beside it."""
    gone = Entry(0, 0, 3, None, (), gone=True)
    content = packed([entry(1), unreadable(2), gone, unreadable(4), gone._replace(number=5)])
    skipped = conversations(content)["skipped"]
    assert [(item["first"], item["last"]) for item in skipped] == [(2, 2), (4, 4)]
    assert len(page(content).of(".gap")) == 2
    assert json.loads(unpacked(content)["manifest.json"])["counts"]["turns"] == 1


def test_settings_consents_and_receipts_are_told_to_programs_and_people() -> None:
    """Under the names that programs see; a time reads as one, and hostile text stays text."""
    account = Account(
        {"language": "<b>de</b>", "keep_days": 30, "improve": False},
        [{"what": "processing", "version": "2", "at_s": MADE_S}],
        [{"id": "ABCD-EFGH-JKMN", "kind": "erasure", "asked_ms": MADE_S * 1000, "done_ms": 0, "counts": {"turns": 3}}],
    )
    content = packed([entry(1)], account=account)
    told = json.loads(unpacked(content)["account.json"])
    assert (told["format"], told["version"], told["chat_id"]) == ("support-export-account", 2, 1001)
    assert told["settings"] == account.settings
    assert told["consents"] == account.consents
    assert told["receipts"] == account.receipts
    assert told["files"] == []
    read = page(content)
    assert read.of("h2")[-3:] == ["Your settings", "What you agreed to", "Your requests"]
    assert read.of("li") == [
        "language: <b>de</b>", "keep_days: 30", "improve: false",
        "what: processing, version: 2, at: 2026-11-21T14:03:00Z",
        'id: ABCD-EFGH-JKMN, kind: erasure, asked: 2026-11-21T14:03:00Z, done_ms: 0, counts: {"turns": 3}',
    ]  # fmt: skip


def test_a_turn_without_a_reason_still_gets_a_sentence() -> None:
    """An empty reason would say nothing, and gettext would translate it to the catalogue's head."""
    content = packed([unreadable(1, reason="")], about(Skipped("photo 4", "")))
    assert conversations(content)["skipped"][1]["reason"] == "It could not be read."
    assert page(content).of("li")[0] == "photo 4: It could not be read."


def test_notes_stand_behind_the_turns_they_are_about() -> None:
    """Each conversation's own, in both files; where there are none, there is no such field."""
    entries: list[Entry | Noted] = [
        *(entry(1), unreadable(2), Noted(0, 0, 2, ("My order is 4711.", "I live in Berlin"), "Ann\nwaits.")),
        entry(1, conversation=1),
        *(unreadable(1, topic=7), Noted(7, 0, 1, (), "Short.")),
        *(entry(1, topic=8), Noted(8, 0, 1, ("My name is Bo.",))),
    ]
    content = packed(entries)
    told = conversations(content)["conversations"]
    assert [talk.get("notes") for talk in told] == [
        {"upto": 2, "statements": ["My order is 4711.", "I live in Berlin"], "summary": "Ann\nwaits."},
        None,
        {"upto": 1, "statements": [], "summary": "Short."},
        {"upto": 1, "statements": ["My name is Bo."]},
    ]
    assert [len(talk["messages"]) for talk in told] == [2, 2, 0, 2]
    read = page(content)
    assert len(read.of(".notes")) == 3
    assert read.of(".said") == ["how?", "so", "Ann\nwaits.", "how?", "so", "Short.", "how?", "so"]
    assert read.of("li")[:3] == ["My order is 4711.", "I live in Berlin", "My name is Bo."]
    assert read.of(".notes")[0].split("\n")[1].startswith("What the assistant keeps in mind of questions 1 to 2,")


def test_an_empty_history_gives_an_archive_that_says_so() -> None:
    """Whoever has no data is told this, in a valid archive."""
    content = packed([])
    assert list(unpacked(content)) == ORDERED
    assert conversations(content)["conversations"] == []
    assert "There are no messages." in page(content).of(".gap")
    assert json.loads(unpacked(content)["manifest.json"])["counts"]["messages"] == 0


def test_parts_are_named_and_numbered() -> None:
    """Several files of one day must not overwrite each other."""
    assert file_name(about()) == "conversations-2026-11-21.zip"
    second = about(part=2, parts=3)
    assert file_name(second) == "conversations-2026-11-21-part-2-of-3.zip"
    content = packed([entry(1)], second)
    assert (conversations(content)["part"], conversations(content)["parts"]) == (2, 3)
    assert "This is part 2 of 3." in page(content).of(".quiet")[0]


def _noise(number: int) -> Entry:
    """Something that cannot be compressed well."""
    return entry(number, hashlib.sha512(b"%d" % number).hexdigest() * 2, hashlib.sha512(b"-%d" % number).hexdigest())


async def test_no_chunk_is_larger_than_64_kib() -> None:
    """The upload takes them as they come: nothing waits for the end."""
    content = await chunks(_noise(number) for number in range(3000))
    assert len(content) > 10
    assert all(len(chunk) == CHUNK_BYTES for chunk in content[:-1])
    assert 0 < len(content[-1]) <= CHUNK_BYTES


@pytest.mark.parametrize("signs", ["ascii", "rare", "marks", "short"])
async def test_an_archive_is_at_most_twice_what_is_kept(signs: str) -> None:
    """Whoever cuts an export into parts knows only the sizes of records: 10 MiB of them must stay below 20 MB."""
    drawn = random.Random(1)
    of = {
        "ascii": range(0x20, 0x7F),
        "rare": range(0x20000, 0x2A000),
        "marks": list(map(ord, "<>&\"'\\\x01")),
        "short": [97],
    }
    length = 1 if signs == "short" else 400

    def text() -> str:
        return "".join(map(chr, drawn.choices(of[signs], k=length)))

    entries = [entry(number, text(), text()) for number in range(1500)]
    kept = sum(len(one.record.packed()) for one in entries if one.record)
    assert sum(map(len, await chunks(entries))) < 1.9 * kept


async def test_others_run_while_an_archive_is_made() -> None:
    """After some turns at the latest: also where nothing is written because nothing can be opened."""
    others = 0

    async def run() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    for entries in ([entry(number) for number in range(640)], [unreadable(number) for number in range(640)]):
        task, others = asyncio.create_task(run()), 0
        await chunks(entries)
        task.cancel()
        assert others >= 20


@pytest.mark.parametrize("reading", [1, 2])
async def test_a_fault_of_the_store_ends_the_archive(reading: int) -> None:
    """It passes through, and what was sent until then cannot be taken for a whole archive."""
    calls = 0

    async def breaking() -> AsyncIterator[Entry]:
        nonlocal calls
        calls += 1
        for number in range(2000):
            yield _noise(number)
        if calls == reading:
            raise ConnectionError

    got = bytearray()

    async def receive() -> None:
        async for chunk in archive(about(), breaking, say):
            got.extend(chunk)

    with pytest.raises(ConnectionError):
        await receive()
    assert got
    with pytest.raises(BadZipFile):
        ZipFile(io.BytesIO(got))


async def test_an_archive_that_nobody_wants_any_more_lets_go_of_the_store() -> None:
    """An upload that was cut closes what reads the store at once, not when the collector comes."""
    closed = False

    async def endless() -> AsyncIterator[Entry]:
        nonlocal closed
        try:
            number = 0
            while True:
                yield _noise(number := number + 1)
        finally:
            closed = True

    async with aclosing(archive(about(), endless, say)) as stream:
        await anext(stream)
    assert closed


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "mebibytes"), [(0, 4), (2, 16)], ids=["all readable", "every other turn lost"])
def test_memory_does_not_grow_with_the_history(project_root: Path, lost: int, mebibytes: int) -> None:
    """100,000 turns: the process grows by little, and in the worst case by what the list of lost turns takes."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.privacy.samples", "100000", str(lost)],
        cwd=project_root, capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    size, grown_kib = map(int, ended.stdout.split())
    assert size > 1 << 20
    assert grown_kib <= mebibytes * 1024


async def test_the_store_is_read_once_per_file() -> None:
    """Opening sealed turns is what an export costs."""
    calls = 0

    def entries() -> AsyncIterator[Entry | Noted]:
        nonlocal calls
        calls += 1
        return told([entry(1)])

    async for _ in archive(about(), entries, say):
        pass
    assert calls == 2

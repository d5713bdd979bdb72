"""What an export reads from the store: every turn that is there, by name what was lost, and not a word of the rest."""

import random
from collections.abc import AsyncIterator
from functools import partial

import pytest

from bot.conversation.record import Asked, Record
from bot.privacy.archive import Entry, Noted, archive
from bot.privacy.export import MISSING, UNOPENED, Extent, about_part
from bot.privacy.intake import MOST_BYTES, Returned, examined
from tests.privacy.conftest import Kept
from tests.privacy.samples import BOT_ID, CHAT_ID, MADE_S, SEAL, say


def record(number: int, text: str = "text") -> Record:
    return Record((Asked(10 * number, text, MADE_S),), text, model="m", more={"t": MADE_S + 1})


async def told(entries: AsyncIterator[Entry | Noted]) -> list[tuple[int, int, str]]:
    """Conversation, number, and what became of it."""
    found = []
    async for entry in entries:
        assert isinstance(entry, Entry)
        fate = "gone" if entry.gone else "told" if entry.record else entry.reason
        found.append((entry.conversation, entry.number, fate))
    return found


async def test_what_is_no_longer_kept_is_no_loss(kept: Kept) -> None:
    """Turns older than all that is kept are not named, single ones that were removed neither; a hole between is."""
    await kept.keep(0, {number: record(number) for number in (4, 5, 8, 9)})
    await kept.remove(0, 6)
    exporter, state = kept.exporter(), kept.state(last=10)
    [extent] = await exporter.plan(state)
    assert extent == [(0, 0, 1, 10)]
    assert await told(exporter.entries(state, extent)) == [
        (0, 4, "told"), (0, 5, "told"), (0, 6, "gone"), (0, 7, MISSING), (0, 8, "told"), (0, 9, "told"),
        (0, 10, MISSING),
    ]  # fmt: skip


async def test_a_history_that_is_removed_or_too_old_is_no_export(kept: Kept) -> None:
    """There is nothing to send then, and the customer is told so."""
    await kept.remove(0, 2)
    await kept.end(0, 3)
    exporter = kept.exporter()
    assert await exporter.plan(kept.state(last=5, conversation=1)) == []
    await kept.keep(1, {5: record(5)})
    assert await exporter.plan(kept.state(last=5, conversation=1)) == [[(0, 1, 1, 5)]]


async def test_a_turn_that_does_not_open_is_named(kept: Kept) -> None:
    """Its key may be lost; the others are told."""
    await kept.keep(0, {number: record(number) for number in (1, 2, 3)})
    [turn] = await kept.history.read(CHAT_ID, 0, 0, 2, 2)
    broken = turn.packed()[:-1] + bytes([turn.packed()[-1] ^ 1])
    await kept.put(0, 2, broken)
    state = kept.state(last=3)
    [extent] = await kept.exporter().plan(state)
    assert await told(kept.exporter().entries(state, extent)) == [(0, 1, "told"), (0, 2, UNOPENED), (0, 3, "told")]


async def sent(kept: Kept, parts: list[Extent]) -> list[bytes]:
    """All documents of an export."""
    plan = {"parts": parts, "made": MADE_S}
    documents = []
    for part, extent in enumerate(parts, 1):
        of = about_part(plan, part, bot="Support", bot_id=BOT_ID, chat_id=CHAT_ID, language="en")
        entries = partial(kept.exporter().entries, kept.state(), extent)
        documents.append(b"".join([chunk async for chunk in archive(of, entries, say, seal=SEAL)]))
    return documents


def returned(documents: list[bytes]) -> list[Returned]:
    offers = [examined(document, seal=SEAL, bot_id=BOT_ID, chat_id=CHAT_ID) for document in documents]
    assert [(offer.part, offer.parts) for offer in offers] == [(n + 1, len(offers)) for n in range(len(offers))]
    return [turn for offer in offers for turn in offer.turns()]


async def test_every_part_is_whole_in_itself(kept: Kept) -> None:
    """Each can be sent back alone, and all of them together are every turn once, in order."""
    for conversation, last in ((0, 7), (1, 9)):
        await kept.keep(conversation, {number: record(number) for number in range(1, last + 1)})
    await kept.end(0, 7)
    parts = await kept.exporter(part_bytes=600).plan(kept.state(last=9, conversation=1))
    assert len(parts) > 3
    back = returned(await sent(kept, parts))
    assert [(turn.conversation, turn.number) for turn in back] == [
        (conversation, number) for conversation, last in ((0, 7), (1, 9)) for number in range(1, last + 1)
    ]
    assert [turn.record for turn in back[:7]] == [record(number) for number in range(1, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("signs", ["ascii", "rare", "marks", "short", "many"])
async def test_a_part_can_be_sent_back_whatever_it_holds(kept: Kept, signs: str) -> None:
    """A bot can fetch 20 MB: also where nothing can be compressed, where every sign must be escaped, and where messages
    are so short that what stands around them counts most. Every part but the last is as full as it may be."""
    drawn = random.Random(1)
    of: dict[str, str] = {
        "ascii": "".join(sorted(set(map(chr, range(0x21, 0x7F))) - set("<>&\"'\\"))),
        "rare": "".join(map(chr, range(0x20000, 0x2A000))),
        "marks": "<>&\"'\\\x01",
    }
    known = of.get(signs, "a")
    length = {"ascii": 60_000, "rare": 30_000, "marks": 60_000, "short": 1, "many": 1}[signs]
    last = {"ascii": 100, "rare": 60, "marks": 90, "short": 85_000, "many": 4_500}[signs]

    def text() -> str:
        return "".join(drawn.choices(known, k=length))

    def turn() -> Record:
        count = 100 if signs == "many" else 1
        asked = tuple(Asked(drawn.randrange(2**40), text(), drawn.randrange(2**31)) for _ in range(count))
        return Record(asked, text(), more={"t": drawn.randrange(2**31)})

    await kept.keep(0, {number: turn() for number in range(1, last + 1)})
    parts = await kept.exporter().plan(kept.state(last=last))
    assert len(parts) > 1
    documents = await sent(kept, parts)
    print(signs, [len(document) for document in documents])
    assert max(map(len, documents)) < MOST_BYTES
    assert len(returned(documents)) == last

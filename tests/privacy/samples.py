"""Made-up histories, and archives of them, opened.

As a program (``TURNS LOST``, every so manieth turn lost): prints the bytes of an archive and the KiB that the process
grew by while it was made, which can only be told in a process that has done nothing else.
"""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from bot.conversation.record import Asked, Record
from bot.privacy.archive import About, Account, Entry, Noted, Skipped, archive
from bot.privacy.seal import Seal

MADE_S: Final = 1_795_269_780  # 2026-11-21 14:03 UTC
BOT_ID: Final = 77
CHAT_ID: Final = 1001
SEAL: Final = Seal.of(bytes(range(32)))
_EMPTY: Final = {"meta"}


def about(*skipped: Skipped, part: int = 1, parts: int = 1, bot: str = "Support") -> About:
    return About(bot, CHAT_ID, MADE_S, part, parts, "en", skipped, BOT_ID)


def entry(
    number: int, question: str = "how?", answer: str = "so", *, topic: int = 0, conversation: int = 0, **more: Any
) -> Entry:
    """A turn of two messages, the answer a minute after the question; ``more`` goes into the record."""
    asked_s = MADE_S - 86_400 + number * 600
    record = Record((Asked(number * 10, question, asked_s),), answer, model="m", more={"t": asked_s + 60, **more})
    return Entry(topic, conversation, number, record, (number * 10 + 1,))


def unreadable(number: int, *, topic: int = 0, conversation: int = 0, reason: str = "Its key is gone.") -> Entry:
    return Entry(topic, conversation, number, None, (), reason)


def say(sentence: str) -> str:
    """No translation."""
    assert sentence, "gettext answers the empty text with its own head"
    return sentence


async def told(entries: Iterable[Entry | Noted]) -> AsyncIterator[Entry | Noted]:
    for one in entries:
        yield one


async def chunks(
    entries: Iterable[Entry | Noted], of: About | None = None, account: Account | None = None, seal: Seal | None = SEAL
) -> list[bytes]:
    given = list(entries)
    async with aclosing(archive(of or about(), lambda: told(given), say, account=account, seal=seal)) as stream:
        return [chunk async for chunk in stream]


def packed(
    entries: Iterable[Entry | Noted], of: About | None = None, account: Account | None = None, seal: Seal | None = SEAL
) -> bytes:
    return b"".join(asyncio.run(chunks(entries, of, account, seal)))


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files by name, in their order."""
    with ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def conversations(content: bytes) -> Any:
    return json.loads(unpacked(content)["conversations.json"])


def messages(content: bytes) -> list[dict[str, Any]]:
    return [message for one in conversations(content)["conversations"] for message in one["messages"]]


class Reading(HTMLParser):
    """``chat.html`` as a parser sees it: which elements and attributes there are, and the text of each element."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[tuple[str, str]] = []  # (element, or its first class with a dot before it; its own text)
        self._open: list[list[str]] = []
        self.feed(content.decode("utf-8"))
        self.close()
        assert not self._open, "an element was left open"

    def of(self, name: str) -> list[str]:
        return [text for element, text in self.texts if element == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in _EMPTY:
            self._open.append([tag, dict(attrs).get("class") or "", ""])

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element[2] += data

    def handle_endtag(self, tag: str) -> None:
        opened, classes, text = self._open.pop()
        assert opened == tag
        self.texts.append((f".{classes}" if classes else tag, text))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data!r}")


def page(content: bytes) -> Reading:
    return Reading(unpacked(content)["chat.html"])


async def _long(turns: int, lost: int) -> AsyncIterator[Entry]:
    text = "A customer writes this much, on average, and the answer is three times as long. "
    for number in range(1, turns + 1):
        is_lost = lost and number % lost == 0
        yield unreadable(number) if is_lost else entry(number, f"{number} {text}", text * 3, conversation=number // 9)


def _highest_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


async def _growth(turns: int, lost: int) -> None:
    await chunks([entry(1), unreadable(2)])  # what is loaded at first use is no growth
    before = _highest_kib()
    async with aclosing(archive(about(), lambda: _long(turns, lost), say)) as stream:
        size = sum([len(chunk) async for chunk in stream])
    print(size, _highest_kib() - before)


if __name__ == "__main__":
    asyncio.run(_growth(*map(int, sys.argv[1:])))

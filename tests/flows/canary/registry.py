"""What each key of the store is expected to hold: words of a customer, by the canary planted there, or nothing of them.

The rows come from the table in ``storage/keys.py`` and the fields of a chat from what reads and writes them, so that
whoever stores something new has to say here what it is, or has the walk turn red.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from storage import keys as table

Claim = frozenset[str] | str
"""The canaries that lie there before a forget, or why nobody's words can."""

_SIGNS: Final = {"C": r"-?\d+", "K": r"[0-9a-z]+", "M": r"\d+", "ID": r"[0-9A-Za-z-]+", "…": r".+"}
_CHAT: Final = "chat:C"
_LUA: Final = Path(table.__file__).parent / "lua"

_NUMBERS: Final = "numbers only"
_IDS: Final = "ids of chats, messages or updates"


def held(*names: str) -> frozenset[str]:
    """Of these canaries."""
    return frozenset(names)


KEYS: Final[Mapping[str, Claim]] = {
    "ready": _IDS,
    "seen": _IDS,
    "later": _IDS,
    "sweeps": _IDS,
    "trash": _IDS,
    "ages": _IDS,
    "stats": _NUMBERS,
    _CHAT: "told field by field",
    "mail:C": held("waiting"),
    "own:C": _IDS,
    "tomb:C": _IDS,
    "dead:C": held("dead"),
    "turns:C:…": held("answered", "corrected", "ended", "noted", "relayed", "stopped", "streamed"),
    "past:C": _NUMBERS,
    "links:C": _IDS,
    "notes:C": held("noted", "summed"),
    "remotes:C": held("remote"),
    "receipts:C": "random ids that lead to records without personal data",
    "import:C:…": held("staged"),
    "ids:C": _IDS,
    "ids": _IDS,
    "leader": "a random name",
    "control": "a channel, and no key",
    "menu": "our own texts",
    "removals": held("removed-remote"),
    "receipts": "random ids, times, kinds and counts",
    "requests": "random ids and times",
    "apikeys": "hashes, times and an operator's own note",
    "calls:K:M": _NUMBERS,
    "export:ID": held("plan"),
    "alerts": "states of the service, with host names and numbers",
    "backups": "times, and the name of an operator's folder",
}
"""By row of the table. A row whose canaries a way of running the service cannot have is checked in another one."""

BESIDE: Final[Mapping[str, str]] = {
    "identity": "fingerprints of keys (storage/schema.py)",
    "schema": "the version of the layout (storage/schema.py)",
    "schema-lock": "a random name, while the layout is upgraded (storage/schema.py)",
}
"""Keys that stand before there is a bot to speak of, and so are not in the table."""

FIELDS: Final[Mapping[str, Claim]] = {
    **dict.fromkeys(
        ("fence", "epoch", "done", "stopped", "fails", "claims", "edits", "base", "newest", "take", "pieces", "topic",
         "seq", "piece", "hi", "attempt", "keep", "warned", "day", "doubt", "charged", "coming", "c:", "n:", "s:", "o:",
         "g:", "i:", "u:"),
        _NUMBERS,
    ),
    **dict.fromkeys(("blocked", "handed", "told", "awaits", "until", "t"), "a time"),
    **dict.fromkeys(("halt", "over", "rested", "marker", "warn"), "a sign"),
    **dict.fromkeys(("tidy", "mid:", "header", "turn"), _IDS),
    "entry": "the entry of a stream",
    "kind": "one of our own words",
    "waits": "a time and one of our own words",
    "chosen": "a code of one of our languages",
    "language": "a code of a language; it goes with everything",
    "forget": "marks of keys, numbers and a receipt's id",
    "record": held("journaled"),
    "change": held("remote"),
    "rights": held("wishes"),
    "offer:": held("offer"),
    "r:": held("remote"),
}  # fmt: skip
"""By field of a chat; one that ends in a colon stands for all that begin with it."""


def rows(text: str | None = table.__doc__) -> set[str]:
    """The names in the first column of the table."""
    assert text is not None
    lines = text.splitlines()
    borders = [number for number, line in enumerate(lines) if line.startswith("====")]
    first, width = borders[1] + 1, len(lines[borders[0]].split(" ")[0])
    names = (line[: width + 1].strip() for line in lines[first : borders[2]])
    return {name for name in names if name}


def row_of(key: str) -> str | None:
    """The row that a key of a store belongs to; None for a stranger."""
    shape = re.fullmatch(r"tg:\{\d+(?:\.\d+)?\}:(.+)", key)
    if shape is None:
        return None
    found = [row for row in {*rows(), *BESIDE} if re.fullmatch(_pattern(row), shape[1])]
    return found[0] if found else None


def _pattern(row: str) -> str:
    name, *parts = row.split(":")
    return ":".join([re.escape(name), *(_SIGNS[part] for part in parts)])


def field_of(name: str) -> str | None:
    """The claim that a field of a chat comes under; None for a stranger."""
    head, colon, _ = name.partition(":")
    found = head + colon
    return found if found in FIELDS else None


def known_fields() -> set[str]:
    """The fields of a chat that the journal reads or a script touches, by name."""
    read = "\n".join((_LUA.parent / name).read_text() for name in ("journal.py", "chatstate.py"))
    names = set(re.findall(r'fields(?:\.get\(|\[)"([a-z]+:?)"', read))
    names |= set(re.findall(r'"([a-z]+:?)" in fields', read)) | set(
        re.findall(r'(?:startswith\(|fields, )"(\w+:)"', read)
    )
    for script in _LUA.rglob("*.lua"):
        names |= set(_touched(script.read_text()))
    return names


def _touched(script: str) -> Iterator[str]:
    """Fields of the hash ``chat`` in a script whose second line lists its keys."""
    listed = re.search(r"^-- KEYS: (.+?)(?:   ARGV.*)?$", script, re.MULTILINE)
    names = re.split(r"[ ,]+", listed[1].split(",")[0].strip()) if listed else []
    if "chat" not in names:
        return
    of_chat = rf"KEYS\[{names.index('chat') + 1}\], "
    for command in re.finditer(rf"redis\.call\('(H\w+)', {of_chat}(.+)$", script, re.MULTILINE):
        words = re.findall(r"(?:^|[ (])'([a-z]+:?)'", command[2].split(")")[0])
        yield from words[:1] if command[1] in {"HSET", "HSETNX", "HINCRBY"} else words
    for gone in re.findall(r"local gone = \{(.+?)\}", script, re.DOTALL):
        yield from re.findall(r"'([a-z]+:?)'", gone)


async def holdings(client: Redis) -> dict[str, list[bytes]]:
    """All that a live store holds, by row; fields of a chat as ``chat:C/NAME``, strangers as ``?NAME``."""
    found: dict[str, list[bytes]] = defaultdict(list)
    async for raw in client.scan_iter(count=1000):
        key = raw.decode()
        row = row_of(key)
        if row == _CHAT:
            for name, value in (await _hash(client, key)).items():
                field = field_of(name.decode())
                found[f"{row}/{field}" if field else f"?{row}/{name.decode()}"].append(value)
        else:
            found[row or f"?{key}"] += await _values(client, key)
    return dict(found)


async def _hash(client: Redis, key: str) -> dict[bytes, bytes]:
    return dict(await client.hgetall(key))  # type: ignore[arg-type]


async def _values(client: Redis, key: str) -> list[bytes]:
    reply: Any
    match kind := bytes(await client.type(key)):  # type: ignore[arg-type]
        case b"string":
            reply = [await client.get(key)]
        case b"list":
            reply = await client.lrange(key, 0, -1)
        case b"hash":
            reply = [part for pair in (await _hash(client, key)).items() for part in pair]
        case b"zset":
            reply = await client.zrange(key, 0, -1)
        case b"stream":
            reply = [repr(entry).encode() for entry in await client.xrange(key) or []]
        case b"none":
            reply = []  # it went since it was named
        case _:
            raise AssertionError(f"{key} is a {kind!r}: the walk cannot read it")
    return [value for value in reply if isinstance(value, bytes)]

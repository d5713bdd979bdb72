"""Archives that a stranger could send: ours, changed in every way that comes to mind, and what must hold for each.

As a program (``CASES SEED``): judges so many, and prints how many were refused by which reason, how many were taken
because nothing that is signed had changed, and the KiB that the process grew by meanwhile.
"""

import io
import json
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from bot.privacy.archive import Entry, Noted
from bot.privacy.intake import IntakeError, examined
from bot.privacy.seal import Seal
from bot.privacy.zipped import opened
from tests.privacy.samples import BOT_ID, CHAT_ID, SEAL, about, entry, packed, unpacked, unreadable

_TURNS: Final[list[Entry | Noted]] = [
    *(entry(number, f"question {number} <&>", "answer\n" * number) for number in range(1, 9)),
    *(unreadable(9), Noted(0, 0, 3, ("my order is 5",), "an order"), entry(1, conversation=1), entry(2, topic=3)),
]
WHOLE: Final = packed(_TURNS, about(part=2, parts=3))
FILES: Final = unpacked(WHOLE)
_OTHER: Final = Seal.of(bytes(32))
_EDGES: Final = (0, 1, 2, 19, 46, 65_535, 65_536, 2**20, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_ZEROS: Final = zlib.compress(bytes(8 * 2**20), 9)[2:-4]
"""8 MiB of nothing in 8 KiB, without the head and the sum of zlib."""

_VALUES: Final[list[Any]] = [
    None, True, -1, 0, 2**31, 2**63, 2**70, 1e300, "", "x", "\ud83d", "\0", [], [[]], {}, {"a": {}},
    "9" * 5000, [0] * 500,
]  # fmt: skip


def judged(content: bytes, *, is_signed: bool) -> str:
    """The reason of the refusal, or "taken": with ``is_signed`` for what was signed by us as it is, else only where all
    that our signature is about came through unchanged. Any other error passes through."""
    try:
        offer = examined(content, seal=SEAL, bot_id=BOT_ID, chat_id=CHAT_ID)
    except IntakeError as error:
        return error.reason.value
    turns = list(offer.turns())
    assert len(turns) == offer.counts["turns"]
    if not is_signed:
        # With the intake's own eyes: others may stumble over a field that says nothing of the content. The signature's
        # own file is not signed: it may end without a line's end, as long as it says the same.
        read = {name: file.whole() for name, file in opened(content, {}).items()}
        assert read | {"manifest.sig": b""} == FILES | {"manifest.sig": b""}
    return "taken"


def mutated(drawn: random.Random) -> tuple[bytes, bool]:
    """A case: an archive, and whether its content was signed by us."""
    make = drawn.choice(_WAYS)
    content = make(drawn)
    if drawn.random() < 0.1:
        content = _flipped(drawn, content)
    return content, make in _SIGNED


def _flipped(drawn: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 2, 8, 200))):
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
    return bytes(changed)


def _flips(drawn: random.Random) -> bytes:
    return _flipped(drawn, drawn.choice((WHOLE, _zipped(drawn, FILES))))


def _cuts(drawn: random.Random) -> bytes:
    """Something is missing, doubled or put in, at the front, the end or between."""
    first, last = sorted(drawn.randrange(len(WHOLE) + 1) for _ in range(2))
    piece = WHOLE[first:last]
    return drawn.choice(
        (
            WHOLE[:last],
            WHOLE[first:],
            WHOLE[:first] + WHOLE[last:],
            WHOLE[:first] + piece + piece + WHOLE[last:],
            WHOLE[:first] + drawn.randbytes(drawn.randrange(1, 99)) + WHOLE[first:],
            WHOLE + WHOLE,
            WHOLE + drawn.randbytes(drawn.randrange(1, 99)),
            drawn.randbytes(drawn.randrange(200)),
            WHOLE[:last] + WHOLE[-22:],
        )
    )


def _numbers(drawn: random.Random) -> bytes:
    """A field of a head, of the list or of the end holds an edge."""
    changed = bytearray(drawn.choice((WHOLE, _zipped(drawn, FILES))))
    places = [at for sign in (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\7\x08") for at in _found(changed, sign)]
    for _ in range(drawn.choice((1, 1, 2, 4))):
        at = drawn.choice(places) + 4 + drawn.randrange(42)
        form, most = drawn.choice((("<H", 65_535), ("<L", 2**32 - 1)))
        if at + 4 <= len(changed):
            value = drawn.choice((*_EDGES, len(changed), drawn.randrange(2**32), drawn.choice(places)))
            struct.pack_into(form, changed, at, min(value, most))
    return bytes(changed)


def _found(content: bytearray, sign: bytes) -> list[int]:
    places, at = [], content.find(sign)
    while at >= 0:
        places.append(at)
        at = content.find(sign, at + 1)
    return places


def _zipped(drawn: random.Random, files: dict[str, bytes]) -> bytes:
    """By another program, in any order."""
    buffer = io.BytesIO()
    names = drawn.sample(sorted(files), len(files))
    with ZipFile(buffer, "w", drawn.choice((ZIP_DEFLATED, ZIP_STORED))) as archive:
        for name in names:
            archive.writestr(name, files[name])
    return buffer.getvalue()


def _again(drawn: random.Random) -> bytes:
    return _zipped(drawn, FILES)


def _swapped(drawn: random.Random) -> bytes:
    """Two files have each other's content, one has another name, one is missing, or there is one more."""
    files = dict(FILES)
    first, second = drawn.sample(sorted(files), 2)
    match drawn.randrange(4):
        case 0:
            files[first], files[second] = files[second], files[first]
        case 1:
            files[drawn.choice(("../x", "/x", "x/", first.upper(), f"{first} ", "\u202e", "x" * 60_000))] = files.pop(
                first
            )
        case 2:
            del files[first]
        case _:
            files[f"{first}.bak"] = WHOLE
    return _zipped(drawn, files)


def _edited(drawn: random.Random) -> bytes:
    """A file is not what it was."""
    name = drawn.choice(sorted(FILES))
    return _zipped(drawn, FILES | {name: _altered(drawn, FILES[name])})


def _altered(drawn: random.Random, content: bytes) -> bytes:
    at, more = drawn.randrange(len(content)), drawn.randrange(1, 9)
    return drawn.choice(
        (
            _flipped(drawn, content),
            content[:at],
            content[at:],
            content[:at] + content[at + more :],
            content[:at] + drawn.randbytes(more) + content[at:],
            b"[" * drawn.choice((1, 900, 60_000)),
            b"",
        )
    )


def _fields(drawn: random.Random) -> dict[str, bytes]:
    """A field of a JSON file has another value, is gone or is new; its lines stay where they are for conversations."""
    name = drawn.choice(["manifest.json", "account.json", "conversations.json", "conversations.json"])
    if name == "conversations.json":
        lines = FILES[name].splitlines(keepends=True)
        place = drawn.randrange(len(lines))
        match drawn.randrange(4):
            case 0:
                lines[place] = _altered(drawn, lines[place])
            case 1:
                lines.insert(place, drawn.choice(lines))
            case 2:
                del lines[place]
            case _:
                lines[place] = _line(drawn, lines[place])
        return FILES | {name: b"".join(lines)}
    return FILES | {name: json.dumps(_replaced(drawn, json.loads(FILES[name]))).encode()}


def _line(drawn: random.Random, line: bytes) -> bytes:
    try:
        told = json.loads(line.rstrip(b",\n"))
    except ValueError:
        return line
    return json.dumps(_replaced(drawn, told), ensure_ascii=drawn.random() < 0.5).encode("utf-8", "replace") + b",\n"


def _replaced(drawn: random.Random, told: Any) -> Any:
    if not isinstance(told, dict):
        return drawn.choice(_VALUES)
    name = drawn.choice([*told, "more"])
    if drawn.random() < 0.2:
        return {key: value for key, value in told.items() if key != name}
    value = told.get(name)
    deeper = isinstance(value, dict) and value and drawn.random() < 0.5
    return told | {name: _replaced(drawn, value) if deeper else drawn.choice(_VALUES)}


def _rewritten(drawn: random.Random) -> bytes:
    """With a manifest that fits, which only another installation signed, or nobody."""
    files = _fitting(_fields(drawn))
    signature = drawn.choice((_OTHER.signed(files["manifest.json"]), FILES["manifest.sig"], b"{}"))
    if files["manifest.json"] == FILES["manifest.json"]:
        return b""
    return _zipped(drawn, files | {"manifest.sig": signature})


def _ours_but_odd(drawn: random.Random) -> bytes:
    """Signed by us, and not what we write."""
    files = _fields(drawn)
    if files["manifest.json"] == FILES["manifest.json"]:
        files = _fitting(files)
    return _zipped(drawn, files | {"manifest.sig": SEAL.signed(files["manifest.json"])})


def _fitting(files: dict[str, bytes]) -> dict[str, bytes]:
    manifest = json.loads(files["manifest.json"])
    if not isinstance(manifest, dict):
        return files
    manifest["files"] = [
        {"name": name, "bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in files.items()
        if not name.startswith("manifest")
    ]
    return files | {"manifest.json": json.dumps(manifest).encode()}


def _bombs(drawn: random.Random) -> bytes:
    """A file that unpacks to far more than it claims, or claims it; alone, many times over, or with a zip in it."""
    name = drawn.choice(sorted(FILES))
    changed = bytearray(_zipped_raw(name, _ZEROS, drawn.choice((8 * 2**20, 1, len(FILES[name]), 1_600_000, 2**20))))
    if drawn.random() < 0.3:
        inner = _zipped_raw(name, _ZEROS, 8 * 2**20)
        return _zipped(drawn, FILES | {name: inner})
    if drawn.random() < 0.3:
        [end] = _found(changed, b"PK\5\6")
        struct.pack_into("<2H", changed, end + 8, *(drawn.choice((0, 1, 6, 7, 16, 17, 65_535)) for _ in range(2)))
    return bytes(changed)


def _zipped_raw(name: str, deflated: bytes, claimed: int) -> bytes:
    """Our files, but that one holds these bytes and claims so many."""
    content, listed = bytearray(), bytearray()
    for one, told in FILES.items():
        data = deflated if one == name else zlib.compress(told)[2:-4]
        size = claimed if one == name else len(told)
        sums = (zlib.crc32(bytes(8 * 2**20) if one == name else told), len(data), size)
        head = struct.pack("<5H3L2H", 20, 0, 8, 0, 33, *sums, len(one), 0)
        start = len(content)
        listed += b"PK\1\2" + struct.pack("<H", 20) + head + struct.pack("<3H2L", 0, 0, 0, 0, start) + one.encode()
        content += b"PK\3\4" + head + one.encode() + data
    count, start = len(FILES), len(content)
    return bytes(content + listed + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, len(listed), start, 0))


_SIGNED: Final = frozenset({_ours_but_odd})
_WAYS: Final[list[Callable[[random.Random], bytes]]] = [
    *(_flips, _cuts, _numbers, _again, _swapped, _edited, _rewritten, _ours_but_odd),
    *(_flips, _numbers, _numbers, _rewritten, _ours_but_odd),
    _bombs,
]


def campaign(cases: int, seed: int) -> Counter[str]:
    """So many cases; the one that is wrong is named by its own seed, ``mutated(Random(…))``."""
    found: Counter[str] = Counter()
    for number in range(cases):
        case = f"{seed}.{number}"
        content, is_signed = mutated(random.Random(case))
        try:
            found[judged(content, is_signed=is_signed)] += 1
        except Exception as error:
            raise AssertionError(f"case {case} of {len(content)} bytes: {error!r}") from error
    return found


def _highest_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    judged(WHOLE, is_signed=False)
    before = _highest_kib()
    outcome = campaign(*map(int, sys.argv[1:]))
    print(json.dumps({**outcome, "grown_kib": _highest_kib() - before}))

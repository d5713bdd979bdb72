"""The zip around an archive: written without seeking while it is sent, and read back from whoever sends one.

The standard library reads zips too trustingly for a stranger's file (it lists any number of entries before a limit can
be checked) and writes them too well: text that repeats itself shrinks a thousandfold, and could not be told from a bomb
when it comes back. Here whatever would shrink more than ``_THIN`` to one is stored as it is.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MOST_RATIO: Final = 200
"""An entry that claims to shrink more is refused; below ``_HARMLESS`` bytes it may."""

MOST_ENTRIES: Final = 16
LEVEL: Final = 3

_THIN: Final = 64
_HARMLESS: Final = 2**20
_FIRST_BYTES: Final = 128 * 1024  # the compressor holds so much back that its ratio says nothing yet
_PIECE_BYTES: Final = 64 * 1024
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_DESCRIPTOR: Final = struct.Struct("<4s3L")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_LOCAL_SIGN: Final = b"PK\3\4"
_DESCRIPTOR_SIGN: Final = b"PK\7\x08"
_CENTRAL_SIGN: Final = b"PK\1\2"
_END_SIGN: Final = b"PK\5\6"
_STORED: Final = 0
_DEFLATED: Final = 8
_ENCRYPTED: Final = 0x2041  # by password, strongly, or with hidden heads
_BEHIND: Final = 0x0008  # sizes stand behind the content, since nothing can be sought back to
_NEEDED: Final = 20
_MADE_BY: Final = 3 << 8 | _NEEDED  # Unix wherever it runs, for the file mode
_MODE: Final = 0o100644 << 16
_ZIP64: Final = 0x0001
_MOST: Final = 2**32 - 1


class Zipping:
    """A zip that grows: ``begin`` a file, ``write`` into it, ``finish`` all; ``taken`` gives what is ready to go.

    ``time`` (a year from 1980 to 2107 to seconds) is that of every file. Raises ValueError above 4 GiB.
    """

    def __init__(self, time: tuple[int, int, int, int, int, int]) -> None:
        year, month, day, hour, minute, second = time
        self._time = (hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day)
        self._waiting = bytearray()
        self._given = 0
        self._listed: list[bytes] = []
        self._file: _File | None = None

    def begin(self, name: str) -> None:
        """The next file; the one before ends here."""
        self._end_file()
        self._file = _File(name.encode(), self._at)
        self._waiting += _LOCAL.pack(
            _LOCAL_SIGN, _NEEDED, _BEHIND, _DEFLATED, *self._time, 0, 0, 0, len(self._file.name), 0
        )
        self._waiting += self._file.name

    def write(self, content: bytes) -> None:
        """The next bytes of the file that was begun, 32 KiB or more at a time if there are so many."""
        assert self._file is not None
        self._waiting += self._file.packed(content)

    def finish(self) -> None:
        """Ends the last file, and lists them all."""
        self._end_file()
        start = self._at
        for entry in self._listed:
            self._waiting += entry
        count, size = len(self._listed), self._at - start
        self._waiting += _END.pack(_END_SIGN, 0, 0, count, count, size, start, 0)

    def taken(self, size: int) -> Iterator[bytes]:
        """What is ready, in pieces of exactly ``size`` bytes; what is less waits."""
        while len(self._waiting) >= size:
            yield self._cut(size)

    def rest(self, size: int) -> Iterator[bytes]:
        """Everything, in pieces of at most ``size`` bytes."""
        while self._waiting:
            yield self._cut(size)

    @property
    def _at(self) -> int:
        return self._given + len(self._waiting)

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._given += len(piece)
        return piece

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        self._waiting += file.ended()
        sums = (file.crc, file.packed_bytes, file.size)
        if max(file.packed_bytes, file.size, file.start) > _MOST:
            raise ValueError("an archive's file is larger than a plain zip can tell")
        self._waiting += _DESCRIPTOR.pack(_DESCRIPTOR_SIGN, *sums)
        head = (_CENTRAL_SIGN, _MADE_BY, _NEEDED, _BEHIND, _DEFLATED, *self._time, *sums)
        self._listed.append(_CENTRAL.pack(*head, len(file.name), 0, 0, 0, 0, _MODE, file.start) + file.name)


class _File:
    """A file on its way into the zip."""

    def __init__(self, name: bytes, start: int) -> None:
        self.name = name
        self.start = start
        self.size = self.packed_bytes = self.crc = 0
        self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)

    def packed(self, content: bytes) -> bytes:
        self.crc = zlib.crc32(content, self.crc)
        self.size += len(content)
        if not self._is_thin():
            return self._counted(self._deflate.compress(content))
        # It may only hold back: what it has comes out, and nothing later refers to what was before.
        flushed = self._counted(self._deflate.flush(zlib.Z_FULL_FLUSH))
        if not self._is_thin():
            return flushed + self._counted(self._deflate.compress(content))
        stored = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
        return flushed + self._counted(stored.compress(content) + stored.flush(zlib.Z_SYNC_FLUSH))

    def ended(self) -> bytes:
        return self._counted(self._deflate.flush())

    def _is_thin(self) -> bool:
        return self.size > _THIN * self.packed_bytes + _FIRST_BYTES

    def _counted(self, packed: bytes) -> bytes:
        self.packed_bytes += len(packed)
        return packed


class Fault(Enum):
    """What is wrong with a zip: cut off or none at all; made to harm; or altered on its way."""

    NOT_WHOLE = auto()
    UNSAFE = auto()
    DAMAGED = auto()


class ZipFileError(Exception):
    """A file that is not opened. ``fault`` says why, ``what`` in words for a log."""

    def __init__(self, fault: Fault, what: str) -> None:
        super().__init__(what)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Packed:
    """A file in a zip that is safe to open: the size that it claims is the most that is ever read of it."""

    content: memoryview
    method: int
    crc: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        """What it holds, in pieces of at most 64 KiB. Raises ZipFileError where it is not what it claims."""
        crc = size = 0
        for piece in self._stored() if self.method == _STORED else self._inflated():
            size += len(piece)
            if size > self.size:
                raise ZipFileError(Fault.UNSAFE, "a file is longer than it claims")
            crc = zlib.crc32(piece, crc)
            yield piece
        if size != self.size:
            raise ZipFileError(Fault.UNSAFE, "a file is shorter than it claims")
        if crc != self.crc:
            raise ZipFileError(Fault.DAMAGED, "a file was altered on its way")

    def whole(self) -> bytes:
        """All of it: for small files."""
        return b"".join(self.pieces())

    def _stored(self) -> Iterator[bytes]:
        for at in range(0, len(self.content), _PIECE_BYTES):
            yield bytes(self.content[at : at + _PIECE_BYTES])

    def _inflated(self) -> Iterator[bytes]:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for at in range(0, len(self.content), _PIECE_BYTES):
                waiting: bytes | memoryview = self.content[at : at + _PIECE_BYTES]
                while waiting and not inflate.eof:
                    yield inflate.decompress(waiting, _PIECE_BYTES)
                    waiting = inflate.unconsumed_tail
                if inflate.eof and at + _PIECE_BYTES < len(self.content):
                    raise ZipFileError(Fault.DAMAGED, "a file ends before it should")
            while not inflate.eof and (piece := inflate.decompress(b"", _PIECE_BYTES)):
                yield piece
        except zlib.error as error:
            raise ZipFileError(Fault.DAMAGED, "a file does not open") from error
        if not inflate.eof or inflate.unused_data:
            raise ZipFileError(Fault.DAMAGED, "a file does not end where it should")


def opened(content: bytes, allowed: Mapping[str, int]) -> dict[str, Packed]:
    """The files of a zip, none decompressed yet; ``allowed``: the most bytes of each by name. Others are not to be
    opened. Raises ZipFileError; what it costs does not grow with what the zip claims.
    """
    end = len(content) - _END.size
    if end < _LOCAL.size or not content.startswith(_LOCAL_SIGN) or content[end : end + 4] != _END_SIGN:
        raise ZipFileError(Fault.NOT_WHOLE, "no zip, or the end is missing")
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(content, end)
    if disk or first_disk or here != count or count > MOST_ENTRIES or _MOST in {size, start}:
        raise ZipFileError(Fault.UNSAFE, "too many files, or in several volumes")
    if start + size != end:
        raise ZipFileError(Fault.NOT_WHOLE, "the list of files is not where it should be")
    entries = _listed(content, start, end, count)
    _refuse_unsafe(entries, allowed)
    found: dict[str, Packed] = {}
    free = 0
    for entry in sorted(entries, key=lambda one: one.start):
        if entry.start < free:
            raise ZipFileError(Fault.UNSAFE, "files overlap")
        data, free = _place(content, entry, start)
        found[entry.name] = Packed(memoryview(content)[data:free], entry.method, entry.crc, entry.size)
    return found


@dataclass(frozen=True, slots=True)
class _Listed:
    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size: int
    start: int
    is_zip64: bool


def _listed(content: bytes, at: int, end: int, count: int) -> list[_Listed]:
    """What the list at the end says of each file."""
    found = []
    for _ in range(count):
        if at + _CENTRAL.size > end or content[at : at + 4] != _CENTRAL_SIGN:
            raise ZipFileError(Fault.UNSAFE, "the list of files is not one")
        fields = _CENTRAL.unpack_from(content, at)
        names, extra, comment = fields[10:13]
        name_at = at + _CENTRAL.size
        at = name_at + names + extra + comment
        if at > end:
            raise ZipFileError(Fault.UNSAFE, "the list of files is longer than it claims")
        name = content[name_at : name_at + names].decode("utf-8", "replace")
        is_zip64 = _has_zip64(content[name_at + names : name_at + names + extra])
        crc, packed_bytes, size = fields[7:10]
        found.append(_Listed(name, fields[3], fields[4], crc, packed_bytes, size, fields[16], is_zip64))
    if at != end:
        raise ZipFileError(Fault.UNSAFE, "the list of files is shorter than it claims")
    return found


def _has_zip64(extra: bytes) -> bool:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            return True
        at += 4 + size
    return at != len(extra)  # what cannot be read could be anything


def _refuse_unsafe(entries: list[_Listed], allowed: Mapping[str, int]) -> None:
    if len({entry.name for entry in entries}) != len(entries):
        raise ZipFileError(Fault.UNSAFE, "two files of one name")
    for entry in entries:
        if entry.is_zip64 or entry.flags & _ENCRYPTED or entry.method not in {_STORED, _DEFLATED}:
            raise ZipFileError(Fault.UNSAFE, "encrypted, or packed in a way that no archive is")
        if entry.method == _STORED and entry.size != entry.packed_bytes:
            raise ZipFileError(Fault.UNSAFE, "a stored file of two sizes")
        if entry.size > allowed.get(entry.name, _MOST):
            raise ZipFileError(Fault.UNSAFE, "a file is too large")
        if entry.size > max(_HARMLESS, MOST_RATIO * entry.packed_bytes):
            raise ZipFileError(Fault.UNSAFE, "a file shrank too well")


def _place(content: bytes, entry: _Listed, end: int) -> tuple[int, int]:
    """Where a file's content begins and ends, as its own head and the list agree."""
    if entry.start + _LOCAL.size > end or content[entry.start : entry.start + 4] != _LOCAL_SIGN:
        raise ZipFileError(Fault.UNSAFE, "a file is not where the list says")
    head = _LOCAL.unpack_from(content, entry.start)
    name_at = entry.start + _LOCAL.size
    data = name_at + head[9] + head[10]
    sums = (entry.crc, entry.packed_bytes, entry.size)
    claimed = [(0, mine) if entry.flags & _BEHIND else (mine,) for mine in sums]
    is_same = (
        (head[2], head[3]) == (entry.flags, entry.method)
        and content[name_at : name_at + head[9]] == entry.name.encode()
        and all(told in mine for told, mine in zip(head[6:9], claimed, strict=True))
    )
    if not is_same or data + entry.packed_bytes > end:
        raise ZipFileError(Fault.UNSAFE, "a file's own head says something else than the list")
    return data, data + entry.packed_bytes

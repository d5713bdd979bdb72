"""The form of a backup's file: lines and lengths, which any program can read, closed by a code over all of it.

A DUMP or RDB of one brand is refused by another; what is written here is commands' own values. The first line is a JSON
header; then come parts, each a line of JSON with the lengths of its values (-1: none) and the values themselves; then
the counts; at last an HMAC-SHA256 over every byte before, under a key of the service. So a file that was cut or altered
is known for one before anything of it is used.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson

from storage.errors import StorageError
from storage.masterkey import sync_folder

FORMAT: Final = "telegram-support-backup"
VERSION: Final = 1

_MOST_LINE_BYTES: Final = 64 * 1024 * 1024
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_TAIL_BYTES: Final = 256
_CHUNK_BYTES: Final = 1024 * 1024
_PART_SECONDS: Final = 3_600
_WRITTEN_BYTES: Final = 1024 * 1024

Value = bytes | None


class BackupError(StorageError):
    """A backup that cannot be written, read or put back. The sentence names the cure."""


@dataclass(frozen=True, slots=True)
class Header:
    """``what``: store or keys. ``key``: the id of the key that the code at the end is made with, in hex; ``keyring``,
    ``master`` and ``past``: which keyring the content was sealed with, and its master keys' fingerprints. ``made_s``:
    when the copy was begun (UTC). ``record``: the record of a copied keyring, and ``opener``, in hex: the key of the
    code, wrapped by its master key, so that the copy is checked before it is read."""

    what: str
    bot: int
    schema: int
    keyring: str
    master: str
    key: str
    made_s: int
    past: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    opener: str = ""

    def line(self) -> bytes:
        return orjson.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}) + b"\n"


class Part(NamedTuple):
    """What belongs together. ``head`` says what it is; its word ``n`` is taken."""

    head: dict[str, Any]
    values: Sequence[Value]


class Writer:
    """Writes a backup under another name; it gets its own when it is whole and on disk. Raises StorageError."""

    def __init__(self, file: IO[bytes], secret: bytes) -> None:
        self._file = file
        self._code = hmac.new(secret, digestmod=hashlib.sha256)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.counts: dict[str, int] = {}

    def count(self, **more: int) -> None:
        """What the file says of itself at its end."""
        for name, number in more.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def put(self, part: Part) -> None:
        lengths = [-1 if value is None else len(value) for value in part.values]
        self._write(orjson.dumps({**part.head, "n": lengths}) + b"\n")
        for value in part.values:
            self._write(value or b"")

    def begin(self, header: Header) -> None:
        self._write(header.line())

    def end(self) -> None:
        self._write(orjson.dumps({"end": self.counts}) + b"\n")
        self._flush()
        self._file.write(b'{"hmac":"%b"}\n' % self._code.hexdigest().encode())

    def _write(self, content: bytes) -> None:
        self._waiting.append(content)
        self._waiting_bytes += len(content)
        if self._waiting_bytes > _WRITTEN_BYTES:
            self._flush()

    def _flush(self) -> None:
        content = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._code.update(content)
        self._file.write(content)


@contextmanager
def written(path: Path, secret: bytes) -> Iterator[Writer]:
    """A new file (0600), there whole when the block ends and not at all when it fails. Raises BackupError."""
    if path.exists():
        raise BackupError(f"{path} is there already: move it away, or name another one.")
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            writer = Writer(file, secret)
            yield writer
            writer.end()
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


class Reader:
    """A backup's file, opened. Its header is believed only as far as it takes to find the key; all else after
    ``check``. Raises BackupError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}.") from error
        try:
            self.header = self._header()
        except BaseException:
            self._file.close()
            raise
        self._first = self._file.tell()
        self.size = os.fstat(self._file.fileno()).st_size
        self.code = ""
        """Tells this backup from others; known after ``check``."""

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, secret: bytes) -> None:
        """Whether every byte is as it was written, with that key."""
        end, code = self._tail()
        found = hmac.new(secret, digestmod=hashlib.sha256)
        self._file.seek(0)
        left = end
        while left:
            chunk = self._file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise self._cut()
            found.update(chunk)
            left -= len(chunk)
        if not hmac.compare_digest(found.hexdigest(), code):
            raise BackupError(f"{self.path} was altered or is damaged: nothing of it is used. Take another copy.")
        self.code = code

    def parts(self) -> Iterator[Part]:
        """All that the file holds, in the order it was written."""
        self._file.seek(self._first)
        while True:
            head = self._line()
            if "end" in head:
                return
            lengths = head.pop("n")
            blob = self._file.read(sum(length for length in lengths if length > 0))
            values: list[Value] = []
            at = 0
            for length in lengths:
                values.append(None if length < 0 else blob[at : at + length])
                at += max(length, 0)
            if at != len(blob):
                raise self._cut()
            yield Part(head, values)

    def read_bytes(self) -> int:
        """How far ``parts`` is."""
        return self._file.tell()

    def _header(self) -> Header:
        try:
            fields = self._line()
        except BackupError as error:
            raise self._foreign() from error
        if fields.pop("format", None) != FORMAT:
            raise self._foreign()
        if fields.pop("version", None) != VERSION:
            raise BackupError(f"{self.path} was written by a newer version of the service: install that one again.")
        try:
            fields["past"] = tuple(fields["past"])
            return Header(**fields)
        except (TypeError, KeyError) as error:
            raise BackupError(f"{self.path} was altered or is damaged: take another copy.") from error

    def _line(self) -> dict[str, Any]:
        line = self._file.readline(_MOST_LINE_BYTES)
        try:
            found: Any = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise self._cut() from error
        if not line.endswith(b"\n") or not isinstance(found, dict):
            raise self._cut()
        return found

    def _tail(self) -> tuple[int, str]:
        """Where the last line begins, and the code in it."""
        self._file.seek(max(0, self.size - _TAIL_BYTES))
        tail = self._file.read()
        begin = tail[:-1].rfind(b"\n") + 1
        try:
            code = orjson.loads(tail[begin:])["hmac"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise self._cut() from error
        if not isinstance(code, str) or not code.isascii() or tail[-1:] != b"\n":
            raise self._cut()
        return self.size - len(tail) + begin, code

    def _cut(self) -> BackupError:
        return BackupError(f"{self.path} is cut off or damaged: nothing of it is used. Take another copy.")

    def _foreign(self) -> BackupError:
        return BackupError(f"{self.path} is no backup of this service.")


def file_named(folder: Path, what: str, made_s: int) -> Path:
    """The file of a copy of the store or the keys that was made then."""
    return folder / f"{what}-{datetime.fromtimestamp(made_s, UTC):{_STAMP}}.backup"


def copies_of_keys(folder: Path) -> Iterator[tuple[Path, int]]:
    """The copies of keyrings in a folder, and when they were made (s), as their names tell: a file that was copied
    looks younger."""
    for path in sorted(folder.glob("keys-*.backup")):
        try:
            made = datetime.strptime(path.name, f"keys-{_STAMP}.backup").replace(tzinfo=UTC)
        except ValueError:
            continue
        yield path, int(made.timestamp())


def clear_parts(folder: Path, now_s: float) -> None:
    """Removes what backups left that were killed; one that is under way writes all the time."""
    for path in folder.glob(".*.backup.*.part"):
        with suppress(OSError):
            if now_s - path.stat().st_mtime > _PART_SECONDS:
                path.unlink()


def _unwritten(path: Path, error: OSError) -> BackupError:
    return BackupError(f"{path} cannot be written: {error.strerror or type(error).__name__}.")

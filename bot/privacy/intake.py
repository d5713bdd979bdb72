"""Reads back an archive that somebody sent: a stranger's file until its signature says that we made it.

Nothing is decompressed before its limits are checked, and of the conversations nothing is parsed before signature and
hashes are right. From there on a fault is a fault of ours and not an attack, and still refused. The conversations are
read a line, which is a message, at a time: beside the upload no more than one turn is held.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from bot.errors import BotError
from bot.privacy.archive import ACCOUNT, LISTING, MANIFEST, PAGE, SCHEMA, SIGNATURE
from bot.privacy.listing import (
    FORMAT,
    ORIGIN,
    VERSION,
    ListingError,
    Returned,
    Shape,
    check_shape,
    returned,
    seconds_of,
    unpacked_json,
)
from bot.privacy.seal import Seal, read_signature
from bot.privacy.zipped import Fault, Packed, ZipFileError, opened

__all__ = ["MOST_BYTES", "IntakeError", "Offer", "Reason", "Returned", "examined"]

MOST_BYTES: Final = 20_000_000
"""What a bot can fetch (Bot API, getFile); our own parts stay below."""

_LIMITS: Final = {
    LISTING: 96 * 2**20,
    PAGE: 160 * 2**20,
    ACCOUNT: 4 * 2**20,
    SCHEMA: 2**18,
    MANIFEST: 2**16,
    SIGNATURE: 2**12,
}
_HASHED: Final = (LISTING, PAGE, ACCOUNT, SCHEMA)
_NO_TIME: Final = "1970-01-01T00:00:00Z"
_HEAD: Final[Shape] = {"format": (str,), "version": (int,), **ORIGIN}
_MANIFEST: Final[Shape] = {**_HEAD, "installation": (str,), "files": (list,), "counts": (dict,)}
_FILE: Final[Shape] = {"name": (str,), "bytes": (int,), "sha256": (str,)}
_ACCOUNT: Final[Shape] = {**_HEAD, "settings": (dict,), "consents": (list,), "receipts": (list,), "files": (list,)}


class Reason(StrEnum):
    """Why an archive is not taken, in the order in which it is looked for: cut off or no zip at all; made to harm, or
    with files that no archive has; not readable; made by a later version; by another installation; altered after it was
    signed; of another chat or bot."""

    NOT_WHOLE = "not_whole"
    UNSAFE = "unsafe"
    DAMAGED = "damaged"
    NEWER = "newer"
    FOREIGN = "foreign"
    FORGED = "forged"
    NOT_YOURS = "not_yours"


class IntakeError(BotError):
    """An archive that is not taken. The text is for a log, and holds nothing of the archive."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Offer:
    """An archive that is ours, whole and this chat's. ``counts`` of conversations, turns and messages; times in seconds
    UTC, ``earliest_s`` and ``latest_s`` those of messages, 0 where none has any."""

    made_s: int
    part: int
    parts: int
    counts: Mapping[str, int]
    earliest_s: int
    latest_s: int
    _listing: Packed
    _origin: Mapping[str, Any]

    def turns(self) -> Iterator[Returned]:
        """All turns in the archive's order, read anew each time."""
        return returned(self._listing.pieces(), self._origin)


def examined(content: bytes, *, seal: Seal, bot_id: int, chat_id: int) -> Offer:
    """What an archive offers. Raises IntakeError. Takes seconds for the largest: not for an event loop."""
    try:
        files = _files(content)
        manifest = _manifest(files, seal)
        if (manifest["bot_id"], manifest["chat_id"]) != (bot_id, chat_id):
            raise IntakeError(Reason.NOT_YOURS, "of another chat or bot")
        _check_hashes(files, manifest)
        origin = {name: manifest[name] for name in ORIGIN}
        _check_account(files[ACCOUNT], origin)
        return _offer(files[LISTING], origin)
    except ZipFileError as error:
        raise IntakeError(_REASONS[error.fault], str(error)) from error
    except ListingError as error:
        raise IntakeError(Reason.DAMAGED, str(error)) from error


_REASONS: Final = {
    Fault.NOT_WHOLE: Reason.NOT_WHOLE,
    Fault.UNSAFE: Reason.UNSAFE,
    Fault.DAMAGED: Reason.DAMAGED,
}


# ---- the outside: whatever a stranger may have made
def _files(content: bytes) -> dict[str, Packed]:
    """The six files of an archive. A later version may have others, and is told by its manifest; nothing else may."""
    if len(content) > MOST_BYTES:
        raise IntakeError(Reason.UNSAFE, "larger than any archive")
    files = opened(content, _LIMITS)
    has_others = not files.keys() <= _LIMITS.keys()
    try:
        version = _version(files)
    except (IntakeError, ListingError, ZipFileError):
        if has_others:
            raise IntakeError(Reason.UNSAFE, "a file that no archive holds") from None
        raise
    if version > VERSION:
        raise IntakeError(Reason.NEWER, "made by a later version")
    if has_others:
        raise IntakeError(Reason.UNSAFE, "a file that no archive holds")
    if version < VERSION or files.keys() != _LIMITS.keys():
        raise IntakeError(Reason.DAMAGED, "a file is missing, or the version is none")
    return files


def _version(files: Mapping[str, Packed]) -> int:
    if MANIFEST not in files:
        raise IntakeError(Reason.DAMAGED, "there is no manifest")
    manifest = unpacked_json(files[MANIFEST].whole())
    if not isinstance(manifest, dict) or manifest.get("format") != f"{FORMAT}-manifest":
        raise IntakeError(Reason.DAMAGED, "the manifest is none")
    version = manifest.get("version")
    if not isinstance(version, int):
        raise IntakeError(Reason.DAMAGED, "the manifest has no version")
    return version


def _manifest(files: Mapping[str, Packed], seal: Seal) -> dict[str, Any]:
    """The manifest, once it is known to be ours."""
    manifest = files[MANIFEST].whole()
    signature = read_signature(files[SIGNATURE].whole())
    if signature is None:
        raise IntakeError(Reason.DAMAGED, "the signature is none")
    if signature.public_key != seal.public_key:
        raise IntakeError(Reason.FOREIGN, "signed by another installation")
    if not signature.fits(manifest):
        raise IntakeError(Reason.FORGED, "the manifest was altered")
    told: dict[str, Any] = unpacked_json(manifest)
    check_shape(told, _MANIFEST)
    for entry in told["files"]:
        check_shape(entry, _FILE)
    return told


def _check_hashes(files: Mapping[str, Packed], manifest: Mapping[str, Any]) -> None:
    listed = {entry["name"]: entry for entry in manifest["files"]}
    if listed.keys() != set(_HASHED):
        raise IntakeError(Reason.DAMAGED, "the manifest is of other files")
    for name, entry in listed.items():
        digest = sha256()
        if files[name].size != entry["bytes"]:
            raise IntakeError(Reason.FORGED, "a file has another size than was signed")
        for piece in files[name].pieces():
            digest.update(piece)
        if digest.hexdigest() != entry["sha256"]:
            raise IntakeError(Reason.FORGED, "a file was altered")


# ---- the inside: what we signed
def _check_account(file: Packed, origin: Mapping[str, Any]) -> None:
    account = unpacked_json(file.whole())
    check_shape(account, _ACCOUNT)
    if {name: account[name] for name in ORIGIN} != origin:
        raise ListingError("the account is of another archive")


def _offer(listing: Packed, origin: Mapping[str, Any]) -> Offer:
    """Reads all of it once, so that nothing can be wrong with it any more when it is taken."""
    conversations: set[tuple[int, int]] = set()
    turns = messages = earliest_s = latest_s = 0
    for turn in returned(listing.pieces(), origin):
        conversations.add((turn.topic, turn.conversation))
        turns += 1
        for message in turn.messages():
            messages += 1
            if message.time_s:
                earliest_s = min(earliest_s or message.time_s, message.time_s)
                latest_s = max(latest_s, message.time_s)
    part, parts = origin["part"], origin["parts"]
    made_s = 0 if origin["made"] == _NO_TIME else seconds_of(origin["made"])
    counts = {"conversations": len(conversations), "turns": turns, "messages": messages}
    return Offer(made_s, part, parts, counts, earliest_s, latest_s, listing, origin)

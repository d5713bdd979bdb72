"""What a keyring tells of itself, the rows it is copied by, and how a master key file opens it.

Nothing here can be opened without the master key: fingerprints and marks are derived one way, keys are wrapped.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from storage.datakey import KEY_ID_BYTES, day_bytes
from storage.errors import KeyringError, MasterKeyWrongError, SealBrokenError
from storage.masterkey import MARK_BYTES, MasterKey, NamesKey

WRAPPED_BYTES = 60
_PAST = 50
"""How many master keys back a store's backup may lie."""


@dataclass(frozen=True, slots=True)
class KeyringRecord:
    """``master``: fingerprint of the key that wraps. ``epoch``: 1, and one more with each rotation. ``names``: the
    names key, wrapped; empty in the first epoch, whose master key it is derived from. ``former``: fingerprint of the
    master key before, while rows may still be wrapped by it. ``past``: fingerprints of those before, oldest first.
    """

    id: str
    master: str
    epoch: int = 1
    names: bytes = b""
    former: str = ""
    past: tuple[str, ...] = ()

    def switched(self, keys: "Opened", master: str) -> "KeyringRecord":
        """The record of the next epoch, whose master key that one is. Raises MasterKeyWrongError."""
        names = keys.names.wrapped(keys.master.using(master), _bound(self.id))
        past = (*self.past, self.master)[-_PAST:]
        return KeyringRecord(self.id, master, self.epoch + 1, names, self.master, past)

    def settled(self) -> "KeyringRecord":
        """The same with all rows wrapped by one master key."""
        return replace(self, former="")


class KeyRow(NamedTuple):
    """One data key of a keyring as it is stored; owner, name and group are marks."""

    id: bytes
    owner: bytes
    name: bytes
    group: bytes
    day: int
    wrapped: bytes


class Opened(NamedTuple):
    """How a keyring is opened in one of its epochs; new keys are wrapped by ``master``."""

    epoch: int
    master: MasterKey
    names: NamesKey


class Rewrapped(NamedTuple):
    """One step of a rotation: keys looked at, and those among them that open with no master key at hand."""

    seen: int
    broken: int


def opened(master: MasterKey, record: KeyringRecord) -> Opened:
    """Raises MasterKeyWrongError where the master key file lacks a secret that is needed."""
    held = master.fingerprints()
    if record.master not in held:
        raise MasterKeyWrongError(
            "The keyring belongs to another master key: let MASTER_KEY_FILE name that one; "
            "after `keys rotate` copy it from the machine where that was typed."
        )
    if record.former and record.former not in held:
        raise MasterKeyWrongError(
            "A rotation of the master key is under way and MASTER_KEY_FILE lacks one of its two keys: "
            "copy the file from the machine where `keys rotate` was typed."
        )
    first = master.using(record.master)
    names = NamesKey(first.unwrap(record.names, _bound(record.id))) if record.names else first.first_names()
    return Opened(record.epoch, first, names)


def wrapped_alike(master: MasterKey, record: KeyringRecord, row: KeyRow) -> KeyRow:
    """The row as ``master``, the key of that record, wraps it: while a rotation is under way it may be another one."""
    if not record.former:
        return row
    with contextlib.suppress(SealBrokenError):  # broken it was before: copied as it is
        found = master.rewrapped(row.wrapped, row.id + row.name)
        return row if found is None else row._replace(wrapped=found)
    return row


def checked_rows(rows: Sequence[KeyRow]) -> Sequence[KeyRow]:
    """The same rows. Raises KeyringError for any that no keyring wrote."""
    for row in rows:
        marks = (row.owner, row.name, row.group)
        whole = len(row.id) == KEY_ID_BYTES and len(row.wrapped) == WRAPPED_BYTES
        if not whole or any(len(mark) != MARK_BYTES for mark in marks) or not any(row.owner) or not any(row.group):
            raise KeyringError("The copy of the keyring is damaged: take another one.")
        if int.from_bytes(day_bytes(row.day), "big") != row.day:
            raise KeyringError("The copy of the keyring is damaged: take another one.")
    return rows


def _bound(keyring_id: str) -> bytes:
    return b"names of " + keyring_id.encode()

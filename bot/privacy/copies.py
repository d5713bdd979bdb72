"""Whether a backup that was just written holds what it should: its sealed values are opened, each at its place.

A value whose key is gone was forgotten meanwhile, and that is as it should be. One that does not open although its key
is there was damaged or moved in the store; a copy cannot mend that, and whoever runs the service is told.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from bot.conversation.notebook import notes_bound
from bot.conversation.post import mail_bound
from bot.conversation.window import turn_bound
from bot.privacy.wishes import wishes_bound
from storage.backup import named, paired
from storage.backup_file import Part, Reader
from storage.history import REMOVED
from storage.inbox import Mail
from storage.vault import Vault

MOST_OPENED: Final = 100_000
_AT_ONCE: Final = 200

Sealed = tuple[bytes, str]
"""A sealed value and its place."""


@dataclass(slots=True)
class Verified:
    """``opened`` of ``seen`` sealed values were looked at, every ``step``-th one; ``gone``: their key is not there any
    more; ``broken``: it is, and they do not open."""

    step: int
    seen: int = 0
    opened: int = 0
    gone: int = 0
    broken: int = 0


async def verified(reader: Reader, vault: Vault, expected: int) -> Verified:
    """Opens what a copy of the store holds: all, or of more than ``MOST_OPENED`` (``expected``) a part."""
    found = Verified(step=expected // MOST_OPENED + 1)
    sealed = _sampled(found, (value for part in reader.parts() for value in sealed_of(part)))
    while batch := list(islice(sealed, _AT_ONCE)):
        for (value, _), content in zip(batch, await vault.open_all(batch), strict=True):
            if content is not None:
                found.opened += 1
            elif await vault.key_of(value) is None:
                found.gone += 1
            else:
                found.broken += 1
    return found


def _sampled(found: Verified, values: Iterator[Sealed]) -> Iterator[Sealed]:
    for number, value in enumerate(values):
        found.seen += 1
        if number % found.step == 0:
            yield value


def sealed_of(part: Part) -> Iterator[Sealed]:
    """What of a part is sealed. Left out is what a chat only remembers for its next question, and may do without."""
    head = part.head
    if head["k"] == "turns":
        place = (head["id"], head["topic"], head["number"])
        for number, value in enumerate(part.values, head["first"]):
            if value is not None and value != REMOVED:
                yield value.partition(b"\n")[2], turn_bound(*place, number)
    elif head["k"] == "chat":
        yield from _sealed_of_chat(head["id"], part)


def _sealed_of_chat(chat_id: int, part: Part) -> Iterator[Sealed]:
    parts = named(part)
    fields = paired(parts.get("chat", ()))
    epoch = int(fields.get(b"epoch", 0))
    for packed in [value or b"" for value in parts.get("mail", ())] + list(paired(parts.get("dead", ())).values()):
        mail = Mail.unpacked(packed)
        if mail.sealed:
            yield mail.sealed, mail_bound(chat_id, mail.update_id, epoch)
    for place, note in paired(parts.get("notes", ())).items():
        topic, _, number = place.decode().partition(":")
        if note:
            yield note, notes_bound(chat_id, int(topic), int(number))
    for entry in parts.get("remotes", ()):
        talk_topic, talk, sealed = (entry or b"").split(b":", 2)
        yield sealed, f"{chat_id}|remote|{int(talk_topic)}|{int(talk)}"
    if rights := fields.get(b"rights"):
        yield base64.b64decode(rights), wishes_bound(chat_id)

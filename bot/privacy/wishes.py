"""What a customer agreed to: sealed in the chat under a key of its own, and gone with everything else.

A consent names the version of the text that was agreed to and who processes what; a new text, or another processor,
has to be agreed to anew (GDPR, Articles 6(1)(a) and 7).
"""

import base64
import hashlib
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson

from bot import texts
from storage.errors import SealBrokenError
from storage.journal import ChatState, Journal
from storage.keynames import RIGHTS
from storage.vault import Vault

PROCESSING: Final = "processing"
"""To having one's messages answered by a model."""

IMPROVEMENT: Final = "improvement"
"""To having one's conversations used to test and improve the service."""

_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Consent:
    """``what`` was agreed to (or withdrawn, ``given`` False), when (s), in which version, with which processors."""

    what: str
    given: bool
    at_s: int
    version: str
    processors: str


@dataclass(frozen=True, slots=True)
class Wishes:
    """``consents``: all that were given or withdrawn, oldest first."""

    consents: tuple[Consent, ...] = ()

    def standing(self, what: str) -> Consent | None:
        """The last word on something, None where there is none or it was withdrawn."""
        last = next((consent for consent in reversed(self.consents) if consent.what == what), None)
        return last if last is not None and last.given else None

    def agreed(self, what: str, version: str) -> bool:
        """Whether this version of a text stands agreed to."""
        standing = self.standing(what)
        return standing is not None and standing.version == version

    def said(self, consent: Consent) -> "Wishes":
        """With one more consent or withdrawal; saying the same twice changes nothing."""
        last = next((one for one in reversed(self.consents) if one.what == consent.what), None)
        if last is not None and replace(last, at_s=0) == replace(consent, at_s=0):
            return self
        return replace(self, consents=(*self.consents, consent)[-_MOST:])

    async def put(self, vault: Vault, state: ChatState) -> dict[str, str]:
        """The fields of the chat that hold them."""
        key = await vault.key(state.ready.chat_id, RIGHTS)
        content = {"consents": [asdict(one) for one in self.consents]}
        sealed = vault.seal(key, orjson.dumps(content), wishes_bound(state.ready.chat_id))
        return {"rights": base64.b64encode(sealed).decode()}


async def wishes_of(vault: Vault, chat_id: int, packed: bytes) -> Wishes:
    """What the field ``rights`` of a chat says; nothing where it does not open, as after a forget."""
    if not packed:
        return Wishes()
    try:
        content: dict[str, Any] = orjson.loads(await vault.open_any(base64.b64decode(packed), wishes_bound(chat_id)))
    except (SealBrokenError, ValueError):
        return Wishes()
    return Wishes(tuple(Consent(**one) for one in content["consents"]))


class Consents:
    """``processors``: who writes the answers, as customers are told; ``required``: no text may leave before they agree
    to it. Raises StorageError, StaleFenceError."""

    def __init__(self, journal: Journal, vault: Vault, processors: str, *, required: bool) -> None:
        self._journal = journal
        self._vault = vault
        self.processors = processors
        self.required = required
        self.version = version_of(texts.CONSENT_ASK, processors)

    async def wishes(self, state: ChatState) -> Wishes:
        """What the customer agreed to and wished for."""
        return await wishes_of(self._vault, state.ready.chat_id, state.rights)

    async def note(self, state: ChatState, wishes: Wishes, what: str, *, given: bool) -> Wishes:
        """Keeps a consent or its withdrawal, with its time, version and processors."""
        version = self.version if what == PROCESSING else version_of(texts.PRIVACY_IMPROVES, self.processors)
        return await self.keep(state, wishes.said(Consent(what, given, int(time.time()), version, self.processors)))

    async def keep(self, state: ChatState, wishes: Wishes) -> Wishes:
        """Writes wishes under the chat's fence, at once."""
        put = await wishes.put(self._vault, state)
        await self._journal.put(state, put)
        state.rights = put["rights"].encode()
        return wishes


def wishes_bound(chat_id: int) -> str:
    """What sealed wishes are bound to."""
    return f"{chat_id}|rights"


def version_of(text: str, processors: str) -> str:
    """Tells texts apart that were agreed to: 8 hex digits of what they say."""
    return hashlib.sha256(f"{text}\n{processors}".encode()).hexdigest()[:8]

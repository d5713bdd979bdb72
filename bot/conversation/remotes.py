"""What chat APIs keep of our conversations: which id to go on from, and that all of it is deleted in the end.

Two records. The chat's own names what the next question can go on from; it is trusted only while it fits what is stored
here, else our history is told anew. And every id a provider ever gave is listed, sealed, before the answer goes on:
providers have no list of their own. A forget moves those to a queue under a key of the service, since the customer's
keys are destroyed; there they stay until the provider confirmed, and are tried again for thirty days.
"""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bot.chat_api.asking import Remote
from bot.chat_api.client import ChatApi
from bot.conversation.context import Past
from bot.errors import ChatApiError
from bot.logs import get_logger
from storage.errors import SealBrokenError, StorageError
from storage.journal import ChatState, Journal, StaleFenceError
from storage.keynames import SERVICE, day_of, last_day, talk_key
from storage.removals import Removal, Removals
from storage.vault import Vault

_KEY: Final = "removals"
_BOUND: Final = "removals|0"
_AT_ONCE: Final = 20
_FIRST_PAUSE_MS: Final = 60_000
_LONGEST_PAUSE_MS: Final = 6 * 3_600_000
GIVEN_UP_DAYS: Final = 30
"""How long a provider is asked to delete something."""

_GIVEN_UP_MS: Final = GIVEN_UP_DAYS * 86_400_000
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """What a question can go on from; ``upto``: the last turn the provider knows."""

    remote: Remote
    upto: int


class Remotes:
    """``secret``: makes customers' pseudonyms. Raises StorageError."""

    def __init__(self, journal: Journal, vault: Vault, removals: Removals, chat_api: ChatApi, secret: bytes) -> None:
        self._journal = journal
        self._vault = vault
        self._removals = removals
        self._chat_api = chat_api
        self._secret = secret

    def pseudonym(self, state: ChatState) -> str:
        """What a provider knows the customer by: another one after everything was forgotten."""
        name = b"customer|%d|%d" % (state.ready.chat_id, state.base)
        return hmac.new(self._secret, name, hashlib.sha256).hexdigest()[:32]

    # ---- going on
    async def held(self, state: ChatState, topic: int, past: list[Past], *, trimmed: bool) -> Held | None:
        """What the next question can go on from; None where our own history is to be told: nothing is kept, a turn was
        corrected or trimmed since, or the one who keeps it is not asked any more."""
        fields = None if trimmed else await self._noted(state, topic)
        if fields is None:
            return None
        held = Held(Remote(fields["e"], fields["k"], fields["i"]), int(fields["n"]))
        known = self._chat_api.endpoint(held.remote.endpoint) is not None
        told = not past or past[0].stored.number <= held.upto + 1
        return held if known and told and fields["v"] == state.edits else None

    async def strayed(self, state: ChatState, topic: int) -> list[str]:
        """What to drop in the chat where an answer was asked for and not shown whole: a conversation that a provider
        keeps may hold it all the same. An answer's own id is left as it was, and names nothing of it."""
        fields = await self._noted(state, topic)
        return [f"r:{topic}"] if fields is not None and fields["k"] == "conversation" else []

    async def _noted(self, state: ChatState, topic: int) -> dict[str, Any] | None:
        """What the last turn noted of a topic's conversation; None where that is nothing, or does not open."""
        packed = state.remote.get(topic)
        if packed is None:
            return None
        try:
            fields: dict[str, Any] = orjson.loads(
                await self._vault.open_any(base64.b64decode(packed), _bound(state, topic))
            )
        except (SealBrokenError, ValueError):
            return None
        return fields

    async def put(self, state: ChatState, topic: int, seq: int, remote: Remote | None) -> dict[str, str]:
        """What to set in the chat when the turn ends, so that the next one goes on from here."""
        if remote is None:
            return {}
        content = {"e": remote.endpoint, "k": remote.kind, "i": remote.id, "n": seq, "v": state.edits}
        sealed = await self._sealed(state, topic, content)
        return {f"r:{topic}": base64.b64encode(sealed).decode()}

    async def keep(self, state: ChatState, topic: int, remote: Remote) -> None:
        """Lists an id that a provider gave. Raises StaleFenceError where another worker took the chat over: then it is
        deleted there, since it may be forgotten here already."""
        content = {"e": remote.endpoint, "k": remote.kind, "i": remote.id, "u": self.pseudonym(state)}
        sealed = await self._sealed(state, topic, content)
        if not await self._journal.keep(state, _prefix(topic, state.conversation_of(topic)) + sealed):
            await self._condemn([content])
            raise StaleFenceError

    async def _sealed(self, state: ChatState, topic: int, content: dict[str, Any]) -> bytes:
        name = talk_key(topic, state.conversation_of(topic), day_of(time.time()), state.fresh)
        chat_id = state.ready.chat_id
        key = self._vault.cached_key(chat_id, name) or await self._vault.key(chat_id, name)
        return self._vault.seal(key, orjson.dumps(content), _bound(state, topic))

    # ---- deleting
    async def condemn(
        self, state: ChatState, conversations: Collection[tuple[int, int]] | None, receipt_id: str = ""
    ) -> int:
        """Has all deleted that is kept of conversations (topic, number), None for all; how many things that are. What
        becomes of it is counted on the receipt.

        To be done before the customer's keys go: afterwards nobody can read what they are called. May be done twice.
        """
        doomed = []
        for entry in await self._journal.kept(state):
            topic, number, sealed = _split(entry)
            if conversations is not None and (topic, number) not in conversations:
                continue
            try:
                bound = f"{state.ready.chat_id}|remote|{topic}|{number}"
                doomed.append(orjson.loads(await self._vault.open_any(sealed, bound)) | {"r": receipt_id})
            except SealBrokenError:
                continue
        await self._condemn(doomed)
        return len(doomed)

    async def drop(self, state: ChatState, conversations: Collection[tuple[int, int]] | None) -> None:
        """Takes what was condemned off the chat's list."""
        kept = await self._journal.kept(state)
        gone = [entry for entry in kept if conversations is None or _split(entry)[:2] in conversations]
        await self._journal.kept_no_more(state, gone)

    async def _condemn(self, contents: list[dict[str, Any]]) -> None:
        if not contents:
            return
        now = int(time.time() * 1000)
        # Under a key that ends some time after the last try: what is done is not to be read for ever in old copies.
        last = last_day(day_of(now / 1000) + GIVEN_UP_DAYS)
        key = await self._vault.key(SERVICE, f"{_KEY}/{last}")
        await self._removals.add(
            [Removal(now, self._vault.seal(key, orjson.dumps(content), _BOUND)) for content in contents]
        )

    async def keep_tending(self, seconds: float) -> None:
        """Looks every so many seconds for what is due, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.tend()
            except StorageError as error:
                _log.info("remotes.untended", error=type(error).__name__)

    async def tend(self) -> None:
        """Has deleted what is due; what fails is put off, further each time."""
        now = int(time.time() * 1000)
        for removal in await self._removals.due(now, _AT_ONCE):
            fields = await self._told(removal)
            try:
                done = not fields or await self._remove(fields)
            except (ChatApiError, StorageError) as error:
                _log.info("remote.kept", error=type(error).__name__)
                done = False
            age = now - removal.asked_ms
            if done or age > _GIVEN_UP_MS:
                _log.info("remote.deleted" if done else "remote.given_up")
                await self._removals.done(removal, fields.get("r", ""), given_up=not done)
            else:
                pause = min(max(age // 2, _FIRST_PAUSE_MS), _LONGEST_PAUSE_MS)
                await self._removals.put_off(removal, now + pause)

    async def _told(self, removal: Removal) -> dict[str, Any]:
        """What an entry says; nothing where it does not open."""
        try:
            fields: dict[str, Any] = orjson.loads(await self._vault.open_any(removal.sealed, _BOUND))
        except SealBrokenError:
            return {}
        return fields

    async def _remove(self, fields: dict[str, Any]) -> bool:
        endpoint = self._chat_api.endpoint(fields["e"])
        if endpoint is None:
            return False  # not configured any more: perhaps it comes back
        if not await endpoint.remove(Remote(fields["e"], fields["k"], fields["i"]), fields["u"]):
            _log.info("remote.undeletable")
        return True


def _bound(state: ChatState, topic: int) -> str:
    return f"{state.ready.chat_id}|remote|{topic}|{state.conversation_of(topic)}"


def _prefix(topic: int, conversation: int) -> bytes:
    return b"%d:%d:" % (topic, conversation)


def _split(entry: bytes) -> tuple[int, int, bytes]:
    topic, conversation, sealed = entry.split(b":", 2)
    return int(topic), int(conversation), sealed

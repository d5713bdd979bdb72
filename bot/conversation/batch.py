"""From the mail of a claimed chat to what one turn covers: questions gather, everything else stands alone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from bot import texts
from bot.conversation.intents import Act, Correction, Deed, Intent, Letter, Nothing, Notice, Presence, Question
from bot.conversation.notebook import Notebook
from bot.conversation.post import mail_bound
from bot.conversation.record import Asked
from bot.conversation.window import Window
from bot.delivery.form import utf16_units
from bot.delivery.lane import Lane
from bot.logs import get_logger
from storage.errors import SealBrokenError
from storage.history import StoredTurn
from storage.inbox import Mail
from storage.journal import ChatState, Fate, Journal
from storage.keynames import mail_key
from storage.vault import Vault

Dispatch = Callable[[dict[str, Any]], Awaitable[Intent]]

MOST_MAIL: Final = 200
"""Items that one turn looks at; the rest waits for the next."""

ALL: Final = "all"
"""The scope of a forget that takes everything."""

CALLS_AWAY: Final = frozenset({Deed.STOP, Deed.PERSON, Deed.FORGET})
"""What ends the wait for an answer: it covers the questions before it."""

_PART_UNITS: Final = 4000
_CONTINUATION_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05
_log = get_logger(__name__)


class HandlerFailedError(Exception):
    """A handler raised on an update."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        super().__init__(mail.update_id)


@dataclass(slots=True)
class Batch:
    """The mail that one turn covers, from the front of the mailbox."""

    started: float = field(default_factory=time.monotonic)
    take: int = 0
    questions: list[Question] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    notice: Notice | None = None
    act: Act | None = None
    presses: list[str] = field(default_factory=list)
    letter: Letter | None = None
    last: int = 0
    marker: bool = False
    fate: Fate = Fate.SAID
    blocked_ms: int = 0
    calls_away: frozenset[Deed] = CALLS_AWAY
    corrections: list[tuple[Correction, int]] = field(default_factory=list)
    corrected: list[tuple[int, StoredTurn]] = field(default_factory=list)
    consents: list[Act] = field(default_factory=list)
    received_ms: int = 0
    files_apart: bool = False

    @property
    def topic(self) -> int:
        if self.questions:
            return self.questions[0].topic
        return next((intent.topic for intent in (self.notice, self.act, self.letter) if intent), 0)

    @property
    def language(self) -> str:
        spoken = [self.act, self.notice, *reversed(self.questions)]
        return next((intent.language for intent in spoken if intent and intent.language), "")

    @property
    def asked(self) -> tuple[Asked, ...]:
        return tuple(Asked(q.message_id, q.text or texts.RELAY_OTHER, q.date) for q in self.questions)

    @property
    def newest(self) -> int:
        """The message id that the turn answers last, 0 if there is none."""
        found = [q.message_id for q in self.questions]
        found += [intent.message_id for intent in (self.notice, self.act) if intent]
        return max(found, default=0)

    def fits(self, intent: Intent) -> bool:
        """Whether an intent can still join."""
        if isinstance(intent, Nothing):
            return True
        if self.act is not None:
            return self.act.deed is Deed.EXPORT and isinstance(intent, Act) and intent.deed is Deed.EXPORT
        if not self.questions:
            return self.notice is None and self.letter is None
        first, last = self.questions[0], self.questions[-1]
        if isinstance(intent, Question):
            if intent.topic != self.topic or intent.other != first.other or intent.reply_to:
                return False
            if self.files_apart and (first.file or intent.file):
                return False  # each is an archive of its own
            # Only the first part of a long reply that Telegram cut says what it replies to.
            return not first.reply_to or last.units >= _PART_UNITS
        if isinstance(intent, Act):
            called_away = intent.deed in self.calls_away and intent.topic == self.topic and not first.other
            return called_away or intent.deed is Deed.CONSENT
        return isinstance(intent, Correction) and self._place(intent) is not None

    def add(self, intent: Intent, item: Mail) -> None:
        self.take += 1
        if isinstance(intent, Question):
            self.questions.append(intent)
            self.sources.append(item.update_id)
        elif isinstance(intent, Notice):
            self.notice = intent
        elif isinstance(intent, Act):
            if intent.deed is Deed.CONSENT and self.questions:
                self.consents.append(intent)
            else:
                self.act, self.last, self.received_ms = intent, item.update_id, item.received_ms
            self.presses += [intent.pressed] if intent.pressed else []
        elif isinstance(intent, Letter):
            self.letter, self.last = intent, item.update_id
        elif isinstance(intent, Presence):
            self.fate = Fate.BLOCKED if intent.blocked else Fate.RETURNED
            self.blocked_ms = item.received_ms if intent.blocked else 0

    def replace(self, correction: Correction, units: int) -> bool:
        """An edit replaces a question that is not asked yet."""
        place = self._place(correction)
        if place is None:
            return False
        self.questions[place] = replace(self.questions[place], text=correction.text, units=units)
        return True

    def _place(self, correction: Correction) -> int | None:
        return next((i for i, q in enumerate(self.questions) if q.message_id == correction.message_id), None)


class Reader:
    """Opens mail and gathers batches. Raises StorageError, HandlerFailedError."""

    def __init__(
        self,
        journal: Journal,
        vault: Vault,
        window: Window,
        notebook: Notebook,
        *,
        lane: Lane,
        dispatch: Dispatch,
        persons: bool,
    ) -> None:
        """``persons``: whether there is anybody whom /human could call; else it is a command like the others."""
        self.calls_away = CALLS_AWAY if persons else CALLS_AWAY - {Deed.PERSON}
        self._journal = journal
        self._vault = vault
        self._window = window
        self._notebook = notebook
        self._lane = lane
        self._dispatch = dispatch

    async def gather(self, state: ChatState) -> Batch:
        """The next batch; a part of a long paste waits up to a second for the rest."""
        mail = state.mail
        while True:
            batch = await self._batch(state, mail)
            last = batch.questions[-1] if batch.questions else None
            if last is None or last.units < _PART_UNITS or batch.take < len(mail) or len(mail) >= MOST_MAIL:
                return batch
            received = mail[batch.take - 1].received_ms / 1000
            if not await self._continued(state, len(mail), received + _CONTINUATION_SECONDS):
                return batch
            mail = await self._journal.mail(state, MOST_MAIL)

    async def urgent(self, state: ChatState, mail: list[Mail]) -> list[tuple[int, Mail, Act]]:
        """What among the mail calls for something at once, with its place."""
        found = []
        for place, item in enumerate(mail):
            if item.kind != "urgent":
                continue
            try:
                intent = await self._intent(state, item)
            except HandlerFailedError:
                continue  # it fails again in its turn, and is counted there
            if isinstance(intent, Act):
                found.append((place, item, intent))
        return found

    async def beside(self, state: ChatState, mail: list[Mail], topic: int | None) -> list[Mail]:
        """What of the mail a forget leaves alone: letters about others, and what was written in another topic.

        ``topic``: the one that is forgotten, None for all.
        """
        kept = []
        for item in mail:
            if not item.sealed or not await self._is_own(state, item):
                kept.append(item)
            elif topic is not None and item.kind != "post":
                try:
                    intent = await self._intent(state, item)
                except HandlerFailedError:
                    continue
                if getattr(intent, "topic", topic) != topic:
                    kept.append(item)
        return kept

    async def _is_own(self, state: ChatState, item: Mail) -> bool:
        """Whether an item is sealed under the chat's own key, and not under that of a customer whom it is about."""
        sealer = await self._vault.key_of(item.sealed)
        own = await self._vault.standing_key(state.ready.chat_id, mail_key(state.epoch, item.received_ms / 1000))
        return sealer is None or sealer == own

    async def _continued(self, state: ChatState, known: int, until: float) -> bool:
        """Telegram splits a long paste into messages of 4,096 units: the rest is on its way."""
        while time.time() < until:
            if await self._journal.waiting(state) > known:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _batch(self, state: ChatState, mail: list[Mail]) -> Batch:
        batch = Batch(blocked_ms=state.blocked_ms, calls_away=self.calls_away, files_apart=state.awaits_file)
        for item in mail:
            try:
                intent = await self._intent(state, item)
            except HandlerFailedError:
                if batch.take:
                    break
                raise
            if item.received_ms < batch.blocked_ms and not isinstance(intent, (Presence, Letter)):
                intent = Nothing("blocked")  # written before the customer blocked the bot: nothing can be sent
            if isinstance(intent, Act) and intent.deed is Deed.STOP and self._is_over(state, item, intent, batch):
                intent = Nothing("stopped")
            if not batch.fits(intent):
                break
            await self._join(state, batch, item, intent)
        return batch

    @staticmethod
    def _is_over(state: ChatState, item: Mail, act: Act, batch: Batch) -> bool:
        """Whether a stop was obeyed already, or means an answer that ended while others wait."""
        return item.update_id == state.stopped or bool(0 < act.draft_id <= state.done and batch.questions)

    async def _join(self, state: ChatState, batch: Batch, item: Mail, intent: Intent) -> None:
        if item.kind == "over":
            batch.marker = True
        if item.kind == "sweep":
            await self._lane.sweep(state, item.above)
        if isinstance(intent, Correction) and not batch.replace(intent, utf16_units(intent.text)):
            if turn := await self._window.correct(state, intent):
                await self._notebook.rebuild(state, intent.topic, turn.number)
                batch.corrected.append((intent.topic, turn))
            batch.corrections.append((intent, item.update_id))
        batch.add(intent, item)

    async def _intent(self, state: ChatState, item: Mail) -> Intent:
        if item.kind == "over":
            return Notice(texts.TOO_MANY)
        if item.kind == "sweep":
            return Nothing("sweep")
        if item.kind == "aged":
            return Act(Deed.AGED)
        bound = mail_bound(state.ready.chat_id, item.update_id, state.epoch)
        try:
            content = await self._vault.open_any(item.sealed, bound)
        except SealBrokenError:
            if item.kind == "post":
                return Nothing("forgotten")  # the customer it was about had everything deleted
            # A forget empties the mailbox, so this is a fault of ours (a keyring older than the store?): no silence.
            _log.error("mail.unreadable", update=item.update_id)
            return Notice(texts.UNREADABLE)
        if item.kind == "post":
            return Letter(**orjson.loads(content), sealed=item.sealed)
        if item.update_id < 0:
            return ordered(orjson.loads(content))
        try:
            return await self._dispatch(orjson.loads(content))
        except Exception as error:
            _log.exception("handler.failed", update=item.update_id)
            raise HandlerFailedError(item) from error


def ordered(content: dict[str, Any]) -> Act:
    """What whoever runs the service wants done in a chat, see ``Post.order``."""
    return Act(Deed.ERASE, argument=ALL, receipt=content["receipt"], quiet=bool(content["quiet"]))

"""A turn: from the mail of a claimed chat to one visible outcome, journaled at each step.

received (in the mailbox) → asked (claimed, the chat API works) → sending (journaled) → final (a message id is
registered) → done (history grown, mailbox shrunk, chat handed on). Until *sending* a death costs nothing: the next
worker asks again. From *sending* on the words are fixed, and the next worker says the same ones.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from bot import texts
from bot.chat_api.client import ChatApi
from bot.conversation.context import QuestionTooLongError, build
from bot.conversation.intents import Correction, Intent, Nothing, Notice, Presence, Question
from bot.conversation.record import Asked, Record
from bot.conversation.window import Window
from bot.delivery.form import Piece, pieces_of, utf16_units
from bot.delivery.lane import Lane, LaterError, Say
from bot.delivery.pace import Pace
from bot.delivery.preview import Preview
from bot.delivery.telegram import TelegramClient
from bot.errors import ChatApiError
from bot.logs import get_logger
from bot.metrics import Metrics
from storage.errors import SealBrokenError
from storage.inbox import Mail, Ready
from storage.journal import TIRED_AFTER, ChatState, Fate, Journal, OpenTurn, Planned
from storage.vault import Vault

Dispatch = Callable[[dict[str, Any]], Awaitable[Intent]]

CRASHES: Final = 20
FAILURES: Final = 5
MOST_MAIL: Final = 200
"""Items that one turn looks at; the rest waits for the next."""

MOST_TURNS: Final = 32
"""A window of up to so many turns comes with the claim; a longer one costs a call of its own."""

_REST_SECONDS: Final = 0.25
_LONGEST_REST_SECONDS: Final = 15.0
_PART_UNITS: Final = 4000
_CONTINUATION_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.05
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Manner:
    """How answers are made: the prompt's text, the budget of a request in tokens, the way to a person."""

    prompt: str
    context_tokens: int
    model: str
    support_contact: str


class HandlerFailedError(Exception):
    """A handler raised on an update."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        super().__init__(mail.update_id)


@dataclass(slots=True)
class _Batch:
    """The mail that one turn covers, from the front of the mailbox."""

    started: float = field(default_factory=time.monotonic)
    take: int = 0
    questions: list[Question] = field(default_factory=list)
    notice: Notice | None = None
    marker: bool = False
    fate: Fate = Fate.SAID
    blocked_ms: int = 0

    @property
    def topic(self) -> int:
        if self.questions:
            return self.questions[0].topic
        return self.notice.topic if self.notice else 0

    @property
    def asked(self) -> tuple[Asked, ...]:
        return tuple(Asked(q.message_id, q.text, q.date) for q in self.questions)

    @property
    def newest(self) -> int:
        """The message id that the turn answers last, 0 if there is none."""
        if self.questions:
            return self.questions[-1].message_id
        return self.notice.message_id if self.notice else 0

    def fits(self, intent: Intent) -> bool:
        """Whether an intent can still join: questions of one topic gather, a sentence of our own stands alone."""
        if self.notice is not None:
            return isinstance(intent, Nothing)
        if not self.questions:
            return True
        if isinstance(intent, Question):
            return intent.topic == self.topic
        return isinstance(intent, Nothing) or (isinstance(intent, Correction) and self._place(intent) is not None)

    def add(self, intent: Intent, item: Mail) -> None:
        self.take += 1
        if isinstance(intent, Question):
            self.questions.append(intent)
        elif isinstance(intent, Notice):
            self.notice = intent
        elif isinstance(intent, Presence):
            self.fate = Fate.BLOCKED if intent.blocked else Fate.RETURNED
            self.blocked_ms = item.received_ms if intent.blocked else 0

    def replace(self, correction: Correction, units: int) -> bool:
        """An edit replaces a question that is not asked yet."""
        place = self._place(correction)
        if place is None:
            return False
        old = self.questions[place]
        self.questions[place] = Question(old.message_id, old.topic, correction.text, old.date, units)
        return True

    def _place(self, correction: Correction) -> int | None:
        return next((i for i, q in enumerate(self.questions) if q.message_id == correction.message_id), None)


class Turns:
    """Works on claimed chats. ``work`` always leaves the chat finished, parked, or to whoever took it over."""

    def __init__(
        self,
        *,
        journal: Journal,
        window: Window,
        vault: Vault,
        lane: Lane,
        telegram: TelegramClient,
        pace: Pace,
        chat_api: ChatApi,
        dispatch: Dispatch,
        manner: Manner,
        metrics: Metrics,
        recheck: float,
    ) -> None:
        self._recheck = recheck
        self._journal = journal
        self._window = window
        self._vault = vault
        self._lane = lane
        self._telegram = telegram
        self._pace = pace
        self._chat_api = chat_api
        self._dispatch = dispatch
        self._manner = manner
        self._metrics = metrics

    async def work(self, ready: Ready) -> bool:
        """One claim of one chat; False when the entry no longer stands for the chat. Raises StorageError."""
        turns = 0 if self._window.remembers(ready.chat_id) else MOST_TURNS
        state = await self._journal.begin(ready, MOST_MAIL, turns=turns)
        if state is None:
            return False
        try:
            await self._go(state)
        except asyncio.CancelledError:
            await asyncio.shield(self._journal.park(state, 0))
            raise
        except LaterError as error:
            await self._journal.park(state, int(error.seconds * 1000))
        except HandlerFailedError as error:
            await self._after_failure(state, error.mail)
        return True

    async def _go(self, state: ChatState) -> None:
        if state.tired:
            # Crashes of the process, not of a handler: give whatever dies here time to recover.
            rest = min(_REST_SECONDS * 2 ** (state.claims - TIRED_AFTER), _LONGEST_REST_SECONDS)
            await self._journal.park(state, int(rest * 1000), rest=True)
            return
        # Words that are fixed may stand already: they get twice as many tries before they are given up.
        if state.claims > (CRASHES if state.open_turn is None else 2 * CRASHES):
            await self._give_up(state)
            return
        if state.open_turn is not None:
            await self._resume(state, state.open_turn)
            return
        batch = await self._gather(state)
        if batch.questions:
            await self._answer(state, batch)
        elif batch.notice is not None:
            await self._tell(state, batch, batch.notice.text)
        else:
            since = batch.blocked_ms or None
            await self._journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate, blocked_ms=since)

    # ---- what the mailbox holds
    async def _gather(self, state: ChatState) -> _Batch:
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

    async def _continued(self, state: ChatState, known: int, until: float) -> bool:
        """Telegram splits a long paste into messages of 4,096 units: the rest is on its way."""
        while time.time() < until:
            if await self._journal.waiting(state) > known:
                return True
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _batch(self, state: ChatState, mail: list[Mail]) -> _Batch:
        batch = _Batch(blocked_ms=state.blocked_ms)
        for item in mail:
            try:
                intent = await self._intent(state, item)
            except HandlerFailedError:
                if batch.take:
                    break
                raise
            if item.received_ms < batch.blocked_ms and not isinstance(intent, Presence):
                intent = Nothing("blocked")  # written before the customer blocked the bot: nothing can be sent
            if not batch.fits(intent):
                break
            await self._join(state, batch, item, intent)
        return batch

    async def _join(self, state: ChatState, batch: _Batch, item: Mail, intent: Intent) -> None:
        if item.kind == "over":
            batch.marker = True
        if item.kind == "sweep":
            await self._lane.sweep(state, item.above)
        if isinstance(intent, Correction) and not batch.replace(intent, utf16_units(intent.text)):
            await self._window.correct(state, intent)
        batch.add(intent, item)

    async def _intent(self, state: ChatState, item: Mail) -> Intent:
        if item.kind == "over":
            return Notice(texts.TOO_MANY)
        if item.kind == "sweep":
            return Nothing("sweep")
        chat_id = state.ready.chat_id
        try:
            content = await self._vault.open_any(item.sealed, mail_bound(chat_id, item.update_id, state.epoch))
        except SealBrokenError:
            # A forget empties the mailbox, so this is a fault of ours (a keyring older than the store?): no silence.
            _log.error("mail.unreadable", update=item.update_id)
            return Notice(texts.UNREADABLE + texts.contact(self._manner.support_contact))
        try:
            return await self._dispatch(orjson.loads(content))
        except Exception as error:
            _log.exception("handler.failed", update=item.update_id)
            raise HandlerFailedError(item) from error

    # ---- what is said
    async def _answer(self, state: ChatState, batch: _Batch) -> None:
        topic = batch.topic
        past = await self._window.read(state, topic)
        question = Record(batch.asked, "").question
        try:
            context = build(self._manner.prompt, past, question, self._manner.context_tokens)
        except QuestionTooLongError:
            await self._tell(state, batch, texts.TOO_LONG)
            return
        preview = self._preview(state, topic)
        preview.start()
        try:
            answer = await self._chat_api.ask(context.messages, preview.show)
        except ChatApiError as error:
            self._metrics.chat_api_failures.labels(type(error).__name__).inc()
            _log.warning("turn.unanswered", error=str(error))
            await preview.close()
            await self._tell(state, batch, texts.NO_ANSWER + texts.contact(self._manner.support_contact))
            return
        finally:
            preview.complete()
        self._metrics.first_token.observe(answer.first_seconds)
        await preview.close()
        record = Record(batch.asked, answer.text, model=self._manner.model)
        pieces = pieces_of(record.said, plain=False)
        if not pieces:
            await self._tell(state, batch, texts.EMPTY_ANSWER + texts.contact(self._manner.support_contact))
            return
        await self._say(state, batch, record, pieces, context.first)

    async def _tell(self, state: ChatState, batch: _Batch, sentence: str) -> None:
        record = Record(batch.asked, sentence, plain=True)
        await self._say(state, batch, record, pieces_of(sentence, plain=True), None)

    async def _say(
        self, state: ChatState, batch: _Batch, record: Record, pieces: list[Piece], first: int | None
    ) -> None:
        topic = batch.topic
        kind = "notice" if record.plain else "answer"
        seq = state.last.get(topic, 0) + 1
        sealed, header = await self._window.sealed(state, topic, seq, record)
        planned = Planned(sealed, header, batch.take, len(pieces), kind, topic, seq, batch.marker)
        say = Say(
            turn=str(state.fence),
            planned=planned,
            pieces=pieces,
            take=batch.take,
            topic=topic,
            marker=batch.marker,
            first=first,
            reply_to=batch.newest if state.ready.chat_id < 0 else 0,
            above=batch.newest,
            fate=batch.fate,
        )
        fate = await self._lane.say(state, say)
        self._done(kind, fate, batch.started)
        if kind == "answer" and fate in {Fate.SAID, Fate.RETURNED}:
            self._window.grown(state, topic, seq, first, record)

    async def _resume(self, state: ChatState, opened: OpenTurn) -> None:
        """Says what an earlier worker had journaled, word for word."""
        try:
            record = await self._window.opened(state, opened.topic, opened.seq, opened.record)
        except SealBrokenError:
            await self._abandon(state, opened)
            return
        say = Say(
            turn=opened.turn,
            planned=None,
            pieces=pieces_of(record.said, plain=record.plain)[: opened.pieces],
            take=opened.take,
            topic=opened.topic,
            marker=opened.marker,
        )
        fate = await self._lane.say(state, say, opened)
        self._done(opened.kind, fate, time.monotonic())

    def _done(self, kind: str, fate: Fate, started: float) -> None:
        said = fate in {Fate.SAID, Fate.RETURNED}
        self._metrics.turns.labels(kind if said else fate.name.lower()).inc()
        self._metrics.answer.observe(time.monotonic() - started)

    def _preview(self, state: ChatState, topic: int) -> Preview:
        return Preview(
            self._telegram,
            self._pace,
            state.ready.chat_id,
            topic,
            draft_id=state.fence,
            drafts=state.ready.chat_id > 0,
            standing=lambda: self._journal.standing(state),
            recheck=self._recheck,
        )

    # ---- what cannot be handled
    async def _after_failure(self, state: ChatState, mail: Mail) -> None:
        failures = await self._journal.fail(state)
        if failures < FAILURES:
            await self._journal.park(state, 100 * 2**failures)
            return
        await self._set_aside(state, mail)

    async def _give_up(self, state: ChatState) -> None:
        if state.open_turn is not None:
            await self._abandon(state, state.open_turn)
        elif state.mail:
            await self._set_aside(state, state.mail[0])

    async def _abandon(self, state: ChatState, opened: OpenTurn) -> None:
        """Ends a journaled turn whose words cannot be said any more."""
        _log.error("turn.abandoned", kind=opened.kind)
        await self._journal.finish(
            state, take=opened.take, turn=opened.turn, topic=opened.topic, marker=opened.marker, fate=Fate.UNDELIVERABLE
        )

    async def _set_aside(self, state: ChatState, mail: Mail) -> None:
        """The customer gets an apology, the operator a record, and the next message goes on."""
        self._metrics.set_aside.inc()
        _log.error("turn.set_aside", update=mail.update_id)
        await self._journal.set_aside(state, mail)
        batch = _Batch(take=1, marker=mail.kind == "over")
        await self._tell(state, batch, texts.SET_ASIDE + texts.contact(self._manner.support_contact))


def mail_bound(chat_id: int, update_id: int, epoch: int) -> str:
    """What a sealed update is bound to."""
    return f"{chat_id}|mail|{update_id}|{epoch}"

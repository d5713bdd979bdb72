"""Says what a turn comes to: journaled with its first message, sent through the chat's lane, finished in one step."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from bot import texts
from bot.conversation import deeds
from bot.conversation.batch import Batch
from bot.conversation.calls import Calls
from bot.conversation.control import Watch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.record import Record
from bot.conversation.shown import keyboard, sender_of, shown, with_marks
from bot.delivery.form import Piece
from bot.delivery.lane import Copy, Parcel, Say
from bot.delivery.preview import Preview
from bot.errors import TelegramError
from bot.logs import get_logger
from bot.texts import Sentence
from storage.datakey import DataKey
from storage.errors import SealBrokenError
from storage.history import StoredTurn
from storage.journal import Change, ChatState, Fate, OpenTurn, Planned

SAID: Final = frozenset({Fate.SAID, Fate.RETURNED})
_TOLD: Final = frozenset({"answer", "export"})
_PRESS_SECONDS: Final = 5.0
_LOST: Final = 2**52
"""Sets letters that no update causes apart from those that one does."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be said, and how the turn is to be kept.

    ``kind``: answer (kept as history), notice, relay (another customer's words) or export; ``first``: the oldest turn
    of the window from now on; ``key``: of the customer whose words it holds, where that is not the chat's own;
    ``pieces``: its messages, where they are made already.
    """

    record: Record
    kind: str
    change: Change | None = None
    first: int | None = None
    key: DataKey | None = None
    pieces: Sequence[Piece | Copy] = ()


class Speaker:
    """Ends turns with words. Raises StaleFenceError, LaterError, StorageError."""

    def __init__(self, desk: Desk, calls: Calls) -> None:
        self._desk = desk
        self._calls = calls

    async def say(self, state: ChatState, batch: Batch, plan: Plan, watch: Watch | None = None) -> Fate:
        """Sends a plan. With a ``watch`` a confirmed deletion ends it half way: CalledAwayError."""
        topic, record = batch.topic, plan.record
        pieces = plan.pieces or self._desk.parcels.of(state, record) or self.pieces(record)
        seq = state.last.get(topic, 0) + 1
        sealed, header = await self._desk.window.sealed(state, topic, seq, record, plan.key)
        change = plan.change
        if state.waiting and batch.take:
            change = change or Change()  # what waited is covered by this
            change.drop.append("waits")
        planned = Planned(sealed, header, batch.take, len(pieces), plan.kind, topic, seq, batch.marker, change)
        say = Say(
            turn=str(state.fence),
            planned=planned,
            pieces=pieces,
            take=batch.take,
            topic=topic,
            marker=batch.marker,
            first=plan.first,
            reply_to=batch.newest if state.ready.chat_id < 0 else 0,
            above=batch.newest,
            fate=batch.fate,
            markup=keyboard(record),
            undelivered=self._when_lost(state, str(state.fence), plan.kind, topic, record),
        )
        fate = await self._sent(state, say, None, watch)
        self._count(plan.kind, fate, batch.started)
        if plan.kind == "answer" and fate in SAID:
            self._desk.window.grown(state, topic, seq, plan.first, record)
        return fate

    async def tell(self, state: ChatState, batch: Batch, outcome: Outcome) -> None:
        """Says a sentence of our own; nothing of it is kept as history."""
        await self.say(state, batch, Plan(self._told(state, batch, outcome), "notice", outcome.change))

    def _told(self, state: ChatState, batch: Batch, outcome: Outcome) -> Record:
        language = outcome.language or self.language(state, batch)
        words = self._desk.words
        said = [words.say(part, language) for part in (outcome.text, *outcome.also)]
        rows = tuple(tuple((words.say(label, language), data) for label, data in row) for row in outcome.buttons)
        return with_marks(Record(batch.asked, "\n\n".join(said), plain=True), buttons=rows)

    async def revise(self, state: ChatState, batch: Batch, message_id: int, outcome: Outcome) -> None:
        """Shows a sentence of our own in the place of one that stands; as a message of its own where that cannot be."""
        record = self._told(state, batch, outcome)
        [piece, *more] = self.pieces(record)
        chat_id = state.ready.chat_id
        if (
            more
            or not isinstance(piece, Piece)
            or not await self._desk.lane.revise(chat_id, message_id, piece, keyboard(record))
        ):
            await self.tell(state, batch, outcome)
            return
        await self._desk.journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate)

    async def offer_again(self, state: ChatState, topic: int, turn: StoredTurn) -> None:
        """A button under the answer to a question that was corrected; cosmetic, so nothing waits for it."""
        if not turn.answer_ids:
            return
        language = state.chosen or state.language
        button = {
            "text": self._desk.words.say(texts.ANSWER_AGAIN, language),
            "callback_data": f"again:{topic}:{turn.number}",
        }
        await self._desk.lane.revise(state.ready.chat_id, turn.answer_ids[-1], None, {"inline_keyboard": [[button]]})

    def end_waiting_signs(self, presses: list[str]) -> None:
        """Of buttons that were pressed."""
        for callback_id in presses:
            self._desk.aside(self._answer_press(callback_id))

    async def _answer_press(self, callback_id: str) -> None:
        """Ends the button's waiting sign; after some minutes Telegram no longer takes it."""
        try:
            parameters = {"callback_query_id": callback_id}
            await self._desk.telegram.call("answerCallbackQuery", parameters, seconds=_PRESS_SECONDS)
        except TelegramError as error:
            _log.info("press.unanswered", reason=str(error))

    async def tell_fault(self, state: ChatState, batch: Batch, sentence: str) -> None:
        """Tells of a fault, with a way to a person."""
        await self.tell(state, batch, self.fault(state, sentence))

    def fault(self, state: ChatState, sentence: Sentence | str, change: Change | None = None) -> Outcome:
        """A sentence that tells of a fault, with a way to a person."""
        if self._desk.hand_off.can_call(state):
            return Outcome(sentence, buttons=deeds.PERSON_BUTTON, change=change)
        return Outcome(sentence, self._desk.manner.contact, change=change)

    async def resume(self, state: ChatState, opened: OpenTurn, watch: Watch) -> None:
        """Says what an earlier worker had journaled, word for word."""
        try:
            record = await self._desk.window.opened(state, opened.topic, opened.seq, opened.record)
        except SealBrokenError:
            await self.abandon(state, opened)
            return
        parcels = self._desk.parcels.of(state, record)
        say = Say(
            turn=opened.turn,
            planned=None,
            pieces=(parcels or self.pieces(record))[: opened.pieces],
            take=opened.take,
            topic=opened.topic,
            marker=opened.marker,
            markup=keyboard(record),
            undelivered=self._when_lost(state, opened.turn, opened.kind, opened.topic, record),
        )
        fate = await self._sent(state, say, opened, watch if parcels else None)
        self._count(opened.kind, fate, time.monotonic())

    async def abandon(self, state: ChatState, opened: OpenTurn) -> None:
        """Ends a journaled turn whose words cannot be said any more."""
        _log.error("turn.abandoned", kind=opened.kind)
        await self._desk.journal.finish(
            state, take=opened.take, turn=opened.turn, topic=opened.topic, marker=opened.marker, fate=Fate.UNDELIVERABLE
        )

    def language(self, state: ChatState, batch: Batch) -> str:
        """Of our own sentences: by /language, else as the customer's Telegram says now, or said last."""
        return state.chosen or batch.language or state.language

    def pieces(self, record: Record) -> list[Piece | Copy]:
        """The messages that show a record; none where nothing of it is visible."""
        return shown(record, rich=self._desk.manner.rich)

    def preview(self, state: ChatState, topic: int, *, upload: bool = False) -> Preview:
        """What shows that something is on its way."""

        async def standing() -> bool:
            stands, called = await self._desk.journal.standing(state)
            if called:
                self._desk.control.call(state.ready.chat_id)
            return stands

        return Preview(
            self._desk.telegram,
            self._desk.pace,
            state.ready.chat_id,
            topic,
            draft_id=state.fence,
            action="upload_document" if upload else "" if state.ready.chat_id > 0 else "typing",
            standing=standing,
            recheck=self._desk.recheck,
            dressed=partial(self._desk.guard.shown, growing=True),
        )

    async def _sent(self, state: ChatState, say: Say, opened: OpenTurn | None, watch: Watch | None) -> Fate:
        if watch is None:
            return await self._desk.lane.say(state, say, opened)
        several = len(say.pieces) > 1
        progress = self.preview(state, say.topic, upload=not several)
        progress.start()
        if several:
            say = replace(
                say, pieces=[self._counted(state, say, number, progress) for number in range(len(say.pieces))]
            )
        try:
            sending = self._desk.lane.say(state, say, opened)
            return await self._calls.unless_called(state, watch, say.take, say.topic, sending, only_erase=True)
        finally:
            await progress.close()

    def _counted(self, state: ChatState, say: Say, number: int, progress: Preview) -> Piece | Parcel | Copy:
        """A part of an export that tells how far it is, when it is being made."""
        part, values = say.pieces[number], {"part": number + 1, "parts": len(say.pieces)}
        if not isinstance(part, Parcel):
            return part
        text = self._desk.words.say(Sentence(texts.EXPORT_PROGRESS, values), state.chosen or state.language)
        chunks = part.file.chunks

        async def told() -> AsyncIterator[bytes]:
            progress.show(text)
            async for chunk in chunks():
                yield chunk

        return replace(part, file=replace(part.file, chunks=told))

    def _when_lost(
        self, state: ChatState, turn: str, kind: str, topic: int, record: Record
    ) -> Callable[[Fate], Awaitable[None]]:
        """Silence is not an answer: whoever sent the words is told, or the customer that there were some."""

        async def tell(fate: Fate) -> None:
            if (sender := sender_of(record)) is not None:
                await self._desk.hand_off.undelivered(state, sender)
            elif fate is Fate.UNDELIVERABLE and kind in _TOLD:
                content = {"kind": "lost", "chat_id": 0, "topic": topic, "text": kind}
                await self._desk.post.letter(state.ready.chat_id, _LOST + int(turn), content)

        return tell

    def _count(self, kind: str, fate: Fate, started: float) -> None:
        metrics = self._desk.metrics
        metrics.turns.labels(kind if fate in SAID else fate.name.lower()).inc()
        metrics.answer.observe(time.monotonic() - started)


def now(record: Record) -> Record:
    """The record with the time at which it was said, in whole seconds."""
    return Record(record.asked, record.said, record.plain, record.model, {**record.more, "t": int(time.time())})

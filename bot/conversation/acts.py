"""Carries out what commands, buttons and letters ask for. What they come to is decided in ``deeds`` and ``handoff``."""

import time
from dataclasses import replace
from typing import Final

from bot import alerts, texts
from bot.conversation import deeds
from bot.conversation.batch import MOST_MAIL, Batch
from bot.conversation.control import Watch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Deed, Letter, Notice, Question, Sender
from bot.conversation.record import Record
from bot.conversation.shown import with_marks
from bot.conversation.speaker import Plan, Speaker, now
from bot.errors import TelegramError
from bot.logs import get_logger
from bot.privacy.erase import receipt
from storage.datakey import DataKey
from storage.journal import Change, ChatState

_PRESS_SECONDS: Final = 5.0
_TO_OPERATORS: Final = frozenset({"opening", "relay", "ended", "failed"})
_log = get_logger(__name__)


class Acts:
    """Each act ends its turn. Raises StaleFenceError, LaterError, StorageError, CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker) -> None:
        self._desk = desk
        self._speaker = speaker

    async def carry_out(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> None:
        """A command, or a press of a button."""
        self._end_waiting_signs(batch.presses)
        match act.deed:
            case Deed.EXPORT:
                await self._export(state, batch, act, watch)
            case Deed.TIDY if act.by == act.user:
                await self._tidy(state, batch)
            case Deed.PERSON:
                await self._call_person(state, batch, act)
            case Deed.BACK:
                await self._speaker.tell(state, batch, await self._desk.hand_off.back(state, batch, act))
            case _:
                await self._speaker.tell(state, batch, deeds.outcome(state, batch, act))

    def as_question(self, state: ChatState, batch: Batch, act: Act) -> Batch:
        """A press of Continue is a question like any other."""
        self._end_waiting_signs(batch.presses)
        text = self._desk.words.say(texts.PLEASE_CONTINUE, self._speaker.language(state, batch))
        question = Question(
            act.message_id, act.topic, text, int(time.time()), len(text), language=act.language, name=act.name
        )
        return replace(batch, act=None, questions=[question], sources=[batch.last])

    async def deliver(self, state: ChatState, batch: Batch, letter: Letter) -> None:
        """Says what came from another chat of the bot."""
        hand_off = self._desk.hand_off
        language = self._speaker.language(state, batch)
        sender = Sender(letter.chat_id, batch.last, letter.about_topic) if letter.chat_id else None
        if letter.kind == "back" and state.handed_ms:
            await self._speaker.tell(state, batch, Outcome(texts.HANDED_BACK, change=Change(drop=["handed"])))
        elif letter.kind == "lost":
            sentence = texts.EXPORT_REFUSED if letter.text == "export" else texts.UNDELIVERABLE
            await self._speaker.tell_fault(state, batch, sentence)
        elif letter.kind == "unread" and await hand_off.is_alone(state):
            nobody = Outcome(texts.NO_PERSON, self._desk.manner.contact, change=Change(drop=["handed"]))
            await self._speaker.tell(state, batch, nobody)
        elif letter.kind == "reply":
            head = self._desk.words.say(texts.FROM_TEAM, language)
            record = now(Record((), letter.text or texts.RELAY_OTHER))
            copy = self._copy(letter, language)
            record = with_marks(record, state="operator", head=head, copy=copy, sender=sender)
            await self._speaker.say(state, batch, Plan(record, "answer"))
        elif letter.kind == "alert" and hand_off.is_operator(state.ready.chat_id):
            record = Record((), alerts.told(letter.name, letter.values, self._desk.words, language), plain=True)
            await self._speaker.say(state, batch, Plan(record, "notice"))
        elif (key := await self._readable(state, letter)) is not None:
            text = hand_off.told(letter, language)
            link = Change(link=f"{letter.chat_id}:{letter.about_topic}") if letter.chat_id else None
            record = Record((), text, plain=True)
            record = with_marks(record, copy=self._copy(letter, language), sender=sender)
            await self._speaker.say(state, batch, Plan(record, "relay", link, key=key))
        else:
            # Nothing is to be said any more: nobody is there to read it, or the assistant is back already.
            await self._desk.journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate)

    async def _readable(self, state: ChatState, letter: Letter) -> DataKey | None:
        """The key of a letter to an operator; None where the reader is none now, or its customer had it deleted."""
        if letter.kind not in _TO_OPERATORS or not self._desk.hand_off.is_operator(state.ready.chat_id):
            return None
        return await self._desk.vault.key_of(letter.sealed)

    def _copy(self, letter: Letter, language: str) -> tuple[int, int, str] | None:
        """What to copy from the writer's chat."""
        if not letter.copy:
            return None
        return letter.chat_id, letter.copy, self._desk.words.say(texts.RELAY_OTHER, language)

    # ---- forgetting
    async def begin_forget(self, state: ChatState) -> bool:
        """Whether a confirmed forget is in the mail: it goes before everything that was written before it."""
        opened = state.open_turn
        if state.forgetting:
            return False  # one at a time: the receipt of the last one goes first
        mail = state.mail if len(state.mail) < MOST_MAIL else await self._desk.journal.mail(state)
        for place, item, act in await self._desk.reader.urgent(state, mail):
            if not deeds.is_confirmed(state, act, item.received_ms):
                continue
            topic = None if act.argument == deeds.ALL else act.topic
            if opened is not None and (opened.kind == "relay" or topic not in {None, opened.topic}):
                return False  # what is being said is none of what is forgotten
            self._end_waiting_signs([act.pressed] if act.pressed else [])
            beside = await self._desk.reader.beside(state, mail[: place + 1], topic)
            language = state.chosen or act.language or state.language
            await self._desk.eraser.begin(state, act, place + 1, beside, language)
            await self._desk.journal.park(state, 0)
            return True
        return False

    async def go_on_forgetting(self, state: ChatState) -> None:
        """Carries out a forget that has begun, and tells what was deleted."""
        await self._desk.eraser.go_on(state, state.forgetting)
        place = Batch(notice=Notice("", state.forgetting["topic"]))
        await self._speaker.tell(state, place, receipt(state.forgetting))

    # ---- the others
    async def _call_person(self, state: ChatState, batch: Batch, act: Act) -> None:
        past = await self._desk.window.read(state, batch.topic)
        outcome = await self._desk.hand_off.call(state, batch, past, act)
        if outcome.text == texts.NO_PERSON:
            again = (texts.ASK_AGAIN,) if batch.questions else ()
            outcome = Outcome(outcome.text, (*self._desk.manner.contact, *again))
        if outcome.change is None or not batch.questions:
            await self._speaker.tell(state, batch, outcome)
            return
        said = self._desk.words.say(outcome.text, self._speaker.language(state, batch))
        record = with_marks(now(Record(batch.asked, "")), state="handed", show=said)
        await self._speaker.say(state, batch, Plan(record, "answer", outcome.change))

    async def _export(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> None:
        if not act.private:
            await self._speaker.tell(state, batch, Outcome(texts.EXPORT_PRIVATE))
            return
        record = await self._desk.parcels.plan(state, self._speaker.language(state, batch))
        if record is None:
            await self._speaker.tell(state, batch, Outcome(texts.EXPORT_NOTHING))
            return
        await self._speaker.say(state, batch, Plan(record, "export"), watch)

    async def _tidy(self, state: ChatState, batch: Batch) -> None:
        """Removes our own messages of what was forgotten, as far as Telegram lets us."""
        count = 0
        for message_id in state.tidy:
            count += await self._desk.lane.withdraw(state.ready.chat_id, message_id)
        sentence = texts.Sentence(texts.REMOVED, plural=texts.REMOVED_MANY, count=count)
        await self._speaker.tell(state, batch, Outcome(sentence, change=Change(drop=["tidy"])))

    def _end_waiting_signs(self, presses: list[str]) -> None:
        for callback_id in presses:
            self._desk.aside(self._answer_press(callback_id))

    async def _answer_press(self, callback_id: str) -> None:
        """Ends the button's waiting sign; after some minutes Telegram no longer takes it."""
        try:
            parameters = {"callback_query_id": callback_id}
            await self._desk.telegram.call("answerCallbackQuery", parameters, seconds=_PRESS_SECONDS)
        except TelegramError as error:
            _log.info("press.unanswered", reason=str(error))

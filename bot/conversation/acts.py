"""Carries out what commands, buttons and letters ask for. What they come to is decided in ``deeds`` and ``handoff``."""

import time
from dataclasses import replace
from typing import Final

from bot import alerts, texts
from bot.conversation import deeds
from bot.conversation.batch import Batch
from bot.conversation.consent import Consenting
from bot.conversation.control import Watch
from bot.conversation.data_acts import DataActs
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.imports import Imports
from bot.conversation.intents import Act, Deed, Letter, Question, Sender
from bot.conversation.record import Record
from bot.conversation.shown import with_marks
from bot.conversation.speaker import Plan, Speaker, now
from storage.datakey import DataKey
from storage.journal import Change, ChatState

_TO_OPERATORS: Final = frozenset({"opening", "relay", "ended", "failed"})


class Acts:
    """Each act ends its turn. Raises StaleFenceError, LaterError, StorageError, CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker, data: DataActs, consenting: Consenting, imports: Imports) -> None:
        self._desk = desk
        self._speaker = speaker
        self._data = data
        self._consenting = consenting
        self._imports = imports

    async def carry_out(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> None:
        """A command, or a press of a button."""
        self._speaker.end_waiting_signs(batch.presses)
        match act.deed:
            case Deed.CONSENT:
                await self._consenting.pressed(state, batch, act)
            case Deed.IMPORT:
                await self._imports.press(state, batch, act, watch)
            case Deed.PERSON:
                await self._call_person(state, batch, act)
            case Deed.BACK:
                await self._speaker.tell(state, batch, await self._desk.hand_off.back(state, batch, act))
            case _ if not await self._data.carry_out(state, batch, act, watch):
                await self._speaker.tell(state, batch, deeds.outcome(state, batch, act))

    async def as_question(self, state: ChatState, batch: Batch, act: Act) -> Batch | None:
        """A press of Continue, or of Answer again, is a question like any other; None where it means nothing now."""
        if act.deed is Deed.AGAIN:
            turn = await self._desk.window.turn(state, act.topic, act.number)
            text = turn.record.question if turn else ""
        else:
            goes_on = deeds.goes_on(state, act)
            text = self._desk.words.say(texts.PLEASE_CONTINUE, self._speaker.language(state, batch)) if goes_on else ""
        if not text:
            return None
        self._speaker.end_waiting_signs(batch.presses)
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
        elif letter.kind == "import":
            await self._imports.carry_out(state, batch, letter)
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

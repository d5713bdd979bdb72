"""A turn: from the mail of a claimed chat to one visible outcome, journaled at each step.

received (in the mailbox) → asked (claimed, the chat API works) → sending (journaled) → final (a message id is
registered) → done (history grown, mailbox shrunk, chat handed on). Until *sending* a death costs nothing: the next
worker asks again. From *sending* on the words are fixed, and the next worker says the same ones.
"""

import asyncio
from typing import Final

from bot import texts
from bot.conversation.acts import Acts
from bot.conversation.answering import Answering
from bot.conversation.batch import MOST_MAIL, Batch, HandlerFailedError
from bot.conversation.calls import CalledAwayError, Calls
from bot.conversation.consent import Consenting
from bot.conversation.control import Watch
from bot.conversation.data_acts import DataActs
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.imports import Imports
from bot.conversation.intents import Deed
from bot.conversation.record import Record
from bot.conversation.shown import with_marks
from bot.conversation.speaker import Plan, Speaker, now
from bot.conversation.waiting import is_waiting
from bot.delivery.lane import LaterError
from bot.logs import get_logger
from storage.inbox import Mail, Ready
from storage.journal import TIRED_AFTER, ChatState

CRASHES: Final = 20
FAILURES: Final = 5
MOST_TURNS: Final = 32
"""A window of up to so many turns comes with the claim; a longer one costs a call of its own."""

_REST_SECONDS: Final = 0.25
_LONGEST_REST_SECONDS: Final = 15.0
_log = get_logger(__name__)


class Turns:
    """Works on claimed chats. ``work`` always leaves the chat finished, parked, or to whoever took it over."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._window = desk.window
        self._metrics = desk.metrics
        self._calls = Calls(desk)
        self._speaker = Speaker(desk, self._calls)
        self._consenting = Consenting(desk, self._speaker)
        self._data = DataActs(desk, self._speaker)
        self._imports = Imports(desk, self._speaker, self._calls)
        self._acts = Acts(desk, self._speaker, self._data, self._consenting, self._imports)
        self._answering = Answering(desk, self._speaker, self._calls)

    async def work(self, ready: Ready) -> bool:
        """One claim of one chat; False when the entry no longer stands for the chat. Raises StorageError."""
        with self._desk.control.watching(ready.chat_id) as watch:
            turns = 0 if self._window.remembers(ready.chat_id) else MOST_TURNS
            state = await self._journal.begin(ready, MOST_MAIL, turns=turns)
            if state is None:
                return False
            try:
                await self._go(state, watch)
            except asyncio.CancelledError:
                await asyncio.shield(self._journal.park(state, 0, how="count"))
                raise
            except CalledAwayError:
                # What called comes next, or what it left is taken up again; counted, so that none goes round for ever.
                await self._journal.park(state, 0, how="count")
            except LaterError as error:
                await self._journal.park(state, int(error.seconds * 1000))
            except HandlerFailedError as error:
                await self._after_failure(state, error.mail)
            return True

    async def _go(self, state: ChatState, watch: Watch) -> None:
        if state.until_ms > state.now_ms:
            # Woken before its time, by something urgent: a forget goes on, all else waits until Telegram lets us speak.
            if await self._data.begin_forget(state):
                return
            # A question that waits for the model may be stopped, or be taken over by a person.
            if state.open_turn is not None or not is_waiting(state) or not await self._is_called(state):
                await self._journal.park(state, state.until_ms - state.now_ms, how="rest")
                return
        if state.tired:
            # Crashes of the process, not of a handler: give whatever dies here time to recover.
            rest = min(_REST_SECONDS * 2 ** (state.claims - TIRED_AFTER), _LONGEST_REST_SECONDS)
            await self._journal.park(state, int(rest * 1000), how="rest")
            return
        if state.forgetting and state.open_turn is None:
            await self._data.go_on_forgetting(state)
            return
        # Words that are fixed may stand already: they get twice as many tries before they are given up.
        if state.claims > (CRASHES if state.open_turn is None else 2 * CRASHES):
            await self._give_up(state)
            return
        if await self._data.begin_forget(state):
            return
        if state.open_turn is not None:
            await self._speaker.resume(state, state.open_turn, watch)
            return
        await self._handle(state, await self._desk.reader.gather(state), watch)

    async def _is_called(self, state: ChatState) -> bool:
        return bool(await self._desk.reader.urgent(state, state.mail))

    async def _handle(self, state: ChatState, batch: Batch, watch: Watch) -> None:
        hand_off = self._desk.hand_off
        for correction, source in batch.corrections:
            await hand_off.correct(state, correction, source)
        for topic, turn in batch.corrected:
            await self._forget_remotely(state, topic)
            self._desk.aside(self._speaker.offer_again(state, topic, turn))
        anew = None
        if batch.act is not None and batch.act.deed in {Deed.MORE, Deed.AGAIN}:
            anew = await self._acts.as_question(state, batch, batch.act)
        if anew is not None:
            await self._hear(state, anew, watch)
        elif batch.act is not None:
            await self._acts.carry_out(state, batch, batch.act, watch)
        elif batch.letter is not None:
            await self._acts.deliver(state, batch, batch.letter)
        elif batch.questions:
            await self._hear(state, batch, watch)
        elif batch.notice is not None:
            told = batch.notice.text in {texts.WELCOME, texts.HELP} and hand_off.is_operator(state.ready.chat_id)
            await self._speaker.tell(state, batch, Outcome(batch.notice.text, (texts.OPERATOR,) if told else ()))
        else:
            since = batch.blocked_ms or None
            await self._journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate, blocked_ms=since)

    async def _forget_remotely(self, state: ChatState, topic: int) -> None:
        """What a provider keeps of a conversation holds the words as they were: it is deleted there, and told anew."""
        place = [(topic, state.conversation_of(topic))]
        if await self._desk.remotes.condemn(state, place):
            await self._journal.put(state, {}, [f"r:{topic}"])
            await self._desk.remotes.drop(state, place)
            state.remote.pop(topic, None)

    async def _hear(self, state: ChatState, batch: Batch, watch: Watch) -> None:
        hand_off = self._desk.hand_off
        if self._imports.is_due(state, batch):
            await self._imports.weigh(state, batch, watch)
        elif await hand_off.replied(state, batch):
            await self._journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate)
        elif hand_off.is_held(state):
            await hand_off.pass_on(state, batch)
            record = with_marks(now(Record(batch.asked, "")), state="handed")
            await self._speaker.say(state, batch, Plan(record, "answer"))
        elif batch.questions[0].other:
            await self._speaker.tell(state, batch, Outcome(texts.ONLY_TEXT))
        elif await self._consenting.settled(state, batch):
            await self._answering.answer(state, batch, watch)

    # ---- what cannot be handled
    async def _after_failure(self, state: ChatState, mail: Mail) -> None:
        failures = await self._journal.fail(state)
        if failures < FAILURES:
            await self._journal.park(state, 100 * 2**failures)
            return
        await self._set_aside(state, mail)

    async def _give_up(self, state: ChatState) -> None:
        if state.open_turn is not None:
            await self._speaker.abandon(state, state.open_turn)
        elif state.mail:
            await self._set_aside(state, state.mail[0])

    async def _set_aside(self, state: ChatState, mail: Mail) -> None:
        """The customer gets an apology, the operator a record, and the next message goes on."""
        self._metrics.set_aside.inc()
        _log.error("turn.set_aside", update=mail.update_id)
        await self._journal.set_aside(state, mail)
        await self._speaker.tell_fault(state, Batch(take=1, marker=mail.kind == "over"), texts.SET_ASIDE)

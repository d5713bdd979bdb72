"""From questions to the model's answer: what it is told, what the answer comes to, what happens while there is none.

A question that no chat API can answer now waits at the front of its mailbox: the customer is told once, the chat rests
between tries, and after a limit a person takes over. Only what is wrong with the question itself ends in a sentence.
"""

import random
import time
from typing import Final

from bot import texts
from bot.budget import Verdict
from bot.chat_api.asking import CUT, FILTER, LENGTH, Answer, Ask, Message, Remote
from bot.conversation import deeds
from bot.conversation.batch import Batch
from bot.conversation.calls import CalledAwayError, Calls
from bot.conversation.context import Context, Past, QuestionTooLongError, build
from bot.conversation.control import Watch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Deed, Notice
from bot.conversation.record import Record
from bot.conversation.shown import Buttons, with_marks
from bot.conversation.speaker import Plan, Speaker, now
from bot.conversation.tokens import count_tokens
from bot.errors import ChatApiDownError, ChatApiError, ChatApiRefusedError, Reason
from bot.logs import get_logger
from bot.texts import Sentence
from storage.journal import Change, ChatState

_SHARES: Final = (1.0, 0.5, 0.25)
"""Of the budget of a request, where the model says that it is too much for it."""

_DOWN: Final = "down"
_SLOWED: Final = "slowed"
_SAID_AGAIN_MS: Final = 60_000
_LONGEST_REST_MS: Final = 15_000
_REFUSALS: Final = {Reason.CONTENT: texts.FILTERED, Reason.SIZE: texts.TOO_LONG}
_CUTS: Final = {LENGTH: texts.CUT_LENGTH, FILTER: texts.CUT_FILTER, CUT: texts.CUT_FAULT}
_log = get_logger(__name__)


class Answering:
    """Each answer ends its turn, or leaves it for later. Raises StaleFenceError, LaterError, StorageError,
    CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker, calls: Calls) -> None:
        self._desk = desk
        self._speaker = speaker
        self._calls = calls

    async def answer(self, state: ChatState, batch: Batch, watch: Watch) -> None:
        """Of the questions of a batch."""
        since, manner = _since(state, _DOWN), self._desk.manner
        if since and state.now_ms - since < manner.rest_ms:
            await self._desk.journal.park(state, manner.rest_ms)  # just told to wait
            return
        if (verdict := await self._desk.budget.verdict(state, len(batch.questions))) is not None:
            await self._at_limit(state, batch, verdict)
            return
        past = await self._desk.window.read(state, batch.topic)
        try:
            plan = await self._planned(state, batch, past, watch)
        except QuestionTooLongError:
            await self._speaker.tell(state, batch, Outcome(texts.TOO_LONG))
        except ChatApiDownError as down:
            await self._wait(state, batch, past, down)
        except ChatApiError as error:
            charge = Change(spend=(len(batch.questions), 0, 0)) if self._desk.budget.counts else None
            await self._speaker.tell(state, batch, self._speaker.fault(state, _sentence(error), charge))
        else:
            await self._speaker.say(state, batch, plan)

    async def _planned(self, state: ChatState, batch: Batch, past: list[Past], watch: Watch) -> Plan:
        """The answer, asked for with less where it was too much. Raises ChatApiError, QuestionTooLongError."""
        manner, notebook = self._desk.manner, self._desk.notebook
        notes = await notebook.read(state, batch.topic)
        question = Record(batch.asked, "").question
        for share in _SHARES:
            context = build(manner.prompt, past, question, int(manner.context_tokens * share), notes)
            try:
                plan = await self._asked(state, batch, context, past, watch)
            except ChatApiError as error:
                self._desk.metrics.chat_api_failures.labels(type(error).__name__).inc()
                _log.warning("turn.unanswered", error=str(error))
                too_much = isinstance(error, ChatApiRefusedError) and error.reason is Reason.SIZE
                if not too_much or share == _SHARES[-1]:
                    raise
            else:
                if await notebook.keep(state, batch.topic, context, notes):
                    dropped = [turn for turn in past if turn.stored.number < (context.first or 0)]
                    self._desk.aside(notebook.summarise(state, batch.topic, dropped))
                return plan
        raise AssertionError  # the last share returned or raised

    async def _asked(self, state: ChatState, batch: Batch, context: Context, past: list[Past], watch: Watch) -> Plan:
        """One ask of the chat API. Raises CalledAwayError where neither answer nor sentence is due yet."""
        ask = await self._ask(state, batch.topic, context, past)
        preview = self._speaker.preview(state, batch.topic)
        preview.start()
        try:
            asking = self._desk.chat_api.ask(ask, preview.show, patient=not is_waiting(state))
            answer = await self._calls.unless_called(state, watch, batch.take, batch.topic, asking)
        except CalledAwayError as call:
            await preview.close()
            return await self._stopped(state, batch, context, preview.text.rstrip(), call)
        except ChatApiError:
            await preview.close()
            raise
        finally:
            preview.complete()
        self._desk.metrics.first_token.observe(answer.first_seconds)
        await preview.close()
        return await self._heard(state, batch, context, answer)

    async def _ask(self, state: ChatState, topic: int, context: Context, past: list[Past]) -> Ask:
        """What the chat API is asked; a provider that keeps the conversation is told only what it does not know."""
        remotes = self._desk.remotes
        if not self._desk.chat_api.keeps:
            return Ask(context.messages, user=remotes.pseudonym(state))
        held = await remotes.held(state, topic, past, trimmed=context.first is not None)

        async def keep(remote: Remote) -> None:
            await remotes.keep(state, topic, remote)

        news = _after(past, held.upto) if held else []
        return Ask(
            context.messages,
            [*news, context.messages[-1]] if held else [],
            held.remote if held else None,
            remotes.pseudonym(state),
            keep,
        )

    async def _heard(self, state: ChatState, batch: Batch, context: Context, answer: Answer) -> Plan:
        """The plan to say an answer."""
        seq = state.last.get(batch.topic, 0) + 1
        put = await self._desk.remotes.put(state, batch.topic, seq, answer.remote)
        spend = self._spend(batch, context, answer)
        change = Change(put, spend=spend) if put or spend else None
        record = self._answered(batch, answer.text, answer)
        if answer.finish:
            record = self._cut(state, batch, record, answer.finish, seq)
        pieces = self._speaker.pieces(record)
        if not pieces:
            words = self._desk.words.say(texts.EMPTY_ANSWER, self._speaker.language(state, batch))
            return Plan(Record(batch.asked, words, plain=True), "notice", change, context.first)
        return Plan(record, "answer", change, context.first, pieces=pieces)

    def _spend(self, batch: Batch, context: Context, answer: Answer) -> tuple[int, int, int] | None:
        """What an answer is charged; where the server does not tell the tokens, they are counted here."""
        budget, metrics = self._desk.budget, self._desk.metrics
        if not budget.counts and answer.prompt_tokens is None:
            return None
        prompt = answer.prompt_tokens
        if prompt is None:
            prompt = sum(count_tokens(message["content"]) for message in context.messages)
        said = answer.answer_tokens if answer.answer_tokens is not None else count_tokens(answer.text)
        cached = answer.cached_tokens or 0
        spend = budget.spend(len(batch.questions), answer.model, prompt, said, cached)
        for kind, tokens in (("prompt", prompt), ("cached", cached), ("answer", said)):
            metrics.tokens.labels(kind).inc(tokens)
        metrics.cost.labels(self._desk.manner.version).inc(spend[2] / 1_000_000)
        metrics.answer_cost.observe(spend[2] / 1_000_000)
        return spend if budget.counts else None

    def _cut(self, state: ChatState, batch: Batch, record: Record, finish: str, seq: int) -> Record:
        """An answer that ends early says so, and can be gone on with."""
        words, language = self._desk.words, self._speaker.language(state, batch)
        buttons: Buttons = (((texts.CONTINUE, f"more:{batch.topic}:{seq}"),),)
        if finish == FILTER:
            buttons = deeds.PERSON_BUTTON if self._desk.hand_off.can_call(state) else ()
        rows = tuple(tuple((words.say(label, language), data) for label, data in row) for row in buttons)
        return with_marks(record, state="cut", tail=words.say(_CUTS[finish], language), buttons=rows)

    async def _stopped(
        self, state: ChatState, batch: Batch, context: Context, text: str, call: CalledAwayError
    ) -> Plan:
        """What was shown is kept, marked as stopped. Without any of it, what called covers the question, too, or a
        sentence does where other mail lies between. What it used is charged in any case."""
        record = self._answered(batch, text)
        language = self._speaker.language(state, batch)
        spend = self._spend(batch, context, Answer(text, model=self._desk.manner.model))
        pieces = self._speaker.pieces(record)
        if call.act.deed is Deed.ERASE or (call.is_next and not pieces):
            if spend is not None:
                await self._desk.journal.charge(state, spend)
            raise call
        put = {"stopped": str(call.source)} if call.act.deed is Deed.STOP else {}
        change = Change(put, spend=spend) if put or spend else None
        if not pieces:
            words = self._desk.words.say(texts.STOPPED, language)
            return Plan(Record(batch.asked, words, plain=True), "notice", change, context.first)
        mark = self._desk.words.say(texts.STOPPED_MARK, language)
        return Plan(with_marks(record, state="stopped", tail=mark), "answer", change, context.first)

    def _answered(self, batch: Batch, text: str, answer: Answer | None = None) -> Record:
        manner = self._desk.manner
        more: dict[str, object] = {"version": manner.version}
        if answer is not None and answer.prompt_tokens is not None:
            more["tokens"] = [answer.prompt_tokens, answer.cached_tokens or 0, answer.answer_tokens or 0]
        model = answer.model if answer is not None else manner.model
        return now(Record(batch.asked, text, model=model, more=more))

    # ---- at a limit
    async def _at_limit(self, state: ChatState, batch: Batch, verdict: Verdict) -> None:
        """Within a minute questions wait; for longer than that they get a sentence, and that once a minute."""
        rest = max(verdict.back_ms - state.now_ms, 1)
        if verdict.limit.period == "minute":
            if not _since(state, _SLOWED):
                seconds = Sentence(texts.SLOWED, {"seconds": rest // 1000 + 1})
                await self._tell_to_wait(state, batch, _SLOWED, seconds)
            else:
                await self._desk.journal.park(state, rest)
            return
        quiet = state.told_ms + _SAID_AGAIN_MS - state.now_ms
        if quiet > 0:
            await self._desk.journal.park(state, quiet)
            return
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(verdict.back_ms // 1000))
        text = texts.LIMIT_CUSTOMER if verdict.whose == "customer" else texts.LIMIT_TOTAL
        told = Change({"told": str(state.now_ms)})
        await self._speaker.tell(state, batch, self._speaker.fault(state, Sentence(text, {"when": when}), told))

    async def _tell_to_wait(self, state: ChatState, batch: Batch, why: str, sentence: Sentence | str) -> None:
        """Says why the questions wait, and leaves them in the mailbox."""
        waits = Change({"waits": f"{state.now_ms}:{why}"})
        beside = Batch(notice=Notice("", batch.topic, batch.newest, batch.language), fate=batch.fate)
        await self._speaker.tell(state, beside, self._speaker.fault(state, sentence, waits))

    # ---- while no chat API answers
    async def _wait(self, state: ChatState, batch: Batch, past: list[Past], down: ChatApiDownError) -> None:
        since = _since(state, _DOWN)
        if not since:
            await self._tell_to_wait(state, batch, _DOWN, texts.WAITING)
        elif state.now_ms - since >= self._desk.manner.outage_ms:
            await self._give_up(state, batch, past)
        else:
            rest = min(
                max(self._desk.manner.rest_ms, (state.now_ms - since) // 4, int(down.seconds * 1000)), _LONGEST_REST_MS
            )
            spread = random.uniform(0.8, 1.0)  # noqa: S311 (keeps those who wait from asking all at once)
            await self._desk.journal.park(state, int(rest * spread))

    async def _give_up(self, state: ChatState, batch: Batch, past: list[Past]) -> None:
        """A person takes over where one can be reached."""
        batch.last = batch.sources[-1]
        first = batch.questions[0]
        act = Act(Deed.PERSON, batch.topic, first.message_id, batch.language, name=first.name)
        outcome = await self._desk.hand_off.call(state, batch, past, act)
        if outcome.change is None:
            await self._speaker.tell_fault(state, batch, texts.NO_ANSWER)
            return
        said = self._desk.words.say(texts.HANDED_FOR_LONG, self._speaker.language(state, batch))
        record = with_marks(now(Record(batch.asked, "")), state="handed", show=said)
        await self._speaker.say(state, batch, Plan(record, "answer", outcome.change))


def _sentence(error: ChatApiError) -> str:
    """What the customer reads where it is the question that gets no answer."""
    if isinstance(error, ChatApiRefusedError):
        return _REFUSALS.get(error.reason, texts.NOT_TAKEN)
    return texts.EMPTY_ANSWER


def is_waiting(state: ChatState) -> bool:
    """Whether the chat's first question waits, and only an urgent act or its time may wake it."""
    return bool(state.waiting)


def _since(state: ChatState, why: str) -> int:
    """Since when (ms) the first question waits for this reason, 0 if it does not."""
    since, _, reason = state.waiting.partition(":")
    return int(since) if reason == why else 0


def _after(past: list[Past], upto: int) -> list[Message]:
    """What was said after a turn."""
    told: list[Message] = []
    for turn in past:
        if turn.stored.number > upto:
            said = (("user", turn.record.question), ("assistant", turn.record.said))
            told += [{"role": role, "content": content} for role, content in said if content]
    return told

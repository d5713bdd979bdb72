"""From questions to the model's answer: what it is told, and what the answer comes to.

On the way both are looked at (see ``bot.safety``), and what an answer used is charged in the step that ends the turn.
What gets no answer now is for ``waiting``; only what is wrong with the question itself ends in a sentence here.
"""

from dataclasses import dataclass
from typing import Final

from bot import texts
from bot.chat_api.asking import CUT, FILTER, LENGTH, Answer, Ask, Message, Remote
from bot.conversation import deeds
from bot.conversation.batch import Batch
from bot.conversation.calls import CalledAwayError, Calls
from bot.conversation.context import Context, Past, QuestionTooLongError, build
from bot.conversation.control import Watch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.intents import Deed
from bot.conversation.record import Record
from bot.conversation.shown import Buttons, with_marks
from bot.conversation.speaker import Plan, Speaker, now
from bot.conversation.tokens import count_tokens
from bot.conversation.waiting import Spend, Waiting, is_waiting
from bot.errors import ChatApiDownError, ChatApiError, ChatApiRefusedError, Reason
from bot.logs import get_logger
from bot.safety.guard import GOOD, Judged
from bot.safety.moderation import Action, ModerationUnavailableError
from storage.journal import Change, ChatState

_SHARES: Final = (1.0, 0.5, 0.25)
"""Of the budget of a request, where the model says that it is too much for it."""

_WITHHELD: Final = frozenset({Action.REFUSE, Action.PERSON})
_REFUSALS: Final = {Reason.CONTENT: texts.FILTERED, Reason.SIZE: texts.TOO_LONG}
_CUTS: Final = {LENGTH: texts.CUT_LENGTH, FILTER: texts.CUT_FILTER, CUT: texts.CUT_FAULT}
_MICROS: Final = 1_000_000
_log = get_logger(__name__)


@dataclass(slots=True)
class _Case:
    """Questions being answered. ``action``: what is done about them; ``context``: what the model was told last."""

    state: ChatState
    batch: Batch
    watch: Watch
    past: list[Past]
    action: Action = Action.ANSWER
    context: Context | None = None

    @property
    def told(self) -> list[Message]:
        return self.context.messages if self.context else []

    @property
    def first(self) -> int | None:
        return self.context.first if self.context else None


class _WithheldError(Exception):
    """What may not be asked, or not be said; ``spend``: what was used for it is charged all the same."""

    def __init__(self, action: Action, spend: Spend | None = None) -> None:
        self.action = action
        self.spend = spend
        super().__init__(action.name)


class Answering:
    """Each answer ends its turn, or leaves it for later. Raises StaleFenceError, LaterError, StorageError,
    CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker, calls: Calls) -> None:
        self._desk = desk
        self._speaker = speaker
        self._calls = calls
        self._waiting = Waiting(desk, speaker)

    async def answer(self, state: ChatState, batch: Batch, watch: Watch) -> None:
        """Of the questions of a batch."""
        if await self._waiting.was_just_told(state):
            return
        if (verdict := await self._desk.budget.verdict(state, len(batch.questions))) is not None:
            await self._waiting.at_limit(state, batch, verdict)
            return
        case = _Case(state, batch, watch, await self._desk.window.read(state, batch.topic))
        try:
            plan = await self._planned(case)
        except QuestionTooLongError:
            await self._speaker.tell(state, batch, Outcome(texts.TOO_LONG))
        except ModerationUnavailableError as error:
            _log.warning("turn.unmoderated", error=str(error))
            await self._waiting.for_the_chat_api(state, batch, case.past, 0.0)
        except ChatApiDownError as down:
            await self._waiting.for_the_chat_api(state, batch, case.past, down.seconds)
        except ChatApiError as error:
            await self._refuse(case, _sentence(error), None)
        except _WithheldError as withheld:
            person = withheld.action is Action.PERSON
            hand_over = self._waiting.hand_over
            if not person or not await hand_over(state, batch, case.past, texts.HANDED, spend=withheld.spend):
                await self._refuse(case, texts.FILTERED, withheld.spend)
        else:
            await self._speaker.say(state, batch, plan)

    async def _refuse(self, case: _Case, sentence: str, spend: Spend | None) -> None:
        if spend is None and self._desk.budget.counts:
            spend = (len(case.batch.questions), 0, 0)
        drop = await self._desk.remotes.strayed(case.state, case.batch.topic)
        change = Change(drop=drop, spend=spend) if drop or spend else None
        await self._speaker.tell(case.state, case.batch, self._speaker.fault(case.state, sentence, change))

    # ---- asking
    async def _planned(self, case: _Case) -> Plan:
        """The answer, asked for with less where it was too much. Raises ChatApiError, QuestionTooLongError,
        ModerationUnavailableError, _WithheldError."""
        manner, notebook, topic = self._desk.manner, self._desk.notebook, case.batch.topic
        question = Record(case.batch.asked, "").question
        case.action = await self._desk.guard.question(question)
        if case.action in _WITHHELD:
            raise _WithheldError(case.action)
        notes = await notebook.read(case.state, topic)
        for share in _SHARES:
            case.context = build(manner.prompt, case.past, question, int(manner.context_tokens * share), notes)
            try:
                plan = await self._asked(case, case.context)
            except ChatApiError as error:
                self._desk.metrics.chat_api_failures.labels(type(error).__name__).inc()
                _log.warning("turn.unanswered", error=str(error))
                too_much = isinstance(error, ChatApiRefusedError) and error.reason is Reason.SIZE
                if not too_much or share == _SHARES[-1]:
                    raise
            else:
                if await notebook.keep(case.state, topic, case.context, notes):
                    dropped = [turn for turn in case.past if turn.stored.number < (case.first or 0)]
                    self._desk.aside(notebook.summarise(case.state, topic, dropped))
                return plan
        raise AssertionError  # the last share returned or raised

    async def _asked(self, case: _Case, context: Context) -> Plan:
        """One ask of the chat API. Raises CalledAwayError where neither answer nor sentence is due yet."""
        state, batch, guard = case.state, case.batch, self._desk.guard
        ask = await self._ask(case, context)
        preview = self._speaker.preview(state, batch.topic)
        preview.start()
        show = _unseen if guard.holds_back else preview.show
        try:
            asking = self._desk.chat_api.ask(ask, show, patient=not is_waiting(state))
            answer = await self._calls.unless_called(state, case.watch, batch.take, batch.topic, asking)
        except CalledAwayError as call:
            await preview.close()
            return await self._stopped(case, guard.shown(preview.text).rstrip(), call)
        except ChatApiError:
            await preview.close()
            raise
        finally:
            preview.complete()
        self._desk.metrics.first_token.observe(answer.first_seconds)
        await preview.close()
        answer.text = guard.shown(answer.text).rstrip()
        judged = await guard.answer(answer.text, [message["content"] for message in context.messages])
        return await self._heard(case, answer, judged)

    async def _ask(self, case: _Case, context: Context) -> Ask:
        """What the chat API is asked; a provider that keeps the conversation is told only what it does not know."""
        remotes, state, topic = self._desk.remotes, case.state, case.batch.topic
        if not self._desk.chat_api.keeps:
            return Ask(context.messages, user=remotes.pseudonym(state) if self._desk.chat_api.knows_customers else "")
        held = await remotes.held(state, topic, case.past, trimmed=context.first is not None)

        async def keep(remote: Remote) -> None:
            await remotes.keep(state, topic, remote)

        news = [*_after(case.past, held.upto), context.messages[-1]] if held else []
        return Ask(context.messages, news, held.remote if held else None, remotes.pseudonym(state), keep)

    # ---- what an answer comes to
    async def _heard(self, case: _Case, answer: Answer, judged: Judged) -> Plan:
        """The plan to say an answer. Raises _WithheldError where it may not be said."""
        state, batch = case.state, case.batch
        seq = state.last.get(batch.topic, 0) + 1
        spend = self._spend(case, answer)
        if judged.action in _WITHHELD:
            raise _WithheldError(judged.action, spend)
        put = await self._desk.remotes.put(state, batch.topic, seq, answer.remote)
        drop = [] if put else await self._desk.remotes.strayed(state, batch.topic)
        change = Change(put, drop, spend=spend) if put or drop or spend else None
        judged = Judged(max(case.action, judged.action), judged.unfounded)
        record = self._answered(batch, answer.text, answer)
        if answer.finish or judged != GOOD:
            record = self._marked(case, record, answer.finish, judged)
        pieces = self._speaker.pieces(record)
        if not pieces:
            words = self._desk.words.say(texts.EMPTY_ANSWER, self._speaker.language(state, batch))
            return Plan(Record(batch.asked, words, plain=True), "notice", change, case.first)
        return Plan(record, "answer", change, case.first, pieces=pieces)

    def _marked(self, case: _Case, record: Record, finish: str, judged: Judged) -> Record:
        """An answer that ends early says so, and can be gone on with; one to be careful about says that."""
        words, state, topic = self._desk.words, case.state, case.batch.topic
        language = self._speaker.language(state, case.batch)
        said = [_CUTS[finish]] if finish else []
        said += [texts.WARNED] if judged.action is Action.WARN else []
        said += [texts.HEDGED] if judged.unfounded else []
        buttons: Buttons = deeds.PERSON_BUTTON if self._desk.hand_off.can_call(state) else ()
        if finish in {LENGTH, CUT}:
            buttons = (((texts.CONTINUE, f"more:{topic}:{state.last.get(topic, 0) + 1}"),),)
        rows = tuple(tuple((words.say(label, language), data) for label, data in row) for row in buttons)
        tail = "\n".join(words.say(text, language) for text in said)
        return with_marks(record, state="cut" if finish else "", tail=tail, buttons=rows)

    async def _stopped(self, case: _Case, text: str, call: CalledAwayError) -> Plan:
        """What was shown is kept, marked as stopped. Without any of it, what called covers the question, too, or a
        sentence does where other mail lies between. What it used is charged in any case."""
        state, batch = case.state, case.batch
        language = self._speaker.language(state, batch)
        record = self._answered(batch, text)
        pieces = self._speaker.pieces(record)
        spend = self._spend(case, Answer(text, model=self._desk.manner.model))
        if call.act.deed is Deed.ERASE or (call.is_next and not pieces):
            if spend is not None:
                await self._desk.journal.charge(state, spend)
            raise call
        put = {"stopped": str(call.source)} if call.act.deed is Deed.STOP else {}
        drop = await self._desk.remotes.strayed(state, batch.topic)
        change = Change(put, drop, spend=spend) if put or drop or spend else None
        if not pieces:
            words = self._desk.words.say(texts.STOPPED, language)
            return Plan(Record(batch.asked, words, plain=True), "notice", change, case.first)
        mark = self._desk.words.say(texts.STOPPED_MARK, language)
        return Plan(with_marks(record, state="stopped", tail=mark), "answer", change, case.first)

    def _answered(self, batch: Batch, text: str, answer: Answer | None = None) -> Record:
        manner = self._desk.manner
        more: dict[str, object] = {"version": manner.version}
        if answer is not None and answer.prompt_tokens is not None:
            more["tokens"] = [answer.prompt_tokens, answer.cached_tokens or 0, answer.answer_tokens or 0]
        model = answer.model if answer is not None else manner.model
        return now(Record(batch.asked, text, model=model, more=more))

    def _spend(self, case: _Case, answer: Answer) -> Spend | None:
        """What an answer is charged; where the server does not tell the tokens, they are counted here."""
        budget, metrics = self._desk.budget, self._desk.metrics
        if not budget.counts and answer.prompt_tokens is None:
            return None
        prompt, said, cached = answer.prompt_tokens, answer.answer_tokens, answer.cached_tokens or 0
        if prompt is None:
            prompt = sum(count_tokens(message["content"]) for message in case.told)
        if said is None:
            said = count_tokens(answer.text)
        spend = budget.spend(len(case.batch.questions), answer.model, prompt, said, cached)
        for kind, tokens in (("prompt", prompt), ("cached", cached), ("answer", said)):
            metrics.tokens.labels(kind).inc(tokens)
        metrics.cost.labels(self._desk.manner.version).inc(spend[2] / _MICROS)
        metrics.answer_cost.observe(spend[2] / _MICROS)
        return spend if budget.counts else None


def _sentence(error: ChatApiError) -> str:
    """What the customer reads where it is the question that gets no answer."""
    if isinstance(error, ChatApiRefusedError):
        return _REFUSALS.get(error.reason, texts.NOT_TAKEN)
    return texts.EMPTY_ANSWER


def _unseen(_: str) -> None:
    """An answer that may be withheld when it is whole is not shown while it grows."""


def _after(past: list[Past], upto: int) -> list[Message]:
    """What was said after a turn."""
    told: list[Message] = []
    for turn in past:
        if turn.stored.number > upto:
            said = (("user", turn.record.question), ("assistant", turn.record.said))
            told += [{"role": role, "content": content} for role, content in said if content]
    return told

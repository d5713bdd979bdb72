"""What happens to questions that get no answer now: they wait, are told of a limit, or go to a person.

A question that waits stays at the front of its mailbox. The customer is told once, the chat rests between tries, and
after a limit a person takes over. Commands that call a turn away reach it all the same.
"""

import random
import time
from typing import Final

from bot import texts
from bot.budget import Verdict
from bot.conversation.batch import Batch
from bot.conversation.context import Past
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Deed, Notice
from bot.conversation.record import Record
from bot.conversation.shown import with_marks
from bot.conversation.speaker import Plan, Speaker, now
from bot.texts import Sentence
from storage.journal import Change, ChatState

Spend = tuple[int, int, int]

_DOWN: Final = "down"
_SLOWED: Final = "slowed"
_SAID_AGAIN_MS: Final = 60_000
_LONGEST_REST_MS: Final = 15_000


class Waiting:
    """Raises StaleFenceError, LaterError, StorageError."""

    def __init__(self, desk: Desk, speaker: Speaker) -> None:
        self._desk = desk
        self._speaker = speaker

    async def was_just_told(self, state: ChatState) -> bool:
        """Whether the customer was told this moment that no chat API answers: then it is not asked again yet."""
        since, rest = waits_since(state, _DOWN), self._desk.manner.rest_ms
        if not since or state.now_ms - since >= rest:
            return False
        await self._desk.journal.park(state, rest)
        return True

    async def for_the_chat_api(self, state: ChatState, batch: Batch, past: list[Past], seconds: float) -> None:
        """No chat API answers; ``seconds``: until a try may make sense."""
        since, manner = waits_since(state, _DOWN), self._desk.manner
        if self._desk.hand_off.is_operator(state.ready.chat_id):
            # Nothing may wait in front of what customers write to their operator.
            await self._speaker.tell_fault(state, batch, texts.NO_ANSWER)
        elif not since:
            await self._tell(state, batch, _DOWN, texts.WAITING)
        elif state.now_ms - since >= manner.outage_ms:
            if not await self.hand_over(state, batch, past, texts.HANDED_FOR_LONG):
                await self._speaker.tell_fault(state, batch, texts.NO_ANSWER)
        else:
            rest = min(max(manner.rest_ms, (state.now_ms - since) // 4, int(seconds * 1000)), _LONGEST_REST_MS)
            spread = random.uniform(0.8, 1.0)  # noqa: S311 (keeps those who wait from asking all at once)
            await self._desk.journal.park(state, int(rest * spread))

    async def at_limit(self, state: ChatState, batch: Batch, verdict: Verdict) -> None:
        """Within a minute questions wait; for longer than that they get a sentence, and that once a minute."""
        rest = max(verdict.back_ms - state.now_ms, 1)
        quiet = state.told_ms + _SAID_AGAIN_MS - state.now_ms
        waits = verdict.limit.period == "minute" and verdict.limit.amount > 0  # nothing is not more a minute later
        if waits and not waits_since(state, _SLOWED):
            text = texts.SLOWED if verdict.whose == "customer" else texts.SLOWED_ALL
            await self._tell(state, batch, _SLOWED, Sentence(text, {"seconds": rest // 1000 + 1}))
        elif waits or quiet > 0:
            await self._desk.journal.park(state, rest if waits else quiet)
        else:
            when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(verdict.back_ms // 1000))
            text = texts.LIMIT_CUSTOMER if verdict.whose == "customer" else texts.LIMIT_TOTAL
            told = Change({"told": str(state.now_ms)})
            await self._speaker.tell(state, batch, self._speaker.fault(state, Sentence(text, {"when": when}), told))

    async def hand_over(
        self, state: ChatState, batch: Batch, past: list[Past], sentence: str, *, spend: Spend | None = None
    ) -> bool:
        """Whether a person could be called; then the questions went to them, and ``sentence`` says so."""
        batch.last = batch.sources[-1]
        first = batch.questions[0]
        act = Act(Deed.PERSON, batch.topic, first.message_id, batch.language, name=first.name)
        outcome = await self._desk.hand_off.call(state, batch, past, act)
        if outcome.change is None:
            return False
        outcome.change.spend = spend
        said = self._desk.words.say(sentence, self._speaker.language(state, batch))
        record = with_marks(now(Record(batch.asked, "")), state="handed", show=said)
        await self._speaker.say(state, batch, Plan(record, "answer", outcome.change))
        return True

    async def _tell(self, state: ChatState, batch: Batch, why: str, sentence: Sentence | str) -> None:
        """Says why the questions wait, and leaves them in the mailbox."""
        drop = await self._desk.remotes.strayed(state, batch.topic) if why == _DOWN else []
        waits = Change({"waits": f"{state.now_ms}:{why}"}, drop)
        beside = Batch(notice=Notice("", batch.topic, batch.newest, batch.language), fate=batch.fate)
        await self._speaker.tell(state, beside, self._speaker.fault(state, sentence, waits))


def is_waiting(state: ChatState) -> bool:
    """Whether the chat's first question waits, and only an urgent act or its time may wake it: for the model, or for
    the time at which a limit may be told again."""
    return bool(state.waiting) or state.now_ms - state.told_ms < _SAID_AGAIN_MS


def waits_since(state: ChatState, why: str) -> int:
    """Since when (ms) the first question waits for this reason, 0 if it does not."""
    since, _, reason = state.waiting.partition(":")
    return int(since) if reason == why else 0

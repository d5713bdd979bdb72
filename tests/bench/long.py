"""One conversation of 1,000 turns, without any network: how large its requests are, how much of each a provider can
take from its cache, what that costs, and whether the last turn still knows what the third one said.

Everything is drawn from one seed and counted, nothing is timed. Questions have 6 to 20 words and answers 15 to 60; one
question in five states something, so that the notes are under pressure. Longer answers mean more trims: where a turn
takes more than a twentieth of the budget, less than nine tenths of the requests stay unchanged. Each is held twice,
with statements alone as notes, and with a model's summary of every trim, which stands in the request after the next
one, as in the service: that request does not continue the one before it either.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import takewhile
from statistics import fmean
from typing import Any, Final

from bot.conversation.context import Context, Past, build
from bot.conversation.notes import Message, Notes, summary_request
from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens
from bot.sandbox.offline_model import offline_answer
from bot.settings import SUPPORT_PROMPT
from storage.history import StoredTurn
from tests.bench.streamer import SPOKEN

BUDGETS: Final = (2_000, 16_000)
TURNS: Final = 1_000
FACT: Final = "84-4711"
PRICES: Final = {"sent": 1.25, "cached": 0.125, "answered": 10.0}
"""Dollars a million tokens; an example, and nobody's price list."""

_STATED_AT: Final = 3
_STATED_PART: Final = 5
_QUESTION_WORDS: Final = (6, 20)
_ANSWER_WORDS: Final = (15, 60)
_LEAST_CACHED: Final = 1024
_CACHED_STEP: Final = 128
"""What providers keep: prefixes of 1,024 tokens or more, in steps of 128."""

_tokens = lru_cache(maxsize=4096)(count_tokens)


@dataclass(slots=True)
class Talk:
    """Figures of a conversation. ``shares``: of each request, the part that stands unchanged at the front of the next;
    ``cached``: tokens that a provider that keeps prefixes need not read again."""

    budget: int
    summed_up: bool
    sent: int = 0
    unchanged: int = 0
    cached: int = 0
    answered: int = 0
    largest: int = 0
    trims: int = 0
    known: bool = False
    shares: list[float] = field(default_factory=list)
    before: list[Message] = field(default_factory=list)

    def note(self, context: Context) -> None:
        """One request more."""
        sizes = [_tokens(message["content"]) for message in context.messages]
        pairs = zip(self.before, context.messages, strict=False)
        same = sum(_tokens(old["content"]) for old, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if self.before:
            self.shares.append(same / sum(_tokens(message["content"]) for message in self.before))
        self.sent += sum(sizes)
        self.unchanged += same
        self.cached += same // _CACHED_STEP * _CACHED_STEP if same >= _LEAST_CACHED else 0
        self.largest = max(self.largest, sum(sizes))
        self.trims += context.first is not None
        self.before = context.messages

    def sum_up(self, notes: Notes, dropped: list[Past], ending: str) -> Notes:
        """With a summary that differs from the one before, as a model's does. Its request counts, all of it new."""
        request = summary_request(notes, dropped)
        summary = f"{offline_answer([*request])} {ending}"
        self.sent += sum(_tokens(message["content"]) for message in request)
        self.answered += _tokens(summary)
        return notes.with_summary(summary)

    def figures(self) -> dict[str, Any]:
        """As they go into the JSON file."""
        found = asdict(self)
        del found["shares"], found["before"]
        full = self.sent * PRICES["sent"] + self.answered * PRICES["answered"]
        spared = self.cached * (PRICES["sent"] - PRICES["cached"])
        return {
            **found,
            "share": round(fmean(self.shares), 4),
            "full_dollars": round(full / 1e6, 4),
            "cached_dollars": round((full - spared) / 1e6, 4),
        }


def long(tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The same conversation with either budget, without and with summaries."""
    tell(f"long: a conversation of {TURNS:,} turns, without a network")
    return [_talk(budget, summed_up=summed_up).figures() for budget in BUDGETS for summed_up in (False, True)]


def _talk(budget: int, *, summed_up: bool) -> Talk:
    talk, drawn, endings = Talk(budget, summed_up), random.Random(1), random.Random(2)
    stored: list[Past] = []
    notes: Notes | None = None
    answer = ""
    for number, question in enumerate(_questions(drawn), 1):
        context = build(SUPPORT_PROMPT, stored, question, budget, notes)
        talk.note(context)
        notes, first = context.notes, context.first or 0
        dropped, stored = _parted(stored, first)
        if summed_up and notes is not None and dropped:
            notes = talk.sum_up(notes, dropped, _some(endings, _ANSWER_WORDS))
        answer = _some(drawn, _ANSWER_WORDS) if number < TURNS else offline_answer([*context.messages])
        talk.answered += _tokens(answer)
        stored.append(Past(StoredTurn(number, (number,), 0, (), b""), Record((Asked(number, question),), answer)))
    talk.known = f"**{FACT}**" in answer
    return talk


def _parted(stored: list[Past], first: int) -> tuple[list[Past], list[Past]]:
    """What is left out from now on, and what is told."""
    told = [turn for turn in stored if turn.stored.number >= first]
    return stored[: len(stored) - len(told)], told


def _questions(drawn: random.Random) -> Iterator[str]:
    for number in range(1, TURNS):
        stated = f"My box {drawn.randrange(1000)} has {number} parts. " if not drawn.randrange(_STATED_PART) else ""
        asked = f"{stated}How about {_some(drawn, _QUESTION_WORDS)}?"
        yield f"Hi, my order number is {FACT}." if number == _STATED_AT else asked
    yield "What is my order number?"


def _some(drawn: random.Random, words: tuple[int, int]) -> str:
    return " ".join(drawn.choice(SPOKEN) for _ in range(drawn.randint(*words)))

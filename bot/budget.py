"""What a customer, and all customers together, may use of the model: messages, tokens and money, by minute, day, month.

What was used is counted in the store, in the step that ends a turn. A chat is worked on by one worker at a time, so a
customer gets at most one turn beyond a limit. All together get at most the turns that are under way when the limit is
reached, and those that begin within the second for which the sums are remembered.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, NamedTuple, cast

from bot.logs import get_logger
from storage.errors import StorageError
from storage.journal import ChatState
from storage.usage import NOTHING, Sums, Totals, Used, end_of

Kind = Literal["messages", "tokens", "money"]
Period = Literal["minute", "day", "month"]
Whose = Literal["customer", "total"]

_LETTERS: Final = {"minute": "m", "day": "d", "month": "M"}
_MICROS: Final = 10**6
_NANOS: Final = 10**9
_MOST: Final = 10**15  # the store counts exactly up to 2^53
_REMEMBERED_SECONDS: Final = 1.0
_SHOWN: Final = 60  # characters of a wrong part
_NUMBER: Final = r"[0-9]+(?:_[0-9]+)*"
_LIMIT: Final = re.compile(
    rf"(?P<kind>messages|tokens|money)\s+(?P<amount>{_NUMBER}(?:\.[0-9]+)?)\s*/\s*(?P<period>minute|day|month)",
    re.IGNORECASE,
)
_RATE: Final = re.compile(rf"{_NUMBER}(?:\.[0-9]+)?")
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be used in one minute, UTC day or UTC month. Money in millionths; 0: nothing at all."""

    kind: Kind
    amount: int
    period: Period

    def __str__(self) -> str:
        """As settings write it."""
        amount = Decimal(self.amount) / _MICROS if self.kind == "money" else Decimal(self.amount)
        return f"{self.kind} {amount.normalize():f}/{self.period}"

    def of(self, used: Mapping[str, Used]) -> int:
        """How much of what it limits was used in its window; ``used``: by the store's names of the periods."""
        amounts = used.get(_LETTERS[self.period], NOTHING)
        return {"messages": amounts.messages, "tokens": amounts.tokens, "money": amounts.micros}[self.kind]

    def is_reached(self, used: Mapping[str, Used], messages: int) -> bool:
        """Whether ``messages`` more are too many. Several that come at once are let through where nothing was used yet:
        more of them than the limit could otherwise never be asked."""
        before = self.of(used)
        if self.kind != "messages":
            return before >= self.amount
        return before + messages > self.amount and (before > 0 or self.amount == 0)

    def back_ms(self, now_ms: int) -> int:
        """When its window is over, in ms since 1970."""
        return end_of(_LETTERS[self.period], now_ms)


def parse_limits(text: str) -> tuple[Limit, ...]:
    """Limits such as ``messages 20/minute, tokens 200_000/day, money 1.50/day``; ValueError names the wrong part."""
    limits: dict[tuple[Kind, Period], Limit] = {}
    for part in _parts(text):
        limit = _limit(part)
        if (limit.kind, limit.period) in limits:
            raise ValueError(f"{_quoted(part)} is a second limit of the same kind and time")
        limits[limit.kind, limit.period] = limit
    return tuple(limits.values())


def _limit(part: str) -> Limit:
    match = _LIMIT.fullmatch(part)
    if match is None:
        raise ValueError(
            f"{_quoted(part)} is not a limit such as messages 20/minute, tokens 200000/day or money 20/month"
        )
    kind, period = cast(Kind, match["kind"].lower()), cast(Period, match["period"].lower())
    amount = Decimal(match["amount"].replace("_", "")) * (_MICROS if kind == "money" else 1)
    if amount != amount.to_integral_value():
        wanted = "at most six digits after the point" if kind == "money" else "a whole number"
        raise ValueError(f"{_quoted(part)} does not hold {wanted}")
    if amount > _MOST:
        raise ValueError(f"{_quoted(part)} is too large")
    return Limit(kind, int(amount), period)


class Rate(NamedTuple):
    """What a million tokens cost, in billionths of money."""

    prompt: int
    answer: int
    cached: int


@dataclass(frozen=True, slots=True)
class Prices:
    """What models cost: the whole name decides, else the longest beginning (``gpt-*``, or ``*``: any)."""

    whole: dict[str, Rate] = field(default_factory=dict)
    beginnings: dict[str, Rate] = field(default_factory=dict)

    def covers(self, model: str) -> bool:
        """Whether the model has a price; without one it costs nothing, and no limit on money holds it."""
        return self._rate(model) is not None

    def cost(self, model: str, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0) -> int:
        """Millionths of money, halves rounded up. ``cached_tokens``: those of the prompt that a provider had kept."""
        rate = self._rate(model)
        if rate is None:
            return 0
        prompt = max(prompt_tokens, 0)
        cached = min(max(cached_tokens, 0), prompt)
        cost = (prompt - cached) * rate.prompt + cached * rate.cached + max(answer_tokens, 0) * rate.answer
        return (cost + _NANOS // 2) // _NANOS

    def _rate(self, model: str) -> Rate | None:
        if model in self.whole:
            return self.whole[model]
        fitting = [beginning for beginning in self.beginnings if model.startswith(beginning)]
        return self.beginnings[max(fitting, key=len)] if fitting else None


def parse_prices(text: str) -> Prices:
    """Money per million tokens, as in ``gpt-x=0.40/1.60/0.10, other-*=1/3, *=2/8``: input, answer, and input that the
    provider had cached (without it: as other input). ValueError names the wrong part."""
    whole: dict[str, Rate] = {}
    beginnings: dict[str, Rate] = {}
    for part in _parts(text):
        # The last sign: names of models hold all kinds of them.
        model, _, rates = (piece.strip() for piece in part.rpartition("="))
        if not model:
            raise ValueError(f"{_quoted(part)} is not a price such as gpt-x=0.40/1.60")
        to = beginnings if model.endswith("*") else whole
        name = model.removesuffix("*")
        if name in to:
            raise ValueError(f"{_quoted(part)} is a second price of the same model")
        to[name] = _rate(part, rates)
    return Prices(whole, beginnings)


def _rate(part: str, text: str) -> Rate:
    rates = [rate.strip() for rate in text.split("/")]
    if len(rates) not in {2, 3} or not all(_RATE.fullmatch(rate) for rate in rates):
        raise ValueError(f"{_quoted(part)} does not hold two or three prices such as 0.40/1.60 or 0.40/1.60/0.10")
    nanos = [Decimal(rate.replace("_", "")) * _NANOS for rate in rates]
    if any(rate > _MOST for rate in nanos):
        raise ValueError(f"{_quoted(part)} is too large")
    if any(rate != rate.to_integral_value() for rate in nanos):
        raise ValueError(f"{_quoted(part)} holds more than nine digits after the point")
    prompt, answer, *cached = map(int, nanos)
    return Rate(prompt, answer, cached[0] if cached else prompt)


class Verdict(NamedTuple):
    """Why the model is not asked now: of the limits that are reached, the one that ends last. ``back_ms``: when."""

    limit: Limit
    whose: Whose
    back_ms: int


class Budget:
    """Says whether a customer may ask. ``exempt``: chats that no limit holds (operators'); what they use counts."""

    def __init__(
        self,
        totals: Totals,
        customer: tuple[Limit, ...],
        total: tuple[Limit, ...],
        prices: Prices,
        exempt: frozenset[int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._totals = totals
        self._customer = customer
        self._total = total
        self._prices = prices
        self._exempt = exempt
        self._clock = clock
        self._sums: Sums | None = None
        self._fresh_until = float("-inf")
        self._blind = False
        self._one_reader = asyncio.Lock()

    @property
    def counts(self) -> bool:
        """Whether anything is to be counted: there are limits, or prices."""
        return bool(self._customer or self._total or self._prices.whole or self._prices.beginnings)

    def spend(
        self, messages: int, model: str, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0
    ) -> tuple[int, int, int]:
        """What a turn is charged (``Change.spend``): messages, tokens of both ways, millionths of money."""
        tokens = max(prompt_tokens, 0) + max(answer_tokens, 0)
        return messages, tokens, self._prices.cost(model, prompt_tokens, answer_tokens, cached_tokens)

    async def verdict(self, state: ChatState, messages: int) -> Verdict | None:
        """None: the customer may ask now, ``messages`` at once. Never raises: where the sums cannot be read, what was
        last known of them decides. To ask a little too much is better than silence."""
        if state.ready.chat_id in self._exempt:
            return None
        reached = list(_reached(self._customer, "customer", state.used, state.now_ms, messages))
        if self._total:
            sums = await self._remembered()
            used = sums.used(state.now_ms) if sums else {}
            reached += _reached(self._total, "total", used, state.now_ms, messages)
        return max(reached, key=lambda verdict: verdict.back_ms, default=None)

    async def shares(self) -> dict[Limit, float]:
        """How much of each limit on all customers is used now, 1.0 and more: reached. Read anew each time, at the
        store's clock; raises StorageError."""
        if not self._total:
            return {}
        sums = await self._totals.sums()
        used = sums.used(sums.at_ms)
        return {limit: limit.of(used) / limit.amount if limit.amount else 1.0 for limit in self._total}

    async def _remembered(self) -> Sums | None:
        # One reads and the others wait for it; after a failure, too, nobody tries again for a while.
        async with self._one_reader:
            if self._clock() >= self._fresh_until:
                await self._refresh()
        return self._sums

    async def _refresh(self) -> None:
        try:
            self._sums = await self._totals.sums()
        except StorageError as error:
            if not self._blind:
                _log.warning("budget.blind", error=str(error))
            self._blind = True
        else:
            self._blind = False
        self._fresh_until = self._clock() + _REMEMBERED_SECONDS


def _reached(
    limits: tuple[Limit, ...], whose: Whose, used: Mapping[str, Used], now_ms: int, messages: int
) -> Iterator[Verdict]:
    for limit in limits:
        if limit.is_reached(used, messages):
            yield Verdict(limit, whose, limit.back_ms(now_ms))


def _parts(text: str) -> Iterator[str]:
    return (part.strip() for part in text.split(",") if part.strip())


def _quoted(part: str) -> str:
    return f'"{part if len(part) <= _SHOWN else part[:_SHOWN] + "…"}"'

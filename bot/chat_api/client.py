"""Asks for an answer: the first endpoint that can give one, tried again where that may help.

Another try starts from nothing, and what is shown only ever grows: a preview that shows the beginning of a failed
answer keeps it until the next one is longer. Going on from the middle instead was rejected: another model, or the same
one asked again, does not write the same words on, and few servers can continue a text.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.chat_api.asking import CUT, Answer, Ask
from bot.chat_api.endpoint import Endpoint
from bot.errors import (
    ChatApiDownError,
    ChatApiEmptyError,
    ChatApiError,
    ChatApiGarbledError,
    ChatApiRefusedError,
    ChatApiTimeoutError,
    ChatApiUnavailableError,
    Reason,
)
from bot.logs import get_logger

_TRIES: Final = 4
_TRIES_BESIDE_OTHERS: Final = 2
_EMPTY_TRIES: Final = 2
_RETRY_WITHIN_SECONDS: Final = 20.0
_OURS_TO_MEND: Final = frozenset({Reason.KEY, Reason.CREDIT, Reason.MODEL, Reason.ADDRESS})
_ABOUT_THE_QUESTION: Final = frozenset({Reason.SIZE, Reason.CONTENT})
_SAID_SOMETHING: Final = (ChatApiEmptyError, ChatApiGarbledError, ChatApiTimeoutError)
_MOST_STRAYED: Final = 10_000
_PATIENCE_SECONDS: Final = 5.0
_WORTH_SHOWING: Final = 200
"""Characters of an unfinished answer that are better than none."""

_log = get_logger(__name__)


@dataclass(slots=True)
class _Asking:
    """One question on its way: what was said so far, and what went wrong last."""

    ask: Ask
    show: Callable[[str], None]
    started: float = field(default_factory=time.monotonic)
    shown: int = 0
    best: Answer = field(default_factory=Answer)
    errors: list[ChatApiError] = field(default_factory=list)

    def grown(self, text: str) -> None:
        if len(text) >= self.shown:
            self.shown = len(text)
            self.show(text)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True)
class Condition:
    """How an endpoint is, as far as this process knows. ``mark``: tells it apart, also from another model at the same
    address; ``down_seconds``: since when it was not worth a try, 0.0 where it is; ``reason``: of its last refusal, if
    somebody can mend that; ``works``: it answered last; ``age_seconds``: since it answered or failed last."""

    mark: str
    host: str
    down_seconds: float
    reason: Reason | None
    works: bool
    age_seconds: float


class ChatApi:
    """``endpoints``: in the order in which they are asked; opened and closed by whoever made them. ``retry_seconds``:
    half of the longest first pause before another try."""

    def __init__(
        self, endpoints: Sequence[Endpoint], *, total_seconds: float = 240.0, retry_seconds: float = 0.4
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._retry = retry_seconds
        self._total = total_seconds
        self._strayed: dict[str, None] = {}
        self._heard: dict[Endpoint, tuple[float, ChatApiError | None]] = {}  # of each endpoint last, and when

    def endpoint(self, mark: str) -> Endpoint | None:
        """The endpoint of that mark, if it is still configured."""
        return next((one for one in self.endpoints if one.mark == mark), None)

    @property
    def keeps(self) -> bool:
        """Whether any of them keeps conversations."""
        return any(one.keeps for one in self.endpoints)

    @property
    def knows_customers(self) -> bool:
        """Whether any of them is told a pseudonym."""
        return any(one.keeps or one.caches for one in self.endpoints)

    def down_seconds(self) -> float:
        """Since when no endpoint was worth a try, in seconds; 0.0 where one is."""
        since = [one.breaker.since for one in self.endpoints]
        return time.monotonic() - max(since) if all(since) else 0.0

    def conditions(self) -> list[Condition]:
        """Of each endpoint, in their order."""
        return [self._condition(endpoint) for endpoint in self.endpoints]

    def _condition(self, endpoint: Endpoint) -> Condition:
        now, since = time.monotonic(), endpoint.breaker.since
        at, error = self._heard.get(endpoint, (0.0, None))
        return Condition(
            mark=f"{endpoint.mark}:{endpoint.place.model}",
            host=endpoint.host or "?",
            down_seconds=now - since if since else 0.0,
            reason=error.reason if isinstance(error, ChatApiRefusedError) else None,
            works=bool(at) and error is None and not since,
            age_seconds=now - at,
        )

    async def ask(self, ask: Ask, show: Callable[[str], None], *, patient: bool = True) -> Answer:
        """The whole answer; ``show`` gets the text so far as it grows. ``patient``: a short while is waited for an
        endpoint that is about to be tried again, before it counts as down.

        Raises ChatApiDownError where the question should wait, ChatApiRefusedError and ChatApiEmptyError where it is
        the question that gets no answer.
        """
        asking = _Asking(ask, show)
        try:
            async with asyncio.timeout(self._total):
                if patient and 0 < (pause := self._shortest_pause()) <= _PATIENCE_SECONDS:
                    await asyncio.sleep(pause)
                answer = await self._first_answer(asking)
        except TimeoutError:
            answer, error = None, ChatApiTimeoutError("the answer took too long")
            asking.errors.append(error)
        if answer is not None:
            return answer
        if len(asking.best.text) >= _WORTH_SHOWING:
            asking.best.finish = CUT
            return asking.best
        raise self._verdict(asking)

    def _shortest_pause(self) -> float:
        """Seconds until some endpoint is worth a try."""
        return min(endpoint.breaker.pause() for endpoint in self.endpoints)

    async def _first_answer(self, asking: _Asking) -> Answer | None:
        for endpoint in self.endpoints:
            if (pause := endpoint.breaker.pause()) > 0:
                asking.errors.append(ChatApiUnavailableError("not asked: it failed before", retry_after=pause))
                continue
            answer = await self._insist(endpoint, asking)
            if answer is not None:
                return answer
            if isinstance(asking.errors[-1], ChatApiRefusedError) and asking.errors[-1].reason in _ABOUT_THE_QUESTION:
                return None
        return None

    async def _insist(self, endpoint: Endpoint, asking: _Asking) -> Answer | None:
        """The endpoint's answer after its retries; None, with the error noted, where it gives none."""
        tries = _TRIES if endpoint is self.endpoints[-1] else _TRIES_BESIDE_OTHERS
        number = empty = 0
        while True:
            number += 1
            try:
                return await self._try(endpoint, asking)
            except ChatApiError as error:
                _log.info("chat_api.failed", endpoint=endpoint.mark, error=str(error), attempt=number)
                asking.errors.append(error)
                empty += isinstance(error, ChatApiEmptyError)
                if isinstance(error, ChatApiRefusedError) and error.reason is Reason.STATE and asking.ask.remote:
                    asking.ask = asking.ask.anew()  # what the provider kept is gone: our own history is told anew
                    continue
                pause = self._pause(error, number)
                late = asking.seconds + pause > _RETRY_WITHIN_SECONDS
                open_now = endpoint.breaker.pause() > pause  # by what happened to others meanwhile
                if not _may_pass(error) or number >= tries or empty >= _EMPTY_TRIES or late or open_now:
                    return None
            await asyncio.sleep(pause)

    async def _try(self, endpoint: Endpoint, asking: _Asking) -> Answer:
        answer, breaker = Answer(model=endpoint.place.model, endpoint=endpoint.mark), endpoint.breaker
        if asking.ask.remote is not None and asking.ask.remote.id in self._strayed:
            asking.ask = asking.ask.anew()
        breaker.begin()
        try:
            await endpoint.attempt(asking.ask, answer, asking.grown)
        except ChatApiError as error:
            if answer.text or isinstance(error, _SAID_SOMETHING):
                self._strays(endpoint, asking.ask)
            if len(answer.text) > len(asking.best.text) and not isinstance(error, ChatApiEmptyError):
                asking.best = answer
            self._note(endpoint, error)
            if not isinstance(error, ChatApiEmptyError):
                self._heard[endpoint] = time.monotonic(), error if _is_down(error) else None
            raise
        except BaseException:
            self._strays(endpoint, asking.ask)
            if len(answer.text) > len(asking.best.text):
                asking.best = answer
            breaker.leave()
            raise
        breaker.succeeded()
        self._heard[endpoint] = time.monotonic(), None
        return answer

    def _strays(self, endpoint: Endpoint, ask: Ask) -> None:
        """A conversation in which the provider may keep an answer that nobody was shown is not gone on with."""
        remote = ask.remote
        if remote is not None and remote.kind == "conversation" and remote.endpoint == endpoint.mark:
            self._strayed[remote.id] = None
            while len(self._strayed) > _MOST_STRAYED:
                del self._strayed[next(iter(self._strayed))]

    @staticmethod
    def _note(endpoint: Endpoint, error: ChatApiError) -> None:
        if isinstance(error, ChatApiRefusedError) and error.reason not in _OURS_TO_MEND:
            endpoint.breaker.leave()  # it is there, and refuses this question
        elif isinstance(error, ChatApiEmptyError):
            endpoint.breaker.leave()
        else:
            seconds = error.retry_after or 0.0 if isinstance(error, ChatApiUnavailableError) else 0.0
            endpoint.breaker.failed(for_certain=isinstance(error, ChatApiRefusedError), seconds=seconds)

    def _pause(self, error: ChatApiError, number: int) -> float:
        """Seconds until another try: what the server asks for, else longer each time, spread by half."""
        asked = error.retry_after if isinstance(error, ChatApiUnavailableError) else None
        return asked if asked is not None else random.uniform(0.5, 1.0) * self._retry * 2**number  # noqa: S311 (jitter)

    def _verdict(self, asking: _Asking) -> ChatApiError:
        """Of all that went wrong, what the customer is to be told."""
        last = asking.errors[-1]
        if isinstance(last, ChatApiRefusedError) and last.reason in _ABOUT_THE_QUESTION:
            return last
        down = [error for error in asking.errors if _is_down(error)]
        if not down:
            return last
        reasons = [error.reason for error in down if isinstance(error, ChatApiRefusedError)]
        seconds = max(self._shortest_pause(), _named(down))
        return ChatApiDownError(str(last), seconds=seconds, reason=reasons[-1] if reasons else None)


def _named(errors: list[ChatApiError]) -> float:
    """Seconds until the first of them asks to be tried again; 0.0 where one of them names no time."""
    return min(error.retry_after or 0.0 if isinstance(error, ChatApiUnavailableError) else 0.0 for error in errors)


def _is_down(error: ChatApiError) -> bool:
    """Whether an error says that the endpoint cannot answer anybody, and not that it cannot answer this question."""
    if isinstance(error, ChatApiRefusedError):
        return error.reason in _OURS_TO_MEND
    return not isinstance(error, ChatApiEmptyError)


def _may_pass(error: ChatApiError) -> bool:
    """Whether the same request may do better at once."""
    return not isinstance(error, ChatApiRefusedError | ChatApiTimeoutError)

"""Follows one reply: its events into the answer, its deadlines, and what the provider begins to keep of it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from bot.chat_api.asking import LENGTH, Answer, Ask, Remote
from bot.chat_api.dialect import Dialect, Heard
from bot.chat_api.events import objects_in
from bot.chat_api.failures import failure_in
from bot.chat_api.growing import Growing
from bot.errors import ChatApiEmptyError, ChatApiUnavailableError

_END_SECONDS: Final = 1.0
_SLACK_SECONDS: Final = 0.25
_BROKEN_SHARE: Final = 10


class Hearing:
    """Of one request; ``bounded`` comes before all else."""

    def __init__(
        self,
        dialect: Dialect,
        mark: str,
        ask: Ask,
        answer: Answer,
        show: Callable[[str], None],
    ) -> None:
        self._dialect = dialect
        self._mark = mark
        self._ask = ask
        self._answer = answer
        self._show = show
        self._heard = Heard(answer)
        self._kept: set[str] = set()
        self._started = time.monotonic()
        answer.text = answer.finish = ""

    def bounded(self, scope: asyncio.Timeout, gap: float, most: int) -> None:
        """``scope``: of the deadline that each event moves on by ``gap`` seconds; ``most``: characters of an answer."""
        self._scope = scope
        self._gap = gap
        self._growing = Growing(most)

    @property
    def ended(self) -> bool:
        """Whether all of the answer was heard, even if the body goes on."""
        return self._heard.ended

    async def events(self, found: list[bytes]) -> bool:
        """Takes the data of events in; whether no more of them are wanted. Raises ChatApiError."""
        grew = False
        try:
            for event in self._objects(found):
                grew = await self._event(event) or grew
                if self._growing.is_full:
                    break
        finally:
            self._write(grew)
        if self._growing.is_full:
            self._answer.finish = LENGTH
            self._finish()
            return True
        self._live_on()
        return False

    def _objects(self, found: list[bytes]) -> Iterator[dict[str, Any]]:
        for data in map(bytes.strip, found):
            if data == b"[DONE]":
                self._heard.ended = True
            elif data:
                yield from objects_in(data)

    async def whole(self, reply: dict[str, Any]) -> None:
        """The reply of a server that does not stream. Raises ChatApiError."""
        if (error := failure_in(reply)) is not None:
            raise error
        self._dialect.read_whole(reply, self._heard)
        await self._keep()
        self._write(self._grow())
        if self._growing.is_full:
            self._answer.finish = LENGTH
        self._finish()

    def over(self, *, cleanly: bool) -> None:
        """The body has ended. Raises ChatApiError where that makes no answer."""
        if not self._heard.ended and not cleanly:
            raise ChatApiUnavailableError("the stream was cut")
        self._finish()

    async def _event(self, event: dict[str, Any]) -> bool:
        if (error := failure_in(event)) is not None:
            raise error
        self._dialect.read(event, self._heard)
        if self._dialect.keeps:
            await self._keep()
        return self._grow()

    def _grow(self) -> bool:
        """Whether the visible text changed."""
        heard = self._heard
        if heard.anew:
            self._growing.replace(heard.delta)
            heard.delta, heard.anew = "", False
            return True
        if not heard.delta:
            return False
        delta, heard.delta = heard.delta, ""
        return self._growing.add(delta)

    def _write(self, grew: bool) -> None:
        if not grew:
            return
        if not self._answer.text:
            self._answer.first_seconds = time.monotonic() - self._started
        self._answer.text = self._growing.text
        self._show(self._answer.text)

    def _live_on(self) -> None:
        """Any event is a sign of life: a model may think for long before it says a word. Comments are none."""
        now = asyncio.get_running_loop().time()
        due = self._scope.when() or now
        if self._heard.ended:
            self._scope.reschedule(min(due, now + _END_SECONDS))
        elif due < now + self._gap - _SLACK_SECONDS or (self._answer.text and due > now + self._gap + _SLACK_SECONDS):
            self._scope.reschedule(now + self._gap)  # before the first words, only ever later

    def _finish(self) -> None:
        self._growing.end()
        text = self._growing.text
        if text != self._answer.text:
            self._answer.text = text
            self._show(text)
        if not text.strip():
            raise ChatApiEmptyError("an empty answer")
        if text.count("\ufffd") * _BROKEN_SHARE > len(text):
            raise ChatApiEmptyError("an answer of broken characters")
        kept = [(kind, name) for kind, name in self._named() if name]
        if kept and self._dialect.keeps:
            self._answer.remote = Remote(self._mark, *kept[0])

    def _named(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What the provider says it keeps; a conversation goes before the answers in it."""
        return ("conversation", self._heard.conversation), ("response", self._heard.response)

    async def _keep(self) -> None:
        """Written down before the answer goes on: the provider has no list in which it could be looked up."""
        if self._ask.keep is None or not self._dialect.keeps:
            return
        for kind, name in self._named():
            known = self._ask.remote is not None and self._ask.remote.id == name
            if name and name not in self._kept and not known:
                self._kept.add(name)
                await self._ask.keep(Remote(self._mark, kind, name))

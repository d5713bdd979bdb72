"""What calls a running turn away: an urgent act in the mail that came after the turn began."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from bot.conversation import deeds
from bot.conversation.control import Watch
from bot.conversation.desk import Desk
from bot.conversation.intents import Act
from bot.logs import get_logger
from storage.errors import StorageError
from storage.journal import ChatState

_Result = TypeVar("_Result")
_log = get_logger(__name__)


class CalledAwayError(Exception):
    """The work was ended by ``act``, in the mail under ``source``; ``is_next``: right behind what the turn covers."""

    def __init__(self, act: Act, source: int, *, is_next: bool) -> None:
        self.act = act
        self.source = source
        self.is_next = is_next
        super().__init__(act.deed.name)


@dataclass(slots=True)
class _Halt:
    """A stretch of work that can be ended, as long as it is open."""

    scope: asyncio.Timeout
    take: int
    topic: int
    only_erase: bool
    open: bool = True
    call: CalledAwayError | None = None

    def end(self, call: CalledAwayError) -> None:
        if self.open:
            self.call, self.open = call, False
            self.scope.reschedule(asyncio.get_running_loop().time())


class Calls:
    """Lets urgent acts end the work of a turn."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def unless_called(
        self,
        state: ChatState,
        watch: Watch,
        take: int,
        topic: int,
        work: Awaitable[_Result],
        *,
        only_erase: bool = False,
    ) -> _Result:
        """What ``work`` comes to. Raises CalledAwayError when something urgent came behind the first ``take`` items of
        the mailbox: Stop, /human or /forget in the same topic, or a confirmed deletion (``only_erase``: that alone)."""
        halt: _Halt | None = None
        try:
            async with asyncio.timeout(None) as scope:
                halt = _Halt(scope, take, topic, only_erase)
                self._listen(state, watch, halt)
                return await work
        except TimeoutError:
            if halt is None or halt.call is None:
                raise
            raise halt.call from None
        finally:
            watch.on_call = None
            if halt is not None:
                halt.open = False

    def _listen(self, state: ChatState, watch: Watch, halt: _Halt) -> None:
        watch.on_call = lambda: self._desk.aside(self._look(state, halt))
        if watch.called or any(item.kind == "urgent" for item in state.mail[halt.take :]):
            watch.on_call()

    async def _look(self, state: ChatState, halt: _Halt) -> None:
        try:
            mail = await self._desk.journal.mail(state)
            for place, item, act in await self._desk.reader.urgent(state, mail[halt.take :]):
                if self._calls(state, halt, act) or self._erases(state, halt, act, item.received_ms):
                    halt.end(CalledAwayError(act, item.update_id, is_next=not place))
                    return
        except StorageError as error:
            _log.info("call.missed", error=type(error).__name__)

    def _calls(self, state: ChatState, halt: _Halt, act: Act) -> bool:
        if halt.only_erase or act.deed not in self._desk.reader.calls_away:
            return False
        # Telegram's own button means one draft.
        return act.draft_id == state.fence if act.draft_id else act.topic == halt.topic

    @staticmethod
    def _erases(state: ChatState, halt: _Halt, act: Act, received_ms: int) -> bool:
        """Words that are fixed give way only to a deletion of what they are about."""
        concerned = not halt.only_erase or act.argument == deeds.ALL or act.topic == halt.topic
        return concerned and deeds.is_confirmed(state, act, received_ms)

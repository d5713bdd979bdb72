"""Looks for a message whose send was cut off, without an id to ask for.

Two steps per candidate: removing a reply markup that is not there changes nothing, also when it is accepted late, and
is refused with "message is not modified" only by a message of our own; then the final text is set, which is refused the
same way where it stands already. (Setting text on guesses above the top once overwrote the next answer.)

That Telegram itself answers the first step so for a plain message of a bot's own is documented for edits in general,
not for this one. So it can be switched off: then the text is set at once, with that risk where an edit is itself cut
off, and late copies are not swept. Every answer to a probe is logged.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

from bot.delivery.telegram import TelegramClient
from bot.errors import TelegramError, TelegramRefusedError, TelegramRetryAfterError
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.timing import Timing
from storage.marks import Marks

_SLACK: Final = 4
_LAST_SLACK: Final = 12
_MOST_PROBES: Final = 200
_CALL_SECONDS: Final = 10.0
_log = get_logger(__name__)

Edit = Callable[[int], tuple[str, dict[str, Any]]]
"""The call that gives a message of that id the words of a send."""


class _Verdict(Enum):
    OURS = "ours"
    NOT = "not"
    UNKNOWN = "unknown"


class Probe:
    """Asks Telegram about ids that nobody has claimed."""

    def __init__(
        self, telegram: TelegramClient, marks: Marks, metrics: Metrics, timing: Timing, *, by_markup: bool
    ) -> None:
        self._timing = timing
        self._by_markup = by_markup
        self._telegram = telegram
        self._marks = marks
        self._metrics = metrics

    async def find(
        self, chat_id: int, above: int, edit: Edit, *, wait_seconds: float | None, ours: Callable[[], Awaitable[bool]]
    ) -> int | None:
        """The id of the message that ``edit`` would leave as it is, or None after the last look.

        ``wait_seconds``: how long the request may still be under way; 0 when the time is over, None when Telegram
        replied with a failure. ``ours`` is asked before a found message is touched; it raises when another worker took
        over.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        if wait_seconds is None:
            rounds = list(self._timing.rounds[:2])
        else:
            rounds = [due for due in self._timing.rounds if due < wait_seconds] + [wait_seconds]
        settled = await self._marks.lost(chat_id)
        for number, due in enumerate(rounds):
            await asyncio.sleep(max(0.0, start + due - loop.time()))
            slack = _LAST_SLACK if number == len(rounds) - 1 else _SLACK
            candidates = [n for n in await self._marks.unknown_above(chat_id, above, slack) if n not in settled]
            # An id below the highest known one is taken: if it is not ours now, it never will be.
            taken = candidates[-1] - slack if candidates else above
            for message_id in self._bounded(candidates):
                verdict = await self._ask(chat_id, message_id)
                if verdict is _Verdict.OURS and await ours() and await self._set(message_id, edit):
                    return message_id
                if verdict is _Verdict.NOT and message_id <= taken:
                    settled.add(message_id)
        return None

    async def strays(self, chat_id: int, above: int) -> list[int]:
        """Messages of ours above a mark that nobody has claimed."""
        if not self._by_markup:
            _log.info("sweep.skipped")
            return []
        candidates = await self._marks.unknown_above(chat_id, above, _LAST_SLACK)
        return [number for number in self._bounded(candidates) if await self._ask(chat_id, number) is _Verdict.OURS]

    def _bounded(self, candidates: list[int]) -> list[int]:
        if len(candidates) > _MOST_PROBES:
            self._metrics.uncertain.inc()
            _log.warning("probe.bounded", candidates=len(candidates))
        return candidates[:_MOST_PROBES]  # a copy took its id soon after the mark

    async def _ask(self, chat_id: int, message_id: int) -> _Verdict:
        if not self._by_markup:
            return _Verdict.OURS  # perhaps: the text will tell
        return await self._edit("editMessageReplyMarkup", {"chat_id": chat_id, "message_id": message_id})

    async def _set(self, message_id: int, edit: Edit) -> bool:
        method, parameters = edit(message_id)
        return await self._edit(method, parameters) is _Verdict.OURS

    async def _edit(self, method: str, parameters: dict[str, Any]) -> _Verdict:
        for _ in range(3):
            self._metrics.probes.inc()
            try:
                await self._telegram.call(method, parameters, seconds=_CALL_SECONDS)
            except TelegramRetryAfterError as error:
                await asyncio.sleep(min(error.seconds, 20.0))
                continue
            except TelegramRefusedError as error:
                _log.info("probe.answered", method=method, code=error.code, reason=str(error))
                return _Verdict.OURS if "not modified" in error.description else _Verdict.NOT
            except TelegramError as error:
                _log.info("probe.unanswered", method=method, reason=str(error))
                await asyncio.sleep(0.2)
                continue
            _log.info("probe.answered", method=method, code=200, reason="changed")
            return _Verdict.OURS
        return _Verdict.UNKNOWN

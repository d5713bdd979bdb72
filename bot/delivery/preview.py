"""The answer while it grows: native drafts in private chats, typing elsewhere. Cosmetic throughout.

The first frame goes out at once, then about one a second; unchanged text is skipped, a stalled model's draft is shown
again before its 30 seconds are over (Bot API, sendMessageDraft). Each frame first asks whether this worker still holds
the chat, or a ghost draft would appear after the answer. Where drafts are refused typing is shown; a 429 mutes it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from bot.delivery.form import Piece, draft_of
from bot.delivery.pace import Pace
from bot.delivery.telegram import TelegramClient, checked_within
from bot.errors import (
    TelegramError,
    TelegramRefusedError,
    TelegramRetryAfterError,
    TelegramUncertainError,
    TelegramUnreachableError,
)
from storage.errors import StorageError
from storage.journal import StaleFenceError

_FRAME_SECONDS: Final = 1.0
_REFRESH_SECONDS: Final = 18.0
_TYPING_SECONDS: Final = 4.5
_CALL_SECONDS: Final = 5.0
_CLOSING_SECONDS: Final = 2.0
_THINKING_SECONDS: Final = 0.4
_AFTER_FAULT_SECONDS: Final = 2.0
_LONG: Final = 8_000
_TYPING: Final = "typing"


class Preview:
    """One turn's preview: ``show`` as text arrives, ``close`` before the final is sent."""

    def __init__(
        self,
        telegram: TelegramClient,
        pace: Pace,
        chat_id: int,
        topic: int,
        *,
        draft_id: int,
        action: str = "",
        standing: Callable[[], Awaitable[bool]],
        recheck: float,
        dressed: Callable[[str], str] = str,
    ) -> None:
        """``action``: what is shown under the bot's name instead of a draft (Bot API, sendChatAction); ``dressed``:
        makes of a text what may be read of it."""
        self._recheck = recheck
        self._dressed = dressed
        self._telegram = telegram
        self._pace = pace
        self._chat_id = chat_id
        self._topic = topic
        self._draft_id = draft_id
        self._action = action
        self._standing = standing
        self._text = ""
        self._changed = asyncio.Event()
        self._done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thinking: asyncio.TimerHandle | None = None

    @property
    def text(self) -> str:
        """What was there to be shown."""
        return self._text

    def start(self) -> None:
        """Typing is shown from the start; in place of a draft's text Telegram shows that the bot is thinking, where the
        model does not answer at once, and an upload is worth showing where it takes a while."""
        if self._action == _TYPING:
            self.show("")
        elif self._task is None:
            self._thinking = asyncio.get_running_loop().call_later(_THINKING_SECONDS, self.show, "")

    def show(self, text: str) -> None:
        """The whole text so far; the newest wins."""
        self._text = text
        self._changed.set()
        self._think_no_more()
        if self._task is None and not self._done.is_set():
            self._task = asyncio.create_task(self._run())

    def complete(self) -> None:
        """The answer is whole: no further frame is worth sending."""
        self._think_no_more()
        self._done.set()
        self._changed.set()

    def _think_no_more(self) -> None:
        if self._thinking is not None:
            self._thinking.cancel()
            self._thinking = None

    async def close(self) -> None:
        """Returns when no frame is on its way any more."""
        self.complete()
        task, self._task = self._task, None
        if task is None:
            return
        _, running = await asyncio.wait({task}, timeout=_CLOSING_SECONDS)
        if running:
            task.cancel()
            await asyncio.wait({task}, timeout=_CLOSING_SECONDS)

    async def _run(self) -> None:
        while not self._done.is_set():
            delay = self._pace.may_show(self._chat_id)
            if delay > 0:
                await _within(self._done, delay)
                continue
            self._changed.clear()
            text, action = self._text, self._action
            if not await self._frame(await self._drawn(text)):
                return
            if action != self._action:
                continue
            if not self._action:
                if text:
                    await _within(self._done, _FRAME_SECONDS)
                await _within(self._changed, _REFRESH_SECONDS)
            else:
                await _within(self._done, _TYPING_SECONDS)

    async def _frame(self, shown: Piece) -> bool:
        target: dict[str, object] = {"chat_id": self._chat_id}
        if self._topic:
            target["message_thread_id"] = self._topic
        guard = checked_within(self._recheck, self._must_stand)
        method = "sendChatAction" if self._action else "sendMessageDraft"
        content: dict[str, object] = {"action": self._action}
        if not self._action:
            content = {"draft_id": self._draft_id, "text": shown.text, "can_stop": True, "keep_on_stop": True}
            content |= {"entities": shown.entities} if shown.entities else {}
        try:
            await self._telegram.call(method, target | content, seconds=_CALL_SECONDS, guard=guard)
        except TelegramRetryAfterError as error:
            self._pace.mute(self._chat_id, error.seconds)
        except (TelegramUncertainError, TelegramUnreachableError):
            await _within(self._done, _AFTER_FAULT_SECONDS)
        except TelegramRefusedError:
            if self._action:
                return False
            self._action = _TYPING  # this chat takes no drafts
        except (TelegramError, StorageError):
            return False
        return True

    async def _drawn(self, text: str) -> Piece:
        """What a draft shows of the text; a long one is formatted off the event loop."""
        return self._draw(text) if len(text) < _LONG else await asyncio.to_thread(self._draw, text)

    def _draw(self, text: str) -> Piece:
        return draft_of(self._dressed(text))

    async def _must_stand(self) -> None:
        """Asked in the moment of the write: a worker that froze before it would show a draft after the answer."""
        if not await self._standing():
            raise StaleFenceError


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Waits for the event, but no longer than that."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return

"""What a chat can take. Telegram publishes about one message a second per chat and tolerates bursts (Bot API FAQ);
drafts and typing share an allowance of their own, reported as about 40 in 30 s.

An answer follows a question, so customers pace their own chat, and a final is never held back on suspicion: only the
messages of one long answer are spaced, and a chat that has once said 429 is kept to the published rate for a while.
What is cosmetic is dropped when its allowance is spent.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_PER_SECOND: Final = 1.0
_BURST: Final = 3
_STRICT_SECONDS: Final = 600.0
_FRAMES: Final = 15.0
_FRAMES_PER_SECOND: Final = 1.0
_CHATS_REMEMBERED: Final = 20_000


@dataclass(slots=True)
class _Budget:
    frames: float = _FRAMES
    frames_at: float = 0.0
    sent_at: float = 0.0
    strict_until: float = 0.0
    muted_until: float = 0.0
    closed_until: float = 0.0


class Pace:
    """The budgets of the chats this process serves; a chat is served by one process at a time."""

    def __init__(self) -> None:
        self._budgets: OrderedDict[int, _Budget] = OrderedDict()

    async def wait(self, chat_id: int, piece: int) -> None:
        """Returns when message number ``piece`` of an answer may be sent to the chat."""
        loop = asyncio.get_running_loop()
        budget = self._of(chat_id)
        while (delay := self._delay(budget, piece, loop.time())) > 0:  # noqa: ASYNC110 (it is the time that counts)
            await asyncio.sleep(delay)
        budget.sent_at = loop.time()

    def may_show(self, chat_id: int) -> float:
        """Seconds until a frame of a preview may be shown: 0 means now, and counts it."""
        now = asyncio.get_running_loop().time()
        budget = self._of(chat_id)
        if now < budget.muted_until:
            return budget.muted_until - now
        budget.frames = min(_FRAMES, budget.frames + (now - budget.frames_at) * _FRAMES_PER_SECOND)
        budget.frames_at = now
        if budget.frames < 1:
            return (1 - budget.frames) / _FRAMES_PER_SECOND
        budget.frames -= 1
        return 0.0

    def mute(self, chat_id: int, seconds: float) -> None:
        """No preview in this chat for a while: Telegram said 429 to one."""
        budget = self._of(chat_id)
        budget.muted_until = asyncio.get_running_loop().time() + seconds

    def close(self, chat_id: int, seconds: float) -> None:
        """Nothing at all to this chat for a while, and little after that: Telegram said 429 to a message."""
        budget = self._of(chat_id)
        budget.closed_until = budget.muted_until = asyncio.get_running_loop().time() + seconds
        budget.strict_until = budget.closed_until + _STRICT_SECONDS

    def _of(self, chat_id: int) -> _Budget:
        budget = self._budgets.get(chat_id)
        if budget is None:
            budget = self._budgets[chat_id] = _Budget(frames_at=asyncio.get_running_loop().time())
            if len(self._budgets) > _CHATS_REMEMBERED:
                self._budgets.popitem(last=False)
        else:
            self._budgets.move_to_end(chat_id)
        return budget

    @staticmethod
    def _delay(budget: _Budget, piece: int, now: float) -> float:
        if now < budget.closed_until:
            return budget.closed_until - now
        if piece >= _BURST or now < budget.strict_until:
            return budget.sent_at + 1 / _PER_SECOND - now
        return 0.0

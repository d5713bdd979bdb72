"""One outgoing budget per chat: sends, edits, deletions and previews draw on it together.

Telegram takes about one message a second per chat and tolerates short bursts (Bot API FAQ, "limits"); previews and
typing share an allowance of their own. What is cosmetic is dropped when the budget is spent, what matters waits.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_PER_SECOND: Final = 1.0
_BURST: Final = 3.0
_COSMETIC_EVERY_SECONDS: Final = 1.0
_CHATS_REMEMBERED: Final = 20_000


@dataclass(slots=True)
class _Budget:
    level: float
    at: float
    cosmetic_at: float = 0.0
    muted_until: float = 0.0
    closed_until: float = 0.0


class Pace:
    """The budgets of the chats this process serves; a chat is served by one process at a time."""

    def __init__(self) -> None:
        self._budgets: OrderedDict[int, _Budget] = OrderedDict()

    async def wait(self, chat_id: int) -> None:
        """Returns when a message may be sent to the chat, and counts it."""
        loop = asyncio.get_running_loop()
        budget = self._of(chat_id)
        while (delay := self._delay(budget, loop.time())) > 0:
            await asyncio.sleep(delay)
        budget.level -= 1

    def may_show(self, chat_id: int) -> float:
        """Seconds until a preview or typing may be shown: 0 means now, and counts it."""
        now = asyncio.get_running_loop().time()
        budget = self._of(chat_id)
        delay = max(budget.cosmetic_at + _COSMETIC_EVERY_SECONDS, budget.muted_until) - now
        if delay <= 0:
            budget.cosmetic_at = now
        return max(delay, 0.0)

    def mute(self, chat_id: int, seconds: float) -> None:
        """No preview in this chat for a while: Telegram said 429 to one."""
        self._of(chat_id).muted_until = asyncio.get_running_loop().time() + seconds

    def close(self, chat_id: int, seconds: float) -> None:
        """Nothing at all to this chat for a while: Telegram said 429."""
        budget = self._of(chat_id)
        budget.closed_until = budget.muted_until = asyncio.get_running_loop().time() + seconds

    def _of(self, chat_id: int) -> _Budget:
        budget = self._budgets.get(chat_id)
        if budget is None:
            budget = self._budgets[chat_id] = _Budget(_BURST, asyncio.get_running_loop().time())
            if len(self._budgets) > _CHATS_REMEMBERED:
                self._budgets.popitem(last=False)
        else:
            self._budgets.move_to_end(chat_id)
        return budget

    @staticmethod
    def _delay(budget: _Budget, now: float) -> float:
        if now < budget.closed_until:
            return budget.closed_until - now
        budget.level = min(_BURST, budget.level + (now - budget.at) * _PER_SECOND)
        budget.at = now
        return 0.0 if budget.level >= 1 else (1 - budget.level) / _PER_SECOND

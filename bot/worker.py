"""Claims ready chats and works on them, many at once, one task a chat.

While a chat is worked on its lease is renewed; a chat whose worker stopped doing so is claimed by another one, on a
timer of its own, and the fence keeps the first one from writing when it wakes. A turn has a hard limit.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from redis.asyncio import Redis

from bot.conversation.turn import Turns
from bot.delivery.lane import Lane
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.timing import Timing
from storage.errors import StorageError
from storage.inbox import Inbox, Ready
from storage.journal import StaleFenceError
from storage.keys import PARTITIONS

_HANDOVER_SECONDS: Final = 3.0
_CHATS_AT_ONCE: Final = 256
_BLOCK_MS: Final = 1000
_PRUNE_SECONDS: Final = 600.0
_IDLE_CONSUMER_MS: Final = 3_600_000
_log = get_logger(__name__)


class Worker:
    """One process's share of the work."""

    def __init__(
        self,
        *,
        reader: "Redis",
        inbox: Inbox,
        lane: Lane,
        turns: Turns,
        metrics: Metrics,
        alone: bool,
        timing: Timing,
    ) -> None:
        """``alone``: no other process can be at work on this store, so what is claimed at the start is abandoned."""
        self._reader = reader
        self._inbox = inbox
        self._lane = lane
        self._turns = turns
        self._metrics = metrics
        self._alone = alone
        self._timing = timing
        self._lease = timing.lease
        self._name = uuid.uuid4().hex
        self._held: dict[asyncio.Task[None], Ready] = {}
        self._room = asyncio.Event()
        self._room.set()

    async def run(self) -> None:
        """Until cancelled; then running turns are finished or handed over, in 25 seconds at most."""
        await self._insist(self._inbox.prepare)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._every(self._lease / 4, self._renew))
                group.create_task(self._every(self._lease / 4, self._reclaim))
                group.create_task(self._every(self._timing.wake, self._tend))
                group.create_task(self._every(_PRUNE_SECONDS, self._prune))
                await self._claim_for_ever()
        finally:
            await self._drain()

    async def _claim_for_ever(self) -> None:
        if self._alone:
            await self._insist(lambda: self._take_over(0))
        pause = 0.0
        while True:
            await self._room.wait()
            try:
                free = _CHATS_AT_ONCE - len(self._held)
                count = max(1, free // PARTITIONS)
                for ready in await self._inbox.claim(self._reader, self._name, count, _BLOCK_MS):
                    self._start(ready)
                pause = 0.0
            except StorageError as error:
                if not pause:
                    _log.warning("claim.failed", error=type(error).__name__)
                pause = min(max(pause * 2, 0.1), 2.0)
                await asyncio.sleep(pause)

    def _start(self, ready: Ready) -> None:
        task = asyncio.create_task(self._work(ready))
        self._held[task] = ready
        self._metrics.active.set(len(self._held))
        if len(self._held) >= _CHATS_AT_ONCE:
            self._room.clear()
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._held.pop(task, None)
        self._metrics.active.set(len(self._held))
        self._room.set()

    async def _work(self, ready: Ready) -> None:
        try:
            async with asyncio.timeout(self._timing.turn):
                if not await self._turns.work(ready):
                    await self._inbox.drop(ready)
        except StaleFenceError:
            self._metrics.stale.inc()
            _log.info("turn.taken_over")
        except TimeoutError:
            _log.warning("turn.too_long")
        except StorageError as error:
            # The entry stays claimed and is taken up again when its lease ends.
            _log.warning("turn.interrupted", error=type(error).__name__)
        except Exception:  # noqa: BLE001 (the top of an owned task: the claim stays counted, and is taken up again)
            _log.exception("turn.failed")

    # ---- timers
    async def _every(self, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
        failing = False
        while True:
            try:
                await step()
                failing = False
            except StorageError as error:
                if not failing:
                    _log.warning("timer.failed", step=getattr(step, "__name__", ""), error=type(error).__name__)
                failing = True
            await asyncio.sleep(seconds)

    async def _renew(self) -> None:
        await self._inbox.renew(self._name, list(self._held.values()))

    async def _reclaim(self) -> None:
        await self._take_over(int(self._lease * 1000))

    async def _take_over(self, idle_ms: int) -> None:
        mine = {ready.entry for ready in self._held.values()}
        for ready in await self._inbox.reclaim(self._name, idle_ms):
            if ready.entry not in mine:
                self._metrics.redeliveries.inc()
                self._start(ready)

    async def _tend(self) -> None:
        due = await self._inbox.due(int(self._timing.trash * 1000))
        for chat_id, message_id in due.overdue:
            await self._lane.delete(chat_id, message_id)  # whoever lost with it has died

    async def _prune(self) -> None:
        await self._inbox.prune(_IDLE_CONSUMER_MS)

    async def _insist(self, step: Callable[[], Coroutine[Any, Any, object]]) -> None:
        while True:
            try:
                await step()
            except StorageError as error:
                _log.warning("store.waiting", error=type(error).__name__)
                await asyncio.sleep(0.2)
            else:
                return

    async def _drain(self) -> None:
        started = time.monotonic()
        renewal = asyncio.create_task(self._every(self._lease / 4, self._renew))
        if self._held:
            await asyncio.wait(set(self._held), timeout=self._timing.drain)
        left = set(self._held)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_HANDOVER_SECONDS)
        renewal.cancel()
        _log.info("worker.drained", handed_over=len(left), seconds=round(time.monotonic() - started, 1))

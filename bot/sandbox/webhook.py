"""Pushes one bot's updates to its webhook: in order within a chat, chats in parallel, again and again until a 2xx.

As on the real server each chat is a lane of its own, and each person's button presses another. A failed update is
tried again at once, then after twice the first delay, doubling to a minute; `Retry-After` of the reply wins.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import aiohttp

from bot.sandbox.account import Account, Webhook
from bot.sandbox.updates import KEPT_SECONDS, Kept

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 3600
#: How long the bot may take to answer.
REPLY_SECONDS = 60.0
MAX_REPLY_BYTES = 1 << 20
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105  # a header's name


class Pusher:
    """Runs from its making until `stop`. `carry_out` gets the body of each 2xx reply: it may be a Bot API call."""

    def __init__(
        self, account: Account, webhook: Webhook, session: aiohttp.ClientSession,
        carry_out: Callable[[Account, bytes], None], first_delay_seconds: float = FIRST_DELAY_SECONDS,
    ) -> None:  # fmt: skip
        self._account = account
        self._webhook = webhook
        self._session = session
        self._carry_out = carry_out
        self._first_delay = first_delay_seconds
        self._free = asyncio.Semaphore(webhook.max_connections)
        self._lanes: dict[str, deque[Kept]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        account.updates.on_push = self._add
        for kept in account.updates.all():
            self._add(kept)

    def stop(self) -> tuple[asyncio.Task[None], ...]:
        """Ends pushing; what was not delivered stays in the queue. Returns the tasks that are ending."""
        if self._account.updates.on_push == self._add:
            self._account.updates.on_push = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks

    def _add(self, kept: Kept) -> None:
        lane = self._lanes.get(kept.lane)
        if lane is not None:
            lane.append(kept)
            return
        self._lanes[kept.lane] = deque([kept])
        task = asyncio.get_running_loop().create_task(self._run(kept.lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, name: str) -> None:
        """Deliver one lane until it is empty."""
        lane = self._lanes[name]
        while lane:
            await self._deliver(lane[0])
            lane.popleft()
        del self._lanes[name]

    async def _deliver(self, kept: Kept) -> None:
        """Try until it is taken or a day old."""
        failures = 0
        while time.time() - kept.kept_at < KEPT_SECONDS:
            retry_after = await self._try(kept)
            if retry_after is None:
                break
            await asyncio.sleep(retry_after or delay_seconds(failures, self._first_delay))
            failures += 1
        self._account.updates.drop(kept.update_id)
        self._account.record.commit()

    async def _try(self, kept: Kept) -> float | None:
        """One delivery: None where it was taken, else the seconds that the reply asks to wait (0: none named)."""
        headers = {"Content-Type": "application/json"}
        if self._webhook.secret_token:
            headers[SECRET_HEADER] = self._webhook.secret_token
        try:
            async with (
                self._free,
                asyncio.timeout(REPLY_SECONDS),
                self._session.post(self._webhook.url, data=kept.body, headers=headers, allow_redirects=False) as got,
            ):
                body = await got.content.read(MAX_REPLY_BYTES)
                status, reason, asked = got.status, got.reason, got.headers.get("Retry-After", "")
        except TimeoutError:
            return self._failed("Read timeout expired")
        except (aiohttp.ClientError, OSError):
            return self._failed("Connection refused")
        if 200 <= status <= 299:  # HTTP's range of success
            self._carry_out(self._account, body)
            return None
        self._failed(f"Wrong response from the webhook: {status} {reason}")
        return min(float(asked), LONGEST_RETRY_AFTER_SECONDS) if asked.isdecimal() else 0.0

    def _failed(self, reason: str) -> float:
        self._account.webhook_error = (int(time.time()), reason)
        return 0.0


def delay_seconds(failures: int, first_delay_seconds: float) -> float:
    """The wait after one more failure: none at first, then twice the first delay, doubling up to a minute."""
    return min(first_delay_seconds * 2 ** min(failures, 16), LONGEST_DELAY_SECONDS) if failures else 0.0

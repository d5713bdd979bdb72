"""One bot's queue of updates and the long poll on it.

An update leaves the queue when a later offset confirms it, when the webhook took it with a 2xx, or after a day.
Only one poll waits at a time: a newer one ends the older with 409, as the real server does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from bot.sandbox.form import dump
from bot.sandbox.record import Record
from bot.sandbox.refusal import RefusedError

MAX_TIMEOUT_SECONDS = 50
MAX_BATCH = 100
#: Updates are kept for 24 hours (Bot API, getting updates).
KEPT_SECONDS = 24 * 3600
#: Not delivered unless `allowed_updates` names them (Bot API, getUpdates).
UNASKED = frozenset({"chat_member", "message_reaction", "message_reaction_count"})
FIRST_UPDATE_ID = 1001

OTHER_POLL = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_SET = "Conflict: terminated by setWebhook request"
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)


class Kept(NamedTuple):
    """One unconfirmed update. `lane` orders webhook deliveries; `kept_at` is in Unix seconds."""

    update_id: int
    kept_at: int
    lane: str
    body: bytes


class UpdateQueue:
    """Unconfirmed updates in order."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._kept: dict[int, Kept] = {row[0]: Kept(*row) for row in record.updates()}
        self._next_id: int = record.kept("next_update_id", FIRST_UPDATE_ID)
        self._allowed: list[str] = record.kept("allowed_updates", [])
        self._waiting: asyncio.Future[None] | None = None
        self.on_push: Callable[[Kept], None] | None = None
        self.polls = 0

    def __len__(self) -> int:
        return len(self._kept)

    def all(self) -> list[Kept]:
        return list(self._kept.values())

    @property
    def allowed(self) -> list[str]:
        return self._allowed

    def push(self, update: dict[str, Any]) -> int:
        """Queue an update given without id. Returns its id, or 0 where `allowed_updates` leaves its kind out."""
        kind = next((name for name in update if name != "update_id"), "")
        if (kind not in self._allowed) if self._allowed else (kind in UNASKED):
            return 0
        update_id = self._next_id
        self._next_id += 1
        kept = Kept(update_id, int(time.time()), lane_of(kind, update), dump({"update_id": update_id, **update}))
        self._kept[update_id] = kept
        self._record.keep("next_update_id", self._next_id)
        self._record.keep_update(*kept)
        self._record.commit()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if self.on_push is not None:
            self.on_push(kept)
        return update_id

    def allow(self, kinds: object) -> None:
        """Remember `allowed_updates`; anything but a list leaves the former choice, as in the original."""
        if isinstance(kinds, list):
            chosen = [kind for kind in kinds if isinstance(kind, str)]
            if chosen != self._allowed:
                self._allowed = chosen
                self._record.keep("allowed_updates", chosen)

    def drop(self, update_id: int) -> None:
        if self._kept.pop(update_id, None) is not None:
            self._record.drop_update(update_id)

    def clear(self) -> None:
        for update_id in tuple(self._kept):
            self.drop(update_id)

    def confirm(self, offset: int) -> None:
        """Forget what `offset` confirms: all before it, or for a negative one all but the last `-offset`."""
        if offset < 0:
            for update_id in tuple(self._kept)[:offset]:
                self.drop(update_id)
            return
        while self._kept:
            first = next(iter(self._kept))
            if first >= offset:
                break
            self.drop(first)

    def batch(self, limit: int) -> bytes:
        """The first updates as the finished reply's body; those over a day old are gone."""
        oldest = int(time.time()) - KEPT_SECONDS
        while self._kept and (first := next(iter(self._kept.values()))).kept_at < oldest:
            self.drop(first.update_id)
        part = [kept.body for _, kept in zip(range(limit), self._kept.values(), strict=False)]
        return b'{"ok":true,"result":[' + b",".join(part) + b"]}"

    async def poll(self, offset: int, limit: int, timeout: float, gone: asyncio.Future[None] | None) -> bytes:
        """The reply to `getUpdates`. Waits up to `timeout` seconds; `gone` ends the wait when the client hangs up.

        Raises `RefusedError` 409 when another poll or a webhook takes over.
        """
        self.polls += 1
        self.confirm(offset)
        self._record.commit()
        if timeout > 0 and not self._kept:
            self.end_poll(OTHER_POLL)
            mine = self._waiting = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait({mine} | ({gone} if gone else set()), timeout=timeout, return_when="FIRST_COMPLETED")
            finally:
                if self._waiting is mine:
                    self._waiting = None
            if mine.done():
                mine.result()
        return self.batch(limit)

    def end_poll(self, reason: str) -> None:
        """End the waiting poll with 409."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RefusedError(409, reason))
        self._waiting = None


def lane_of(kind: str, update: dict[str, Any]) -> str:
    """Updates of one lane are delivered one after the other to a webhook: a chat's, and apart each person's presses."""
    body = update[kind] if kind else {}
    if not isinstance(body, dict):
        return kind
    if kind == "callback_query":
        return f"callback:{(body.get('from') or {}).get('id', 0)}"
    chat = body.get("chat")
    if isinstance(chat, dict):
        return f"chat:{chat.get('id', 0)}"
    return f"user:{(body.get('from') or {}).get('id', 0)}"


def read_update(body: bytes) -> Any:
    """An update's JSON, for those who look into the queue."""
    return orjson.loads(body)

"""One bot as the sandbox knows it: its token, its world, its updates, its settings at Telegram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bot.sandbox.record import Database, Record
from bot.sandbox.updates import UpdateQueue
from bot.sandbox.world import World


class Webhook(NamedTuple):
    """Where updates are pushed."""

    url: str
    secret_token: str = ""
    max_connections: int = 40


class Account:
    """Everything that belongs to one token. Raises ValueError for a token without a numeric id in front."""

    def __init__(self, token: str, username: str, database: Database) -> None:
        head, colon, rest = token.partition(":")
        if not head.isdecimal() or not colon or not rest:
            raise ValueError("a bot token is a number, a colon and a secret")
        self.token = token
        self.bot_id = int(head)
        self.me: dict[str, Any] = {
            "id": self.bot_id, "is_bot": True, "first_name": "Sandbox bot", "username": username,
        }  # fmt: skip
        self.record = Record(database, self.bot_id)
        self.world = World(self.me, self.record)
        self.updates = UpdateQueue(self.record)
        self.profile: dict[str, Any] = self.record.kept("profile", {})
        kept = self.record.kept("webhook", None)
        self.webhook: Webhook | None = Webhook(**kept) if kept else None
        self.webhook_error: tuple[int, str] | None = None
        #: Called after the webhook was set or removed; the server starts or stops pushing.
        self.webhook_changed: Callable[[], None] = _nothing

    def keep_webhook(self, webhook: Webhook | None) -> None:
        self.webhook = webhook
        self.webhook_error = None
        self.record.keep("webhook", webhook._asdict() if webhook else None)

    def keep_profile(self, name: str, value: Any) -> None:
        self.profile[name] = value
        self.record.keep("profile", self.profile)


def _nothing() -> None:
    """Nobody pushes yet."""

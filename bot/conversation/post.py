"""Puts sealed mail into a chat's mailbox: Telegram's updates, and letters from one chat of the bot to another.

A letter about a customer is sealed under the customer's own key wherever it goes, so that their forget reaches it.
"""

import time
from typing import Any, Final

import orjson

from storage.inbox import Inbox, Mail
from storage.vault import Vault

_EPOCHS_REMEMBERED: Final = 200_000


class Post:
    """Raises StorageError."""

    def __init__(self, inbox: Inbox, vault: Vault) -> None:
        self._inbox = inbox
        self._vault = vault
        self._epochs: dict[int, int] = {}

    async def update(self, chat_id: int, update_id: int, received_ms: int, content: bytes, *, urgent: bool) -> str:
        """Stores an update; ok, seen or full."""
        epoch = self._epochs.get(chat_id, 0)
        while True:
            name = mail_key(epoch)
            key = self._vault.cached_key(chat_id, name) or await self._vault.key(chat_id, name)
            sealed = self._vault.seal(key, content, mail_bound(chat_id, update_id, epoch))
            mail = Mail("urgent" if urgent else "update", update_id, received_ms, sealed)
            enqueued = await self._inbox.enqueue(chat_id, epoch, mail)
            if enqueued.answer != "epoch":
                return enqueued.answer
            # The chat was forgotten since: what comes after it belongs under its new key.
            epoch = self._remember(chat_id, enqueued.epoch)

    async def letter(
        self, chat_id: int, cause: int, content: dict[str, Any], *, about: tuple[int, int] | None = None
    ) -> None:
        """Posts a letter into another chat, once for each update that causes it. ``about``: another customer than the
        reader, and the epoch of their chat: then nothing is posted when that was forgotten meanwhile."""
        epoch = self._epochs.get(chat_id, 0)
        update_id = -cause
        while True:
            if about is None:
                key = await self._vault.key(chat_id, mail_key(epoch))
            else:
                standing = await self._vault.standing_key(about[0], mail_key(about[1]))
                # Asked in this order: the key was the chat's own, or what is sealed with it is of no use.
                if standing is None or await self._inbox.epoch(about[0]) != about[1]:
                    return
                key = standing
            sealed = self._vault.seal(key, orjson.dumps(content), mail_bound(chat_id, update_id, epoch))
            mail = Mail("post", update_id, int(time.time() * 1000), sealed)
            enqueued = await self._inbox.enqueue(chat_id, epoch, mail)
            if enqueued.answer != "epoch":
                return
            epoch = self._remember(chat_id, enqueued.epoch)

    def _remember(self, chat_id: int, epoch: int) -> int:
        if len(self._epochs) > _EPOCHS_REMEMBERED:
            self._epochs.clear()
        self._epochs[chat_id] = epoch
        return epoch


def mail_key(epoch: int) -> str:
    """The name of the key of a chat's mail."""
    return f"mail.{epoch}"


def mail_bound(chat_id: int, update_id: int, epoch: int) -> str:
    """What a sealed update is bound to."""
    return f"{chat_id}|mail|{update_id}|{epoch}"

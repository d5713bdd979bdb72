"""Puts sealed mail into a chat's mailbox: Telegram's updates, and letters from one chat of the bot to another.

A letter about a customer is sealed under the customer's own key wherever it goes, so that their forget reaches it.
"""

import time
from typing import Any, Final

import orjson

from storage.inbox import Inbox, Mail
from storage.keynames import mail_key
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
            name = mail_key(epoch, received_ms / 1000)
            key = self._vault.cached_key(chat_id, name) or await self._vault.key(chat_id, name)
            sealed = self._vault.seal(key, content, mail_bound(chat_id, update_id, epoch))
            mail = Mail("urgent" if urgent else "update", update_id, received_ms, sealed)
            enqueued = await self._inbox.enqueue(chat_id, epoch, mail)
            if enqueued.answer != "epoch":
                return enqueued.answer
            # The chat was forgotten since: what comes after it belongs under its new key.
            epoch = self._remember(chat_id, enqueued.epoch)

    async def order(self, chat_id: int, number: int, content: dict[str, Any]) -> None:
        """Has something done in a chat at once, for whoever runs the service (see ``batch.ordered``). ``number``: above
        zero, another one for each order: it is carried out once."""
        received_ms, packed = int(time.time() * 1000), orjson.dumps(content)
        await self.update(chat_id, -number, received_ms, packed, urgent=True)

    async def letter(
        self, chat_id: int, cause: int, content: dict[str, Any], *, about: tuple[int, int] | None = None
    ) -> None:
        """Posts a letter into another chat, once for each update that causes it. ``about``: another customer than the
        reader, and the epoch of their chat: then nothing is posted when that was forgotten meanwhile."""
        epoch = self._epochs.get(chat_id, 0)
        update_id, now_ms = -cause, int(time.time() * 1000)
        while True:
            owner, era = about or (chat_id, epoch)
            key = await self._vault.key(owner, mail_key(era, now_ms / 1000))
            # Asked in this order: a forget first raises the epoch and then destroys all keys of the old one.
            if about is not None and await self._inbox.epoch(owner) != era:
                return
            sealed = self._vault.seal(key, orjson.dumps(content), mail_bound(chat_id, update_id, epoch))
            mail = Mail("post", update_id, now_ms, sealed)
            enqueued = await self._inbox.enqueue(chat_id, epoch, mail)
            if enqueued.answer != "epoch":
                return
            epoch = self._remember(chat_id, enqueued.epoch)

    def _remember(self, chat_id: int, epoch: int) -> int:
        if len(self._epochs) > _EPOCHS_REMEMBERED:
            self._epochs.clear()
        self._epochs[chat_id] = epoch
        return epoch


def mail_bound(chat_id: int, update_id: int, epoch: int) -> str:
    """What a sealed update is bound to."""
    return f"{chat_id}|mail|{update_id}|{epoch}"

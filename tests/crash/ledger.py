"""Looks into a store from outside, with its keys: the histories, and what is still to be done."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from storage.connection import StoreTarget, connect
from storage.errors import SealBrokenError
from storage.history import History
from storage.keys import PARTITIONS, Keys
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.crash.judge import Stored

UNREADABLE: Final = "(does not open)"


class Ledger:
    """One bot's part of a store."""

    def __init__(self, client: Redis, vault: Vault, bot_id: int) -> None:
        self.client = client
        self.keys = Keys(bot_id)
        self._vault = vault
        self._history = History(Store(client), self.keys)

    async def turns(self, chat_id: int) -> list[Stored]:
        """The stored turns of a chat without topics, oldest first, opened."""
        chat = await self.client.hgetall(self.keys.of(chat_id).chat)
        last = int(chat.get(b"n:0", 0))
        found = []
        for turn in await self._history.read(chat_id, 0, 0, 1, last):
            bound = turn_bound(chat_id, 0, 0, turn.number)
            try:
                record = Record.unpacked(await self._vault.open_any(turn.record, bound))
            except SealBrokenError:
                record = Record((), UNREADABLE)
            questions = tuple(asked.text for asked in record.asked) or (UNREADABLE,) * len(turn.question_ids)
            found.append(Stored(turn.number, turn.question_ids, questions, record.said, turn.answer_ids))
        return found

    async def open_work(self, chats: Iterable[int]) -> dict[str, int]:
        """What is not done yet: chats claimed or ready, sweeps to come, messages to delete. Empty: all is quiet."""
        pipeline = self.client.pipeline(transaction=False)
        for chat_id in chats:
            pipeline.hexists(self.keys.of(chat_id).chat, "entry")
        busy = sum(await pipeline.execute())
        for name in ("sweeps", "trash"):
            for number in range(PARTITIONS):
                pipeline.zcard(self.keys.partition(name, number))
        waiting = await pipeline.execute()
        found = {"busy": busy, "sweeps": sum(waiting[:PARTITIONS]), "trash": sum(waiting[PARTITIONS:])}
        return {name: number for name, number in found.items() if number}


@asynccontextmanager
async def ledger(
    store_url: str, bot_id: int, *, master_key_file: Path, keyring_url: str, data_dir: Path
) -> AsyncIterator[Ledger]:
    """Opens the store beside the running service."""
    client = await connect(StoreTarget.parse(store_url), connections=4, timeout_seconds=5.0)
    try:
        vault = await open_vault(
            client, bot_id, master_key_file=master_key_file, keyring_url=keyring_url, data_dir=data_dir
        )
        try:
            yield Ledger(client, vault, bot_id)
        finally:
            await vault.aclose()
    finally:
        await client.aclose()

"""A real store with a real vault, filled as the service would have filled it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bot.conversation.record import Record
from bot.conversation.window import turn_bound
from bot.privacy.export import Exporter
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import REMOVED, History, StoredTurn
from storage.inbox import Ready
from storage.journal import ChatState, Journal
from storage.keys import Keys
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.privacy.samples import BOT_ID, CHAT_ID

_FIELDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """One chat's history in a store."""

    client: Redis
    vault: Vault

    @property
    def _keys(self) -> Keys:
        return Keys(BOT_ID)

    @property
    def history(self) -> History:
        return History(Store(self.client), self._keys)

    def exporter(self, **options: int) -> Exporter:
        return Exporter(Journal(Store(self.client), self._keys, sweep_after=[]), self.history, self.vault, **options)

    def state(self, last: int = 0, conversation: int = 0) -> ChatState:
        """The chat with a running conversation of so many turns."""
        state = ChatState(Ready(CHAT_ID, ""), 1, 0, 0, [], None, 0, 0)
        state.conversation[0] = conversation
        if last:
            state.last[0] = last
        return state

    async def keep(self, conversation: int, records: Mapping[int, Record]) -> None:
        """Turns by number, each answered by a message of that id."""
        key = await self.vault.key(CHAT_ID, f"talk.0.{conversation}")
        fields: list[bytes | int] = []
        for number, record in records.items():
            sealed = self.vault.seal(key, record.packed(), turn_bound(CHAT_ID, 0, conversation, number))
            ids = tuple(asked.message_id for asked in record.asked)
            fields += [number, StoredTurn(number, ids, 0, (number,), sealed).packed()]
        for at in range(0, len(fields), _FIELDS_AT_ONCE):
            await self.client.hset(self._turns(conversation), items=fields[at : at + _FIELDS_AT_ONCE])

    async def put(self, conversation: int, number: int, value: bytes) -> None:
        await self.client.hset(self._turns(conversation), str(number), value)

    async def remove(self, conversation: int, number: int) -> None:
        """As the customer asks for a single turn."""
        await self.put(conversation, number, REMOVED)

    def _turns(self, conversation: int) -> str:
        return self._keys.of(CHAT_ID).turns(0, conversation)

    async def end(self, conversation: int, turns: int) -> None:
        await self.client.rpush(self._keys.of(CHAT_ID).past, f"0:{conversation}:{turns}")


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    server = EmbeddedServer(tmp_path / "data")
    await server.start()
    client = await connect(StoreTarget.parse(server.url), connections=2, timeout_seconds=20.0)
    secrets = tmp_path / "secrets"
    vault = await open_vault(
        client,
        BOT_ID,
        master_key_file=secrets / "master.key",
        keyring_url=f"sqlite:{secrets / 'keyring.db'}",
        data_dir=tmp_path / "data",
    )
    yield Kept(client, vault)
    await vault.aclose()
    await client.aclose()
    await server.aclose()

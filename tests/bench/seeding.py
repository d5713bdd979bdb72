"""Fills a store as the service itself would have left it, without living through it: sealed turns, under their keys.

What is written goes through the vault and the window that the service uses; only the script that ends a turn is not run
a million times. Message and update ids stand far apart from those that the sandbox gives out, which start above them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncio

from redis.asyncio import Redis

from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens
from bot.conversation.window import Window
from bot.settings import SUPPORT_PROMPT
from bot.timing import Timing
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import History
from storage.inbox import Ready
from storage.journal import ChatState
from storage.keys import Keys
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.bench.stage import ANSWER, QUESTION, TOKEN

LAST_MESSAGE_ID: Final = 100_000_000
"""Seeded ids stay below, the sandbox's start above."""

_BOT_ID: Final = int(TOKEN.partition(":")[0])
_KEYS_AT_ONCE: Final = 5_000
_COMMANDS_AT_ONCE: Final = 2_000
_OWN_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Past:
    """What one chat is given: so many turns, under a context budget in tokens."""

    chat_id: int
    turns: int
    budget: int


async def seed(state: Path, past: list[Past]) -> None:
    """Writes the chats into an embedded store of the state folder, and ends it."""
    server = EmbeddedServer(state / "data")
    await server.start()
    try:
        client = await connect(StoreTarget.parse(server.url), connections=2, timeout_seconds=60.0)
        vault = await open_vault(
            client,
            _BOT_ID,
            master_key_file=state / "secrets" / "master.key",
            keyring_url=f"sqlite:{state / 'secrets' / 'keyring.db'}",
            data_dir=state / "data",
        )
        try:
            await _seed(client, vault, past)
        finally:
            await vault.aclose()
            await client.aclose()
    finally:
        await server.aclose()


async def _seed(client: Redis, vault: Vault, past: list[Past]) -> None:
    for at in range(0, len(past), _KEYS_AT_ONCE):
        names = [(chat.chat_id, name) for chat in past[at : at + _KEYS_AT_ONCE] for name in ("mail.0", "talk.0.0.0")]
        await asyncio.gather(*(vault.key(chat_id, name) for chat_id, name in names))
    keys = Keys(_BOT_ID)
    window = Window(History(Store(client), keys), vault)
    pipeline = client.pipeline(transaction=False)
    for chat in past:
        await _queue(pipeline, keys, window, chat)
        if len(pipeline) >= _COMMANDS_AT_ONCE:
            await pipeline.execute()
    await pipeline.execute()


async def _queue(pipeline: Redis, keys: Keys, window: Window, chat: Past) -> None:
    of_chat = keys.of(chat.chat_id)
    state = ChatState(Ready(chat.chat_id, ""), 1, 0, 0, [], None, 0, 0)
    base = chat.chat_id % 1_000_000 * 100
    fields: dict[bytes | str, bytes] = {}
    for number in range(1, chat.turns + 1):
        question_id, answer_id = base + 2 * number, base + 2 * number + 1
        record = Record((Asked(question_id, f"Q{chat.chat_id} {QUESTION}", 1_700_000_000),), ANSWER, model="bench")
        sealed, header = await window.sealed(state, 0, number, record)
        fields[str(number)] = f"{header}|{answer_id}\n".encode() + sealed
    answers = [base + 2 * number + 1 for number in range(1, chat.turns + 1)][-_OWN_KEPT:]
    await pipeline.hset(of_chat.turns(0, 0), mapping=fields)  # type: ignore[misc]
    first = window_start(chat)
    await pipeline.hset(  # type: ignore[misc]
        of_chat.chat,
        mapping={"fence": chat.turns, "done": chat.turns, "n:0": chat.turns, **({"s:0": first} if first > 1 else {})},
    )
    await pipeline.zadd(of_chat.own, {str(message_id): message_id for message_id in answers})

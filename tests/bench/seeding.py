"""Fills a store as the service itself would have left it, without living through it: sealed turns, under their keys.

What is written goes through the vault and the window that the service uses; only the script that ends a turn is not run
a million times. Message and update ids stand far apart from those that the sandbox gives out, which start above them.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from bot.conversation.record import Asked, Record
from bot.conversation.tokens import count_tokens
from bot.conversation.window import Window
from bot.settings import SUPPORT_PROMPT
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import History
from storage.inbox import Ready
from storage.journal import ChatState
from storage.keys import Keys
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.bench.stage import ANSWER, TOKEN, question_of

LAST_MESSAGE_ID: Final = 100_000_000
"""Seeded ids stay below, the sandbox's start above."""

_BOT_ID: Final = int(TOKEN.partition(":")[0])
_KEYS_AT_ONCE: Final = 5_000
_COMMANDS_AT_ONCE: Final = 2_000
_TURNS_AT_ONCE: Final = 500
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
        some = past[at : at + _KEYS_AT_ONCE]
        await asyncio.gather(*(vault.key(chat.chat_id, name) for chat in some for name in ("mail.0", "talk.0.0.0")))
    keys = Keys(_BOT_ID)
    window = Window(History(Store(client), keys), vault)
    commands: list[list[Any]] = []
    for chat in past:
        commands += await _commands(keys, window, chat)
        if len(commands) >= _COMMANDS_AT_ONCE or chat is past[-1]:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute()
            commands = []


async def _commands(keys: Keys, window: Window, chat: Past) -> list[list[Any]]:
    of_chat = keys.of(chat.chat_id)
    state = ChatState(Ready(chat.chat_id, ""), 1, 0, 0, [], None, 0, 0)
    base = chat.chat_id % 1_000_000 * 100
    turns: list[list[Any]] = []
    for at in range(1, chat.turns + 1, _TURNS_AT_ONCE):
        turns.append(["HSET", of_chat.turns(0, 0)])
        for number in range(at, min(at + _TURNS_AT_ONCE, chat.turns + 1)):
            asked = Asked(base + 2 * number, question_of(chat.chat_id), 1_700_000_000)
            record = Record((asked,), ANSWER, model="bench")
            sealed, header = await window.sealed(state, 0, number, record)
            turns[-1] += [number, f"{header}|{base + 2 * number + 1}\n".encode() + sealed]
    own: list[Any] = ["ZADD", of_chat.own]
    for number in range(max(1, chat.turns - _OWN_KEPT + 1), chat.turns + 1):
        own += [base + 2 * number + 1] * 2
    fields: list[Any] = ["HSET", of_chat.chat, "fence", chat.turns, "done", chat.turns, "n:0", chat.turns]
    first = window_start(chat)
    return [*turns, own, fields + (["s:0", first] if first > 1 else [])]


def window_start(chat: Past) -> int:
    """The first turn that the model is still told, trimmed to half of the budget whenever it is full, as the
    service would have done."""
    question = count_tokens(question_of(chat.chat_id))
    room = chat.budget - count_tokens(SUPPORT_PROMPT) - question
    turn = question + count_tokens(ANSWER)
    first = 1
    for number in range(2, chat.turns + 1):
        if (number - first) * turn > room:
            first = number - room // 2 // turn
    return first

"""What the export of a customer with a million messages takes: the plan, and every part read, opened and written; and
what it takes to forget one with ten thousand.

The store is filled by one process and exported by another one, of which CPU, memory and hold-ups of its event loop are
told. All of it is its own whoever else is at work: how long the loop was held up, too, is told in CPU time.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import uvloop
from redis.asyncio import Redis

from bot.collector import unhurried_collector
from bot.conversation.batch import ALL
from bot.conversation.intents import Act, Deed
from bot.conversation.notebook import Notebook
from bot.conversation.record import Asked, Record
from bot.conversation.remotes import Remotes
from bot.conversation.window import Window
from bot.privacy.archive import archive
from bot.privacy.erase import Eraser, Reach
from bot.privacy.export import Exporter, about_part
from bot.privacy.seal import Seal
from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer
from storage.history import History
from storage.inbox import Ready
from storage.journal import ChatState, Journal
from storage.keys import Keys
from storage.receipts import Receipts
from storage.removals import Removals
from storage.scripts import Store
from storage.vault import Vault, open_vault
from tests.bench.process import BenchError
from tests.bench.stage import TOKEN
from tests.bench.streamer import SPOKEN

if TYPE_CHECKING:
    from bot.chat_api.client import ChatApi

MESSAGES: Final = 1_000_000
QUICK_MESSAGES: Final = 20_000
MOST_SECONDS: Final = 60.0
"""Of CPU, for a million messages."""

MOST_MIB: Final = 64.0
FORGOTTEN: Final = 10_000
MOST_FORGET_MS: Final = 50.0
"""In the store."""

MOST_HELD_MS: Final = 10.0

_BOT_ID: Final = int(TOKEN.partition(":")[0])
_CHAT_ID: Final = 1001
_CONVERSATIONS: Final = 40
_TURNS_AT_ONCE: Final = 500
_BEAT_SECONDS: Final = 0.002
_DEADLINE_SECONDS: Final = 560.0


def exports(messages: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Figures of one export of so many messages."""
    tell(f"export: one customer with {messages:,} messages")
    figures = {"messages": messages, **_measured("export", messages)}
    tell(f"forget: one customer with {FORGOTTEN:,} messages")
    return figures | {"forget": _measured("forget", FORGOTTEN)}


def _measured(what: str, messages: int) -> dict[str, Any]:
    """A store filled by one process, and figures of what another one does with it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for step in ("fill", what):
            command = [sys.executable, "-m", "tests.bench.exports", step, folder, str(messages // 2)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False)
            if ended.returncode:
                raise BenchError(f"{step}: {ended.stderr[-500:]}")
    figures: dict[str, Any] = json.loads(ended.stdout)
    return figures


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[tuple[Redis, Vault, EmbeddedServer]]:
    server = EmbeddedServer(folder / "data")
    await server.start()
    try:
        client = await connect(StoreTarget.parse(server.url), connections=2, timeout_seconds=60.0)
        vault = await open_vault(
            client,
            _BOT_ID,
            master_key_file=folder / "secrets" / "master.key",
            keyring_url=f"sqlite:{folder / 'secrets' / 'keyring.db'}",
            data_dir=folder / "data",
        )
        try:
            yield client, vault, server
        finally:
            await vault.aclose()
            await client.aclose()
    finally:
        await server.aclose()


async def _fill(folder: Path, turns: int) -> None:
    """Ended conversations of equal length, each under a key of its own, in words that repeat as they do in speech."""
    drawn = random.Random(1)
    async with _opened(folder) as (client, vault, _):
        keys = Keys(_BOT_ID)
        window = Window(History(Store(client), keys), vault)
        of_chat = keys.of(_CHAT_ID)
        each = turns // _CONVERSATIONS
        for conversation in range(_CONVERSATIONS):
            state = ChatState(Ready(_CHAT_ID, ""), 1, 0, 0, [], None, 0, 0, conversation={0: conversation})
            for at in range(1, each + 1, _TURNS_AT_ONCE):
                fields: list[Any] = []
                for number in range(at, min(at + _TURNS_AT_ONCE, each + 1)):
                    message_id = 2 * (conversation * each + number)
                    record = _record(drawn, message_id)
                    sealed, header = await window.sealed(state, 0, number, record)
                    fields += [number, f"{header}|{message_id + 1}\n".encode() + sealed]
                await client.hset(of_chat.turns(0, conversation), items=fields)
            await client.rpush(of_chat.past, f"0:{conversation}:{each}")


def _record(drawn: random.Random, message_id: int) -> Record:
    question, answer = (" ".join(drawn.choices(SPOKEN, k=drawn.randint(*words))) for words in ((4, 24), (15, 60)))
    asked_s = 1_700_000_000 + message_id * 30
    return Record((Asked(message_id, question, asked_s),), answer, model="bench", more={"t": asked_s + 9, "version": 1})


async def _export(folder: Path) -> dict[str, Any]:
    """The whole export, into nothing, and what it took."""
    async with _opened(folder) as (client, vault, server):
        store, keys = Store(client), Keys(_BOT_ID)
        exporter = Exporter(Journal(store, keys, sweep_after=[]), History(store, keys), vault)
        state = ChatState(Ready(_CHAT_ID, ""), 1, 0, 0, [], None, 0, 0)
        with unhurried_collector():  # as the service itself does
            await _warm(exporter, state)
        pulse = _Pulse()
        beating = asyncio.create_task(pulse.beat())
        figures = {"seconds": time.monotonic(), "cpu": time.process_time(), "store_cpu": _cpu(server)}
        before = _status("VmHWM")
        sizes = [size async for size in _parts(exporter, state)]
        taken = {
            "seconds": time.monotonic() - figures["seconds"],
            "cpu": time.process_time() - figures["cpu"],
            "store_cpu": _cpu(server) - figures["store_cpu"],
        }
        beating.cancel()
        return {name: round(value, 2) for name, value in taken.items()} | {
            "grown_mib": round((_status("VmHWM") - before) / 1024, 1),
            "parts": len(sizes),
            "bytes": sum(sizes),
            "largest": max(sizes),
            "held_ms": pulse.figures(),
        }


async def _forget(folder: Path) -> dict[str, Any]:
    """Everything of the customer forgotten, from the press of the button to the receipt; what the store did of it, by
    its own count of every command."""
    async with _opened(folder) as (client, vault, _):
        store, keys = Store(client), Keys(_BOT_ID)
        journal, history = Journal(store, keys, sweep_after=[15]), History(store, keys)
        nobody = cast("ChatApi", None)  # nothing of this customer is kept elsewhere
        eraser = Eraser(
            journal,
            Window(history, vault),
            vault,
            Remotes(journal, vault, Removals(store, keys), nobody, b""),
            Notebook(history, vault, None, 16_000),
            history=history,
            receipts=Receipts(store, keys, keep_days=30),
            reach=Reach(7),
        )
        await client.hset(keys.of(_CHAT_ID).chat, mapping={"entry": "1-1", "base": 0, "newest": _CONVERSATIONS})
        state = await _claimed(journal, client, keys)
        before, began = await _store_us(client), time.monotonic()
        act = Act(Deed.ERASE, argument=ALL)
        await eraser.begin(state, act, source=1, read=0, beside=(), language="en")
        state = await _claimed(journal, client, keys)
        await eraser.go_on(state, state.forgetting)
        taken = {"ms": (time.monotonic() - began) * 1000, "store_ms": (await _store_us(client) - before) / 1000}
        if await client.exists(*(keys.of(_CHAT_ID).turns(0, number) for number in range(_CONVERSATIONS))):
            raise BenchError("something was not forgotten")
        return {name: round(value, 2) for name, value in taken.items()}


async def _claimed(journal: Journal, client: Redis, keys: Keys) -> ChatState:
    await client.hset(keys.of(_CHAT_ID).chat, "entry", "1-1")
    state = await journal.begin(Ready(_CHAT_ID, "1-1"), 10)
    if state is None:
        raise BenchError("the chat could not be claimed")
    return state


async def _store_us(client: Redis) -> float:
    """Microseconds that commands have taken in the store."""
    stats = await client.info("commandstats")
    return float(sum(entry["usec"] for name, entry in stats.items() if "info" not in name))


async def _parts(exporter: Exporter, state: ChatState) -> AsyncIterator[int]:
    plan: dict[str, Any] = {"parts": await exporter.plan(state), "made": 1_795_269_780}
    seal = Seal.of(hashlib.sha256(b"bench").digest())
    for part, extent in enumerate(plan["parts"], 1):
        about = about_part(plan, part, bot="Bench", bot_id=_BOT_ID, chat_id=_CHAT_ID, language="en")
        size = 0
        async for chunk in archive(about, partial(exporter.entries, state, extent), str, seal=seal):
            size += len(chunk)
        yield size


async def _warm(exporter: Exporter, state: ChatState) -> None:
    """What is loaded at first use is no growth."""
    about = about_part({"made": 1, "parts": [()]}, 1, bot="B", bot_id=1, chat_id=_CHAT_ID, language="en")
    extent = [(0, 0, 1, 10)]
    async for _ in archive(about, partial(exporter.entries, state, extent), str, seal=Seal.of(bytes(32))):
        pass


class _Pulse:
    """How long the event loop was held up."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def beat(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(_BEAT_SECONDS)
            self._late.append(max(0.0, time.thread_time() - before - _BEAT_SECONDS))

    def figures(self) -> dict[str, float]:
        ordered = sorted(self._late)
        at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        found = {name: ordered[int(len(ordered) * share)] for name, share in at.items()} | {"max": ordered[-1]}
        return {name: round(1000 * late, 2) for name, late in found.items()}


def _cpu(server: EmbeddedServer) -> float:
    """Seconds that the store's process has had."""
    [pid] = _children()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children() -> Iterator[int]:
    for task in Path("/proc/self/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def main(step: str, folder: str, turns: str) -> None:
    """One step, in a process of its own; on all processors, so that the store does not stand in its way."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    if step == "fill":
        asyncio.run(_fill(Path(folder), int(turns)))
        return
    work = _export if step == "export" else _forget
    print(json.dumps(uvloop.run(work(Path(folder)))))


if __name__ == "__main__":
    main(*sys.argv[1:])

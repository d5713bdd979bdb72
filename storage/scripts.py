"""Calls to the store: gathered into pipelines, scripts by their hash, repeated until answered.

All commands that the tasks of a process issue in one turn of the event loop travel as one pipeline, which costs a
fraction of a call each and lets ``appendfsync always`` pay one fsync for many. A caller that is cancelled leaves its
reply to be dropped, so that no cancellation can tear a connection out of step with its replies.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from storage.errors import StorageError, StoreUnavailableError, translated

Argument = str | bytes | int | float
_LUA: Final = Path(__file__).parent / "lua"
_MOST_IN_A_PIPELINE: Final = 500
_PIPELINES_IN_FLIGHT: Final = 2
_SHARED: Final = re.compile(r"^--# (\w+)\n", re.MULTILINE)


class Store:
    """One process's way to the store. Safe for any number of tasks of one event loop."""

    def __init__(self, client: "Redis") -> None:
        self.client = client
        self._waiting: list[tuple[tuple[Argument, ...], asyncio.Future[Any]]] = []
        self._drains: set[asyncio.Task[None]] = set()
        self._texts = {path.stem: _with_shared(path.read_text()) for path in sorted(_LUA.glob("*.lua"))}
        self._hashes = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in self._texts.items()
        }

    async def call(self, *arguments: Argument) -> Any:
        """One command; raises StorageError."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((arguments, future))
        if len(self._drains) < _PIPELINES_IN_FLIGHT:
            task = asyncio.create_task(self._drain())
            self._drains.add(task)
        return await future

    async def script(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Runs ``storage/lua/NAME.lua`` once; raises StorageError."""
        return await self.call("EVALSHA", self._hashes[name], len(keys), *keys, *arguments)

    async def insist(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument], *, patience_seconds: float = 60.0
    ) -> Any:
        """Runs a script until the store has answered: all of ours may be run twice. Raises the last error after
        ``patience_seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_seconds
        pause = 0.02
        while True:
            try:
                return await self.script(name, keys, arguments)
            except StorageError:
                if loop.time() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:_MOST_IN_A_PIPELINE]
                del self._waiting[:_MOST_IN_A_PIPELINE]
                live = [(arguments, future) for arguments, future in batch if not future.done()]
                if live:
                    await self._send(live)
        finally:
            # Here and not when the task is done: whoever it answered runs before that, and would wait for it in vain.
            self._drains.discard(asyncio.current_task())

    async def _send(self, batch: list[tuple[tuple[Argument, ...], asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._execute([arguments for arguments, _ in batch])
            unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                await self._execute([("SCRIPT LOAD", text) for text in self._texts.values()])
                again = await self._execute([batch[index][0] for index in unknown])
                for index, reply in zip(unknown, again, strict=True):
                    replies[index] = reply
        except (RedisError, OSError, TimeoutError) as error:
            replies = [error] * len(batch)
        except BaseException:
            for _, future in batch:
                if not future.done():
                    future.set_exception(StoreUnavailableError("The connection to the store was closed."))
            raise
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, BaseException):
                future.set_exception(translated(reply))
            else:
                future.set_result(reply)

    async def _execute(self, commands: list[tuple[Argument, ...]]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self.client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            except RedisError as error:
                return [error]
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


def _with_shared(text: str) -> str:
    """A script with what it shares with others, named in a line such as ``--# charge``."""
    return _SHARED.sub(lambda named: (_LUA / "shared" / f"{named[1]}.lua").read_text(), text)

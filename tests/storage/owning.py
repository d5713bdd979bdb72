"""Embedded servers for the tests: owned, watched, looked at from outside."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from storage.connection import StoreTarget, connect
from storage.embedded import EmbeddedServer

linux_only = pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="needs /proc")


@asynccontextmanager
async def connected(server: EmbeddedServer, *, timeout_seconds: float = 5.0) -> AsyncIterator[Redis]:
    """A client of its own."""
    client = await connect(StoreTarget.parse(server.url), connections=4, timeout_seconds=timeout_seconds)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def watched(server: EmbeddedServer) -> AsyncIterator[None]:
    """Revived for as long as the block runs, ended with it."""
    watch = asyncio.create_task(server.watch())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait({watch})
        await server.aclose()  # a test that fails must not leave a server behind for the next one


async def until(check: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Poll until ``check`` gives something true; a store that fails meanwhile is not there yet."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(redis_errors.RedisError, OSError):
                if await check():
                    return
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def holds(client: Redis, key: str, value: bytes) -> bool:
    """Whether a key has that value."""
    return bool(await client.get(key) == value)

"""Calls of many tasks share pipelines."""

import asyncio
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from storage.scripts import Store


async def test_whoever_was_just_answered_can_call_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all pipelines end in one turn of the loop: a call once waited there until somebody else made one."""
    gate = asyncio.Event()
    store = Store(cast("Redis", None))

    async def answered(commands: list[Any]) -> list[Any]:
        await gate.wait()
        return [b"ok"] * len(commands)

    async def calls(times: int) -> None:
        for _ in range(times):
            await store.call("PING")

    monkeypatch.setattr(store, "_execute", answered)
    callers = []
    for times in (2, 1):  # one pipeline each; the second caller makes no further call that would take the first along
        callers.append(asyncio.create_task(calls(times)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gate.set()
    await asyncio.wait_for(asyncio.gather(*callers), 5)

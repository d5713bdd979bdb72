"""Reads many streamed answers at once, with one of three clients, and says what that cost.

*ours* is the service's client, *httpx* what a straightforward relay does with httpx's own transport, *openai* the
``openai`` package. All three run on uvloop and keep their connections, so that nothing but the client differs. Each
hands on the whole text so far whenever it grew, as a preview wants it.

``python -m tests.bench.readers CLIENT URL STREAMS`` writes its figures into ``figures.json``.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.streamer import CHUNKS, WORDS

Show = Callable[[str], None]
Ask = Callable[[Show], Awaitable[str]]

MESSAGES: Final = [
    {"role": "system", "content": "You answer customers of a shop. " * 20},
    {"role": "user", "content": "Can I still change the address of the order that I placed this morning?"},
]
_MODEL: Final = "bench"
_MOST_TOKENS: Final = 1000
_SPREAD_SECONDS: Final = 0.5
_WARM_STREAMS: Final = 40
_TIME_CHARACTERS: Final = 17
_CONNECTIONS: Final = 1000


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Ask]:
    from bot.chat_api.asking import Ask as Question
    from bot.chat_api.client import ChatApi
    from bot.chat_api.endpoint import Endpoint, Place

    async with Endpoint(Place(url, _MODEL, "no-key"), max_output_tokens=_MOST_TOKENS) as endpoint:
        api = ChatApi([endpoint])

        async def ask(show: Show) -> str:
            return (await api.ask(Question(MESSAGES), show)).text

        yield ask


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Ask]:
    import httpx

    body = {
        "model": _MODEL,
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": _MOST_TOKENS,
    }
    limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
    headers = {"Authorization": "Bearer no-key"}
    async with httpx.AsyncClient(timeout=60, limits=limits, headers=headers) as client:

        async def ask(show: Show) -> str:
            answer = ""
            async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    choices = json.loads(line[6:])["choices"]
                    if choices and (text := choices[0]["delta"].get("content")):
                        answer += text
                        show(answer)
            return answer

        yield ask


@asynccontextmanager
async def package(url: str) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    # Its own pool holds 1,000 connections by default.
    async with AsyncOpenAI(api_key="no-key", base_url=url, timeout=60, max_retries=0) as client:

        async def ask(show: Show) -> str:
            answer = ""
            messages: Any = MESSAGES
            stream = await client.chat.completions.create(
                model=_MODEL,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=_MOST_TOKENS,
            )
            async for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    answer += text
                    show(answer)
            return answer

        yield ask


CLIENTS: Final = {"ours": ours, "httpx": plain, "openai": package}


class Reading:
    """Customers at work, and how long each answer's first words were on their way."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.first_seconds: list[float] = []
        self.whole = 0

    async def customers(self, streams: int, spread_seconds: float) -> None:
        """So many at a time, one answer each; they begin one after the other."""
        async with asyncio.TaskGroup() as group:
            for number in range(streams):
                group.create_task(self._customer(spread_seconds * number / streams))

    async def _customer(self, wait_seconds: float) -> None:
        await asyncio.sleep(wait_seconds)
        shown = False

        def show(text: str) -> None:
            nonlocal shown
            if not shown:
                shown = True
                self.first_seconds.append(time.monotonic() - float(text[:_TIME_CHARACTERS]))

        answer = await self._ask(show)
        self.whole += len(answer.split()) == WORDS


async def main(client: str, url: str, streams: int) -> dict[str, Any]:
    async with CLIENTS[client](url) as ask:
        # Everything is imported, and has run, before the clocks are read.
        await Reading(ask).customers(min(streams, _WARM_STREAMS), 0.0)
        reading = Reading(ask)
        started, spent = time.monotonic(), _cpu_seconds()
        await reading.customers(streams, _SPREAD_SECONDS)
        spent, wall = _cpu_seconds() - spent, time.monotonic() - started
    return {
        "client": client,
        "whole": reading.whole,
        "seconds": round(wall, 2),
        "cpu_share": round(spent / wall, 3),
        "cpu_us_per_chunk": round(1e6 * spent / (CHUNKS * streams), 2),
        "first_seconds": reading.first_seconds,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    name, address, many = sys.argv[1:]
    Path("figures.json").write_text(json.dumps(uvloop.run(main(name, address, int(many)))))

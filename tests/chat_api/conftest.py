"""Endpoints that ask the sandbox's chat API over real HTTP, with deadlines short enough to be met in a test."""

import asyncio
import functools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest

from bot.chat_api.asking import Answer, Ask, Message, Remote
from bot.chat_api.breaker import Breaker
from bot.chat_api.client import ChatApi
from bot.chat_api.endpoint import Endpoint, Limits, Place
from bot.sandbox import ChatApiServer, ChatBehaviour

DIALECTS: Final = ("completions", "responses", "dify")
LIMITS: Final = Limits(connect=2.0, first=5.0, gap=5.0, total=20.0)
SHORT: Final = Limits(connect=1.0, first=0.6, gap=0.3, total=1.5)

_ssl_context = functools.cache(httpx.create_ssl_context)
Opens = Callable[..., Any]


@dataclass
class Asking:
    """What one question showed and had kept."""

    shown: list[str] = field(default_factory=list)
    kept: list[Remote] = field(default_factory=list)

    async def keep(self, remote: Remote) -> None:
        self.kept.append(remote)

    def ask(self, *said: str, remote: Remote | None = None, news: int = 1, user: str = "someone") -> Ask:
        """A question with what was said before it in turns; ``news``: how much of it the provider does not know."""
        roles = ("user", "assistant")
        told: list[Message] = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
        return Ask(
            [{"role": "system", "content": "the prompt"}, *told],
            told[-news:] if remote else [],
            remote,
            user,
            self.keep,
        )


async def attempt(endpoint: Endpoint, *said: str, **more: Any) -> tuple[Answer, Asking]:
    """One attempt at an answer, with what came beside it."""
    asking, answer = Asking(), Answer()
    await endpoint.attempt(asking.ask(*said, **more), answer, asking.shown.append)
    return answer, asking


def answers(text: str, **more: Any) -> ChatBehaviour:
    return ChatBehaviour(answer=lambda _: text, **more)


def told(messages: list[dict[str, Any]]) -> str:
    """An answer that shows what the model was told, the prompt aside."""
    return " | ".join(str(message["content"]) for message in messages if message["role"] not in {"system", "developer"})


@pytest.fixture
async def server() -> AsyncIterator[ChatApiServer]:
    found = ChatApiServer()
    await found.start()
    yield found
    await found.aclose()


@pytest.fixture
async def fallback() -> AsyncIterator[ChatApiServer]:
    found = ChatApiServer()
    await found.start()
    yield found
    await found.aclose()


@pytest.fixture
async def opened(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opens]:
    """Opens endpoints, and closes them. They read the machine's certificates once for all tests."""
    monkeypatch.setattr(httpx, "create_ssl_context", _ssl_context)
    async with AsyncExitStack() as stack:

        async def open_one(
            server: ChatApiServer | str, dialect: str = "completions", *, limits: Limits = LIMITS, field: str = "",
            pause: float = 0.05, tokens: int = 1000, temperature: float | None = None,
        ) -> Endpoint:  # fmt: skip
            url = server if isinstance(server, str) else server.url
            place = Place(url, "offline", "sk-test", dialect, field)
            endpoint = Endpoint(
                place, max_output_tokens=tokens, temperature=temperature, limits=limits, breaker=Breaker(pause)
            )
            return await stack.enter_async_context(endpoint)

        yield open_one


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def chained(*endpoints: Endpoint, total: float = 20.0) -> ChatApi:
    return ChatApi(endpoints, total_seconds=total, retry_seconds=0.01)


@pytest.fixture
def seed() -> int:
    found = random.randrange(1 << 32)
    print(f"seed {found}")
    return found

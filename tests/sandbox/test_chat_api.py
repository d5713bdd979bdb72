"""The offline chat API on the wire."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import httpx
import pytest
from httpx_sse import aconnect_sse

from bot.sandbox import ChatApiServer, ChatBehaviour
from bot.sandbox.chat_faults import ERRORS
from bot.sandbox.offline_model import offline_answer
from tests.sandbox.callers import until

ASK = {"model": "offline", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]}


async def stream(chat_api: ChatApiServer, **more: Any) -> list[str]:
    """The data of each event of a streamed answer, read as the service reads it."""
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        aconnect_sse(
            client, "POST", f"{chat_api.url}/chat/completions", json={**ASK, "stream": True, **more}
        ) as source,
    ):
        return [event.data async for event in source.aiter_sse()]


@pytest.mark.parametrize("pace", [0.0, 0.001])
async def test_a_stream_has_the_documented_shape(chat_api: ChatApiServer, pace: float) -> None:
    """OpenAI API reference, chat completion chunks: role first, content, finish_reason, usage, [DONE]."""
    chat_api.behaviour = ChatBehaviour(answer=lambda _messages: "one two\n\nthree", chunk_seconds=pace)
    *events, end = await stream(chat_api, stream_options={"include_usage": True})
    assert end == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    first, *middle, last, usage = chunks
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle) == "one two\n\nthree"
    assert len(middle) == 3
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + usage["usage"]["completion_tokens"]


async def test_usage_is_sent_only_when_asked_for(chat_api: ChatApiServer) -> None:
    """OpenAI API reference, stream_options.include_usage."""
    assert not any('"usage"' in event for event in await stream(chat_api))


async def test_an_answer_can_come_whole(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """OpenAI API reference, the chat completion object."""
    async with http.post(f"{chat_api.url}/chat/completions", json=ASK, headers={"Authorization": "Bearer k"}) as reply:
        body = await reply.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == chat_api.requests[0].answer
    assert body["usage"]["completion_tokens"] > 0
    assert chat_api.requests[0].key == "k"


async def test_models_are_listed(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """OpenAI API reference, list models."""
    async with http.get(f"{chat_api.url}/models") as reply:
        assert "offline" in [model["id"] for model in (await reply.json())["data"]]


async def test_delay_and_pace_can_be_set(chat_api: ChatApiServer) -> None:
    """Seconds to the first chunk, then between chunks."""
    chat_api.behaviour = ChatBehaviour(first_delay_seconds=0.1, chunk_seconds=0.03, answer=lambda _m: "a b c d")
    start = time.monotonic()
    await stream(chat_api)
    assert time.monotonic() - start >= 0.1 + 3 * 0.03


async def test_chunks_hold_as_many_words_as_told(chat_api: ChatApiServer) -> None:
    """Fewer, larger chunks."""
    chat_api.behaviour = ChatBehaviour(chunk_words=3, answer=lambda _m: "a b c d e f g")
    await stream(chat_api)
    assert chat_api.requests[0].chunks_sent == 3


@pytest.mark.parametrize("kind", sorted(kind for kind, refusal in ERRORS.items() if refusal.raw is None))
async def test_errors_have_the_providers_shape(chat_api: ChatApiServer, http: aiohttp.ClientSession, kind: str) -> None:
    """An error object with message, type, param and code; Retry-After where waiting helps."""
    chat_api.faults.add(kind=kind, count=1, seconds=3)  # type: ignore[arg-type]  # one of the kinds
    async with http.post(f"{chat_api.url}/chat/completions", json=ASK) as reply:
        assert reply.status == ERRORS[kind].status
        assert set((await reply.json())["error"]) == {"message", "type", "param", "code"}
        assert reply.headers.get("Retry-After") == ("3" if kind in ("429", "503") else None)
    assert (await stream(chat_api))[-1] == "[DONE]"


async def test_a_prompt_over_the_limit_overflows(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """400 context_length_exceeded, until it is trimmed."""
    chat_api.behaviour = ChatBehaviour(context_tokens=50)
    long = {**ASK, "messages": [{"role": "user", "content": "x" * 400}]}
    async with http.post(f"{chat_api.url}/chat/completions", json=long) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (400, "context_length_exceeded")
    assert (await stream(chat_api))[-1] == "[DONE]"


async def test_a_cut_stream_ends_without_done(chat_api: ChatApiServer) -> None:
    """The connection goes after n chunks; no usage, no [DONE]."""
    chat_api.behaviour = ChatBehaviour(answer=lambda _m: "a b c d")
    chat_api.faults.add(kind="cut", after=2)
    with pytest.raises(httpx.RemoteProtocolError):
        await stream(chat_api)
    assert chat_api.requests[0].chunks_sent == 2


async def test_an_error_can_come_in_the_middle(chat_api: ChatApiServer) -> None:
    """A data line that holds an error object instead of choices."""
    chat_api.behaviour = ChatBehaviour(answer=lambda _m: "a b c d")
    chat_api.faults.add(kind="error_midway", after=2)
    events = await stream(chat_api)
    assert "error" in json.loads(events[-1])


@pytest.mark.parametrize(("kind", "body"), [("garbage", b"<html>"), ("empty", b"")])
async def test_200_does_not_mean_success(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, kind: str, body: bytes
) -> None:
    """A page of a proxy, or nothing at all."""
    chat_api.faults.add(kind=kind)  # type: ignore[arg-type]  # one of the kinds
    async with http.post(f"{chat_api.url}/chat/completions", json={**ASK, "stream": True}) as reply:
        assert reply.status == 200
        assert (await reply.read())[:6] == body


@pytest.mark.parametrize("kind", ["hang", "drop"])
async def test_a_connection_may_end_without_a_word(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, kind: str
) -> None:
    """At once or after some seconds of silence."""
    chat_api.faults.add(kind=kind, seconds=0.05)  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.post(f"{chat_api.url}/chat/completions", json=ASK)


@pytest.mark.parametrize("behaviour", [ChatBehaviour(first_delay_seconds=30), ChatBehaviour(chunk_seconds=30)])
async def test_a_client_that_hangs_up_is_noted(chat_api: ChatApiServer, behaviour: ChatBehaviour) -> None:
    """Before the first chunk or between chunks."""
    chat_api.behaviour = behaviour
    call = asyncio.create_task(stream(chat_api))
    await until(lambda: chat_api.requests)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: chat_api.requests[0].aborted and chat_api.requests[0].t_end)


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"messages":[]}', b'{"messages":["x"]}'])
async def test_bad_requests_are_refused(chat_api: ChatApiServer, http: aiohttp.ClientSession, body: bytes) -> None:
    """400 with an error object; never a traceback."""
    async with http.post(f"{chat_api.url}/chat/completions", data=body) as reply:
        assert (reply.status, (await reply.json())["error"]["type"]) == (400, "invalid_request_error")


async def test_requests_need_not_be_kept(chat_api: ChatApiServer) -> None:
    """For benchmarks."""
    chat_api.keep_requests = False
    await stream(chat_api)
    assert (chat_api.requests, chat_api.made) == ([], 1)


async def test_foreign_hosts_are_refused(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """The same guard as on the Bot API server."""
    async with http.get(f"{chat_api.url}/models", headers={"Host": "evil.example"}) as reply:
        assert reply.status == 403


def test_the_offline_model_says_that_it_is_one() -> None:
    """Every answer is honest about its origin."""
    for text in ("hello", "What are your opening hours?", "tell me a long story", ""):
        assert "offline model" in offline_answer([{"role": "user", "content": text}])


def test_the_offline_model_shows_continuity() -> None:
    """It counts turns, names earlier questions and repeats what the customer said of themselves."""
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi, my name is Ann."},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "My order number is 4711, where is it?"},
        {"role": "assistant", "content": "On its way"},
        {"role": "user", "content": [{"type": "text", "text": "What is my order number?"}]},
    ]
    answer = offline_answer(messages)
    assert "your order number is **4711**" in answer
    assert "message **3**" in answer
    assert "Hi, my name is Ann." in answer
    assert "Ann" in offline_answer([*messages, {"role": "user", "content": "thanks"}])
    assert "have not told me your dog" in offline_answer([{"role": "user", "content": "what is my dog called"}])

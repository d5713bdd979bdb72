"""The dialect of ``POST /chat/completions``: server-sent events of ``choices[0].delta`` (OpenAI API reference)."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import orjson
from httpx_sse import EventSource, SSEError

from bot.errors import ChatApiGarbledError, ChatApiUnavailableError

if TYPE_CHECKING:
    from bot.chat_api.client import Answer


async def deltas(response: httpx.Response, answer: "Answer") -> AsyncIterator[str]:
    """The pieces of text as they come; finish reason and usage go into ``answer``. Raises ChatApiError."""
    if response.headers.get("content-type", "").startswith("application/json"):
        yield _whole(await response.aread(), answer)
        return
    # A chunked body that was cut raises; one that ended cleanly is whole even where the server sends no end mark.
    ended = "chunked" in response.headers.get("transfer-encoding", "")
    try:
        async for event in EventSource(response).aiter_sse():
            if event.data == "[DONE]":
                ended = True
                continue
            if not event.data:
                continue
            text = _read(_loaded(event.data), answer)
            ended = ended or bool(answer.finish)
            if text:
                yield text
    except SSEError as error:
        raise ChatApiGarbledError("no event stream") from error
    if not ended:
        raise ChatApiUnavailableError("the stream was cut")


def _read(chunk: dict[str, Any], answer: "Answer") -> str:
    """The text of one event; what else it tells goes into ``answer``."""
    if usage := chunk.get("usage"):
        answer.prompt_tokens = usage.get("prompt_tokens")
        answer.answer_tokens = usage.get("completion_tokens")
    choices = chunk.get("choices")
    if not choices:
        return ""
    answer.finish = str(choices[0].get("finish_reason") or answer.finish)
    text = (choices[0].get("delta") or {}).get("content")
    return text if isinstance(text, str) else ""


def _whole(body: bytes, answer: "Answer") -> str:
    """The answer of a server that does not stream."""
    reply = _loaded(body)
    try:
        choice = reply["choices"][0]
        answer.finish = str(choice.get("finish_reason") or "")
        return str(choice["message"]["content"] or "")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ChatApiGarbledError("a reply without a message") from error


def _loaded(data: str | bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ChatApiGarbledError("an event that is no JSON") from error
    if not isinstance(chunk, dict):
        raise ChatApiGarbledError("an event that is no object")
    if chunk.get("error"):
        raise ChatApiUnavailableError("an error in the stream")
    return chunk

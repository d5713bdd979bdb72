"""A plain caller of the offline chat API in each dialect, with a reader of event streams that follows the standard."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from bot.sandbox import ChatApiServer

PATHS = {"completions": "/chat/completions", "responses": "/responses", "dify": "/chat-messages"}
DIALECTS = sorted(PATHS)


class Event(NamedTuple):
    """One server-sent event; `data` is None where there is none, text where it is no JSON."""

    name: str
    data: Any


@dataclass
class Heard:
    """What came of one question."""

    status: int
    kind: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[Event] = field(default_factory=list)

    @property
    def whole(self) -> Any:
        return json.loads(self.body)

    def data(self) -> list[dict[str, Any]]:
        return [event.data for event in self.events if isinstance(event.data, dict)]

    def text(self) -> str:
        """The text of the answer, streamed or whole, in any dialect."""
        if self.kind.startswith("application/json"):
            return whole_text(self.whole)
        return "".join(map(delta, self.data()))


def delta(data: dict[str, Any]) -> str:
    """The text that one event adds."""
    if "choices" in data:
        return "".join(choice["delta"].get("content") or "" for choice in data["choices"])
    if data.get("type") == "response.output_text.delta":
        return str(data["delta"])
    return str(data["answer"]) if data.get("event") == "message" else ""


def whole_text(data: dict[str, Any]) -> str:
    """The text of an answer that came as one object."""
    if "choices" in data:
        return str(data["choices"][0]["message"]["content"]) if data["choices"] else ""
    if "output" in data:
        parts = [part for item in data["output"] if item["type"] == "message" for part in item["content"]]
        return "".join(part["text"] for part in parts)
    return str(data["answer"])


def events_of(body: bytes) -> list[Event]:
    """The events of a stream, as the HTML standard reads them."""
    text = body.decode().removeprefix("\ufeff")
    events, name, data = [], "", list[str]()
    for line in re.split("\r\n|\r|\n", text):
        key, _, value = line.partition(":")
        if not line and (name or data):
            events.append(Event(name, _loaded("\n".join(data))))
            name, data = "", []
        elif key == "data":
            data.append(value.removeprefix(" "))
        elif key == "event":
            name = value.removeprefix(" ")
    return events


def _loaded(data: str) -> Any:
    try:
        return json.loads(data) if data else None
    except json.JSONDecodeError:
        return data


def question(dialect: str, text: str, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """The body of a question."""
    if dialect == "dify":
        mode = "streaming" if stream else "blocking"
        return {"inputs": {}, "query": text, "user": "someone", "response_mode": mode, "conversation_id": "", **more}
    if dialect == "responses":
        return {"model": "offline", "input": text, "stream": stream, **more}
    return {"model": "offline", "messages": [{"role": "user", "content": text}], "stream": stream, **more}


async def ask(
    http: aiohttp.ClientSession, chat_api: ChatApiServer, dialect: str, text: str = "hello", **more: Any
) -> Heard:
    """Ask and read to the end. Raises aiohttp.ClientError where the connection is cut."""
    async with http.post(f"{chat_api.url}{PATHS[dialect]}", json=question(dialect, text, **more)) as reply:
        heard = Heard(reply.status, reply.headers.get("Content-Type", ""), dict(reply.headers), await reply.read())
    if heard.kind.startswith("text/event-stream"):
        heard.events = events_of(heard.body)
    return heard


async def call(
    http: aiohttp.ClientSession, chat_api: ChatApiServer, method: str, path: str, **body: Any
) -> tuple[int, dict[str, Any]]:
    """Status and body of a request that is no question."""
    async with http.request(method, f"{chat_api.url}{path}", json=body) as reply:
        content = await reply.read()
        return reply.status, json.loads(content) if content else {}

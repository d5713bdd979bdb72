"""``POST /chat/completions``: the context goes with every question (OpenAI API reference, "Chat").

With a conversation's field set, the id that the server returns is passed back beside it.
"""

from collections.abc import Mapping
from typing import Any

from bot.chat_api.asking import FILTER, LENGTH, Ask, Remote
from bot.chat_api.dialect import Heard, Options, count, garbled, text_in
from bot.chat_api.profile import Profile

_FINISH = {"length": LENGTH, "max_tokens": LENGTH, "content_filter": FILTER}


class Completions:
    """``field``: the conversation's, "" for servers that keep none."""

    path = "chat/completions"

    def __init__(self, field: str = "") -> None:
        self._field = field
        self.keeps = bool(field)
        self.optional = frozenset(
            {"stream_options", "max_tokens", "max_completion_tokens", "temperature", "prompt_cache_key", "role"}
            | ({field} if field else set())
        )

    def body(self, ask: Ask, options: Options, profile: Profile) -> dict[str, object]:
        body: dict[str, object] = {"model": options.model} if options.model else {}
        body |= {"messages": profile.told(ask.messages), "stream": True, "stream_options": {"include_usage": True}}
        body[profile.limit] = options.max_output_tokens
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if profile.cache_key and ask.user:
            body["prompt_cache_key"] = ask.user
        if ask.remote is not None and self._field:
            body[self._field] = ask.remote.id
        return body

    def read(self, event: Mapping[str, Any], heard: Heard) -> None:
        if usage := event.get("usage"):
            self._count(usage, heard)
        if self._field and event.get(self._field):
            heard.conversation = str(event[self._field])
        choices = event.get("choices")
        if not choices or not isinstance(choices, list) or not isinstance(choices[0], Mapping):
            return
        if finish := choices[0].get("finish_reason"):
            heard.ended = True
            heard.answer.finish = _FINISH.get(str(finish), "")
        delta = choices[0].get("delta") or choices[0].get("message")
        if isinstance(delta, Mapping):
            heard.delta = text_in(delta.get("content")) or text_in(delta.get("refusal"))

    def read_whole(self, reply: Mapping[str, Any], heard: Heard) -> None:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            raise garbled("a message")
        self.read(reply, heard)
        heard.ended = True

    def removals(self, remote: Remote, _: str) -> list[tuple[str, str, dict[str, object] | None]]:
        return [("DELETE", f"conversations/{remote.id}", None)]

    @staticmethod
    def _count(usage: object, heard: Heard) -> None:
        heard.answer.prompt_tokens = count(usage, "prompt_tokens")
        heard.answer.answer_tokens = count(usage, "completion_tokens")
        heard.answer.cached_tokens = count(usage, "prompt_tokens_details", "cached_tokens") or count(
            usage, "prompt_cache_hit_tokens"
        )

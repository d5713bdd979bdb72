"""``POST /responses``: the provider keeps what was said (OpenAI API reference, "Responses" and "Conversations").

Each answer is kept under an id of its own, and the next question names it; a question asked again after a fault names
the same one as before, so nothing is doubled there. Where a conversation is wanted instead (CHAT_CONVERSATION_FIELD is
``conversation``), or the server returns one, that one grows.
"""

from collections.abc import Mapping
from typing import Any, Final

from bot.chat_api.asking import FILTER, LENGTH, Ask, Message, Remote
from bot.chat_api.dialect import Heard, Options, count, garbled, text_in
from bot.chat_api.profile import Profile

_ENDS: Final = {"response.completed", "response.incomplete", "response.done"}
_DELTAS: Final = {"response.output_text.delta", "response.refusal.delta"}


class Responses:
    """The prompt goes along with every request, as ``instructions``: a new version of it counts at once."""

    path = "responses"
    optional = frozenset({"max_output_tokens", "temperature", "prompt_cache_key", "store"})
    keeps = True

    def body(self, ask: Ask, options: Options, profile: Profile) -> dict[str, object]:
        told = ask.news if ask.remote is not None else [one for one in ask.messages if one["role"] != "system"]
        body: dict[str, object] = {"model": options.model} if options.model else {}
        body |= {"input": [_item(message) for message in told], "stream": True, "store": True}
        if ask.messages[0]["role"] == "system":
            body["instructions"] = ask.messages[0]["content"]
        body["max_output_tokens"] = options.max_output_tokens
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if profile.cache_key and ask.user:
            body["prompt_cache_key"] = ask.user
        if ask.remote is not None:
            conversation = ask.remote.kind == "conversation"
            body["conversation" if conversation else "previous_response_id"] = ask.remote.id
        return body

    def read(self, event: Mapping[str, Any], heard: Heard) -> None:
        kind = str(event.get("type") or "")
        if kind in _DELTAS:
            heard.delta = str(event.get("delta") or "")
        elif (response := event.get("response")) and isinstance(response, Mapping):
            self._about(response, heard)
            if kind in _ENDS:
                heard.ended = True
                self._counted(response, heard)

    def read_whole(self, reply: Mapping[str, Any], heard: Heard) -> None:
        output = reply.get("output")
        if not isinstance(output, list):
            raise garbled("an output")
        self._about(reply, heard)
        self._counted(reply, heard)
        found = [text_in(item.get("content")) for item in output if isinstance(item, Mapping) and _speaks(item)]
        heard.delta, heard.ended = "\n\n".join(text for text in found if text), True

    def removals(self, remote: Remote, _: str) -> list[tuple[str, str, dict[str, object] | None]]:
        if remote.kind == "conversation":
            return [("ITEMS", f"conversations/{remote.id}", None), ("DELETE", f"conversations/{remote.id}", None)]
        return [("DELETE", f"responses/{remote.id}", None)]

    @staticmethod
    def _about(response: Mapping[str, Any], heard: Heard) -> None:
        if response.get("id"):
            heard.response = str(response["id"])
        conversation = response.get("conversation")
        if isinstance(conversation, Mapping):
            conversation = conversation.get("id")
        if conversation:
            heard.conversation = str(conversation)

    @staticmethod
    def _counted(response: Mapping[str, Any], heard: Heard) -> None:
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, Mapping) else None
        heard.answer.finish = FILTER if reason == "content_filter" else LENGTH if reason else ""
        usage = response.get("usage")
        heard.answer.prompt_tokens = count(usage, "input_tokens")
        heard.answer.answer_tokens = count(usage, "output_tokens")
        heard.answer.cached_tokens = count(usage, "input_tokens_details", "cached_tokens")


def _item(message: Message) -> dict[str, object]:
    return {"role": message["role"], "content": message["content"]}


def _speaks(item: Mapping[str, Any]) -> bool:
    return bool(item.get("type", "message") == "message")

"""``POST /chat-messages`` of a Dify application, which keeps the conversation (Dify's API documentation, "Chat").

The application has a prompt and a model of its own; ours goes along as the input ``system_prompt``, for applications
that have a variable of that name. A context that the application does not know is written in front of the question.
"""

from collections.abc import Mapping
from typing import Any, Final

from bot.chat_api.asking import Ask, Message, Remote
from bot.chat_api.dialect import Heard, Options, count, garbled
from bot.chat_api.profile import Profile

_SAID: Final = {"message", "agent_message"}
_EARLIER: Final = "Our conversation so far, to go on from:"
_NOW: Final = "Now I write:"
_WHO: Final = {"user": "I wrote", "assistant": "You answered"}


class Dify:
    path = "chat-messages"
    optional: frozenset[str] = frozenset()
    keeps = True

    def body(self, ask: Ask, _: Options, __: Profile) -> dict[str, object]:
        told = ask.news if ask.remote is not None else [one for one in ask.messages if one["role"] != "system"]
        prompt = ask.messages[0]["content"] if ask.messages[0]["role"] == "system" else ""
        return {
            "inputs": {"system_prompt": prompt},
            "query": _query(told),
            "response_mode": "streaming",
            "conversation_id": ask.remote.id if ask.remote is not None else "",
            "user": ask.user or "customer",
        }

    def read(self, event: Mapping[str, Any], heard: Heard) -> None:
        if event.get("conversation_id"):
            heard.conversation = str(event["conversation_id"])
        kind = event.get("event")
        if kind in _SAID:
            heard.delta = str(event.get("answer") or "")
        elif kind == "message_replace":
            heard.delta, heard.anew = str(event.get("answer") or ""), True
        elif kind == "message_end":
            heard.ended = True
            self._count(event, heard)

    def read_whole(self, reply: Mapping[str, Any], heard: Heard) -> None:
        if not isinstance(reply.get("answer"), str):
            raise garbled("an answer")
        if reply.get("conversation_id"):
            heard.conversation = str(reply["conversation_id"])
        heard.delta, heard.ended = str(reply["answer"]), True
        self._count(reply, heard)

    def removals(self, remote: Remote, user: str) -> list[tuple[str, str, dict[str, object] | None]]:
        return [("DELETE", f"conversations/{remote.id}", {"user": user or "customer"})]

    @staticmethod
    def _count(event: Mapping[str, Any], heard: Heard) -> None:
        heard.answer.prompt_tokens = count(event, "metadata", "usage", "prompt_tokens")
        heard.answer.answer_tokens = count(event, "metadata", "usage", "completion_tokens")


def _query(told: list[Message]) -> str:
    """The question; what the application does not know of is told before it."""
    question = told[-1]["content"]
    if len(told) == 1:
        return question
    earlier = "\n\n".join(f"{_WHO.get(one['role'], one['role'])}: {one['content']}" for one in told[:-1])
    return f"{_EARLIER}\n\n{earlier}\n\n{_NOW}\n\n{question}"

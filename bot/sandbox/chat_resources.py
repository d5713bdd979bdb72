"""What the chat API does besides answering: its models, what it keeps and deletes, moderation.

OpenAI's and Dify's conversations share a path; OpenAI's ids begin with `conv_`, and every other id is Dify's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from bot.sandbox.chat_dify import dify_conversation
from bot.sandbox.chat_exchange import MODELS
from bot.sandbox.chat_faults import invalid
from bot.sandbox.chat_kept import Kept, new_id
from bot.sandbox.chat_request import ChatBehaviour, ChatCall
from bot.sandbox.chat_responses import read_input
from bot.sandbox.form import as_number

_MOST_ITEMS: Final = 100
_USUAL_ITEMS: Final = 20
_MOST_ITEMS_ADDED: Final = 20
_CATEGORIES: Final = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")
_OPENAI_ID: Final = "conv_"

#: An empty object where the reply has no body.
Answered = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One call. `ids`: the parts of the path that name things."""

    ids: tuple[str, ...]
    body: dict[str, Any]
    query: str
    kept: Kept
    behaviour: ChatBehaviour

    def asked(self, name: str) -> str:
        return parse_qs(self.query).get(name, [""])[-1]


def is_dify(path: str) -> bool:
    """Whether errors for this path have Dify's shape."""
    found = re.match(r"/conversations/([^/]+)$", path)
    return found is not None and not found.group(1).startswith(_OPENAI_ID)


def answer_call(call: ChatCall, query: str, kept: Kept, behaviour: ChatBehaviour) -> Answered:
    """Raises RefusedError, with 404 where there is no such path."""
    for known, pattern, act in _ROUTES:
        if call.method == known and (found := pattern.fullmatch(call.path)):
            return act(Wanted(ids=found.groups(), body=call.body, query=query, kept=kept, behaviour=behaviour))
    raise invalid("Unknown request URL", status=404, code="unknown_url")


def _models(_: Wanted) -> Answered:
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "sandbox"} for name in MODELS]
    return {"object": "list", "data": listed}


def _moderate(wanted: Wanted) -> Answered:
    given = wanted.body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise invalid("'input' must be a string or an array of strings", param="input")
    results = [_judged(text, wanted.behaviour.flagged) for text in texts]
    model = str(wanted.body.get("model") or "omni-moderation-latest")
    return {"id": new_id("modr"), "model": model, "results": results}


def _judged(text: str, flagged: frozenset[str]) -> dict[str, Any]:
    words = set(re.findall(r"\w+", text.casefold()))
    violent = any(word.casefold() in words for word in flagged)
    return {
        "flagged": violent,
        "categories": {name: violent and name == "violence" for name in _CATEGORIES},
        "category_scores": {name: 0.97 if violent and name == "violence" else 0.0001 for name in _CATEGORIES},
    }


def _response(wanted: Wanted) -> Answered:
    (response_id,) = wanted.ids
    found = wanted.kept.responses.get(response_id)
    if found is None:
        raise invalid(f"Response with id '{response_id}' not found.", status=404)
    return found.body


def _forget_response(wanted: Wanted) -> Answered:
    response_id = _response(wanted)["id"]
    del wanted.kept.responses[response_id]
    return {"id": response_id, "object": "response.deleted", "deleted": True}


def _create_conversation(wanted: Wanted) -> Answered:
    made_id = new_id("conv")
    made = {
        "id": made_id, "object": "conversation", "created_at": int(time.time()),
        "metadata": wanted.body.get("metadata") or {},
    }  # fmt: skip
    items = _new_items(wanted)
    wanted.kept.conversations[made_id] = made
    wanted.kept.add_items(made_id, items)
    return made


def _new_items(wanted: Wanted) -> list[dict[str, Any]]:
    given = wanted.body.get("items") or []
    if len(given) > _MOST_ITEMS_ADDED:
        raise invalid(f"at most {_MOST_ITEMS_ADDED} items may be added at a time", param="items")
    return read_input(given) if given else []


def _conversation(wanted: Wanted) -> Answered:
    return wanted.kept.conversation(wanted.ids[0])


def _forget_conversation(wanted: Wanted) -> Answered:
    (conversation_id,) = wanted.ids
    if not conversation_id.startswith(_OPENAI_ID):
        return _forget_dify(wanted)
    wanted.kept.conversation(conversation_id)
    del wanted.kept.conversations[conversation_id]
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


def _forget_dify(wanted: Wanted) -> Answered:
    user = wanted.body.get("user")
    if not isinstance(user, str) or not user:
        raise invalid("Missing required parameter 'user' in the JSON body", param="user")
    dify_conversation(wanted.kept, wanted.ids[0], user)
    del wanted.kept.dify[wanted.ids[0]]
    return {}


def _items(wanted: Wanted) -> Answered:
    """A page of items, newest first unless asked otherwise."""
    wanted.kept.conversation(wanted.ids[0])
    items = list(wanted.kept.items.get(wanted.ids[0], {}).values())
    if wanted.asked("order") != "asc":
        items.reverse()
    if after := wanted.asked("after"):
        places = [at for at, item in enumerate(items) if item["id"] == after]
        if not places:
            raise invalid(f"No item with id '{after}' in this conversation", param="after")
        items = items[places[0] + 1 :]
    limit = as_number(wanted.asked("limit"), _USUAL_ITEMS)
    if not 1 <= limit <= _MOST_ITEMS:
        raise invalid(f"'limit' must be between 1 and {_MOST_ITEMS}", param="limit")
    return _page(items[:limit], has_more=len(items) > limit)


def _page(items: list[dict[str, Any]], *, has_more: bool) -> Answered:
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}


def _add_items(wanted: Wanted) -> Answered:
    wanted.kept.conversation(wanted.ids[0])
    return _page(wanted.kept.add_items(wanted.ids[0], _new_items(wanted)), has_more=False)


def _forget_item(wanted: Wanted) -> Answered:
    conversation_id, item_id = wanted.ids
    conversation = wanted.kept.conversation(conversation_id)
    items = wanted.kept.items.get(conversation_id, {})
    if items.pop(item_id, None) is None:
        raise invalid(f"Item with id '{item_id}' not found.", status=404)
    if not items:
        del wanted.kept.items[conversation_id]
    return conversation


_CONVERSATION: Final = r"/conversations/([^/]+)"
_ROUTES: Final[tuple[tuple[str, re.Pattern[str], Callable[[Wanted], Answered]], ...]] = (
    ("GET", re.compile("/models"), _models),
    ("POST", re.compile("/moderations"), _moderate),
    ("GET", re.compile("/responses/([^/]+)"), _response),
    ("DELETE", re.compile("/responses/([^/]+)"), _forget_response),
    ("POST", re.compile("/conversations"), _create_conversation),
    ("GET", re.compile(_CONVERSATION), _conversation),
    ("DELETE", re.compile(_CONVERSATION), _forget_conversation),
    ("GET", re.compile(_CONVERSATION + "/items"), _items),
    ("POST", re.compile(_CONVERSATION + "/items"), _add_items),
    ("DELETE", re.compile(_CONVERSATION + "/items/([^/]+)"), _forget_item),
)

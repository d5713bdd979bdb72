"""The dialects of the offline chat API: their shapes, what the server keeps, and how it is deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from bot.sandbox import ChatApiServer, ChatBehaviour
from bot.sandbox.chat_api import ChatRequest
from tests.sandbox.callers import until
from tests.sandbox.chat_callers import DIALECTS, ask, call


def said(words: str) -> ChatBehaviour:
    return ChatBehaviour(answer=lambda _messages: words)


def told(messages: list[dict[str, Any]]) -> str:
    """An answer that shows what the model was told."""
    return " | ".join(f"{message['role']}: {message['content']}" for message in messages)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_dialect_answers(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str, stream: bool
) -> None:
    """The same words, streamed or whole; the request is noted in one form for all."""
    chat_api.behaviour = said("one two\n\nthree")
    heard = await ask(http, chat_api, dialect, "how are you", stream=stream)
    assert (heard.status, heard.text()) == (200, "one two\n\nthree")
    (request,) = chat_api.requests
    assert (request.dialect, request.stream, request.conversation) == (dialect, stream, "")
    assert request.messages == [{"role": "user", "content": "how are you"}]
    assert request.chunks_sent == (3 if stream else 0)


@pytest.mark.parametrize("pace", [0.0, 0.001])
async def test_a_streamed_response_has_the_documented_events(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, pace: float
) -> None:
    """OpenAI API reference, responses: typed events in order, counted from zero, usage with the last."""
    chat_api.behaviour = ChatBehaviour(answer=lambda _messages: "one two", chunk_seconds=pace)
    events = (await ask(http, chat_api, "responses")).events
    assert [event.name for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.data["sequence_number"] for event in events] == list(range(10))
    assert [event.data["type"] for event in events] == [event.name for event in events]
    last = events[-1].data["response"]
    assert (last["status"], last["output"][0]["content"][0]["text"]) == ("completed", "one two")
    assert set(last["usage"]) == {
        "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens",
    }  # fmt: skip


async def test_a_response_takes_items_and_instructions(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Instructions are noted as a system message, parts as text."""
    chat_api.behaviour = ChatBehaviour(answer=told)
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    heard = await ask(http, chat_api, "responses", input=items, instructions="s")
    assert heard.text() == "system: s | user: a | assistant: b | user: c"


async def test_a_response_that_reaches_its_limit_is_incomplete(
    chat_api: ChatApiServer, http: aiohttp.ClientSession
) -> None:
    """OpenAI API reference, max_output_tokens and incomplete_details."""
    chat_api.behaviour = said("word " * 100)
    heard = await ask(http, chat_api, "responses", max_output_tokens=20)
    assert heard.events[-1].name == "response.incomplete"
    assert heard.events[-1].data["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert len(heard.text()) == 80


async def test_responses_chain_by_the_previous_id(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """The model is told the whole chain; each request brings its own instructions."""
    chat_api.behaviour = ChatBehaviour(answer=lambda messages: told(messages) if len(messages) > 3 else "A")
    previous = ""
    for text in ("one", "two", "three"):
        more = {"previous_response_id": previous} if previous else {}
        heard = await ask(http, chat_api, "responses", text, stream=False, instructions="s", **more)
        previous = heard.whole["id"]
    assert heard.text().startswith("system: s | user: one | assistant: A | user: two | assistant: ")
    assert heard.text().endswith(" | user: three")
    assert chat_api.requests[-1].messages[-1]["content"] == "three"
    assert len(chat_api.kept.responses) == 3


async def test_a_response_can_be_deleted_and_is_not_kept_unasked(
    chat_api: ChatApiServer, http: aiohttp.ClientSession
) -> None:
    """An unknown previous response is 400 previous_response_not_found."""
    first = (await ask(http, chat_api, "responses", stream=False)).whole["id"]
    unkept = (await ask(http, chat_api, "responses", stream=False, store=False)).whole["id"]
    assert list(chat_api.kept.responses) == [first]
    assert (await call(http, chat_api, "GET", f"/responses/{first}"))[1]["id"] == first
    assert (await call(http, chat_api, "DELETE", f"/responses/{first}"))[1]["deleted"] is True
    assert (await call(http, chat_api, "DELETE", f"/responses/{first}"))[0] == 404
    for lost in (first, unkept):
        heard = await ask(http, chat_api, "responses", previous_response_id=lost)
        assert (heard.status, heard.whole["error"]["code"]) == (400, "previous_response_not_found")
        assert chat_api.requests[-1].conversation == lost


async def test_a_cut_response_is_kept_and_can_be_deleted(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """What the customer wrote lies with the provider even where the answer never came."""
    chat_api.faults.add(kind="cut", count=1)
    with pytest.raises(aiohttp.ClientError):
        await ask(http, chat_api, "responses")
    ((response_id, kept),) = chat_api.kept.responses.items()
    assert kept.messages == [{"role": "user", "content": "hello"}]
    assert (await call(http, chat_api, "DELETE", f"/responses/{response_id}"))[0] == 200


@pytest.mark.parametrize("by_object", [True, False])
async def test_a_conversation_remembers(chat_api: ChatApiServer, http: aiohttp.ClientSession, by_object: bool) -> None:
    """OpenAI API reference, conversations: items of question and answer are added when a response is complete."""
    made = (await call(http, chat_api, "POST", "/conversations"))[1]
    assert made["object"] == "conversation"
    assert made["id"].startswith("conv_")
    named: Any = {"id": made["id"]} if by_object else made["id"]
    chat_api.behaviour = ChatBehaviour(answer=told)
    await ask(http, chat_api, "responses", "one", conversation=named)
    heard = await ask(http, chat_api, "responses", "two", conversation=named)
    assert heard.text() == "user: one | assistant: user: one | user: two"
    assert chat_api.requests[-1].conversation == made["id"]
    chat_api.faults.add(kind="cut", count=1)
    with pytest.raises(aiohttp.ClientError):
        await ask(http, chat_api, "responses", "three", conversation=named)
    assert len(chat_api.kept.items[made["id"]]) == 4


async def test_a_conversation_can_begin_with_items(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """How a history is replayed into a new one; at most twenty at a time."""
    items = [{"type": "message", "role": role, "content": "x"} for role in ("user", "assistant")] * 10
    status, made = await call(http, chat_api, "POST", "/conversations", items=items)
    assert (status, len(chat_api.kept.items[made["id"]])) == (200, 20)
    status, added = await call(http, chat_api, "POST", f"/conversations/{made['id']}/items", items=items[:2])
    assert (status, len(added["data"])) == (200, 2)
    assert (await call(http, chat_api, "POST", "/conversations", items=[*items, items[0]]))[0] == 400


async def test_items_are_listed_in_pages(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Newest first unless asked otherwise; `after` continues a page."""
    items = [{"role": "user", "content": str(number)} for number in range(5)]
    made = (await call(http, chat_api, "POST", "/conversations", items=items))[1]
    seen: list[str] = []
    path, after, more = f"/conversations/{made['id']}/items?limit=2&order=asc", "", True
    while more:
        page = (await call(http, chat_api, "GET", path + after))[1]
        seen += [item["content"][0]["text"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        after, more = f"&after={page['last_id']}", page["has_more"]
    assert seen == list("01234")
    newest = (await call(http, chat_api, "GET", f"/conversations/{made['id']}/items"))[1]["data"]
    assert [item["content"][0]["text"] for item in newest] == list("43210")


async def test_deleting_a_conversation_leaves_its_items(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """As documented: whoever wants them gone deletes them first; afterwards nobody can reach them."""
    left, gone = [
        (await call(http, chat_api, "POST", "/conversations", items=[{"role": "user", "content": "x"}]))[1]["id"]
        for _ in range(2)
    ]
    item = next(iter(chat_api.kept.items[gone]))
    assert (await call(http, chat_api, "DELETE", f"/conversations/{gone}/items/{item}"))[1]["id"] == gone
    assert (await call(http, chat_api, "DELETE", f"/conversations/{gone}/items/{item}"))[0] == 404
    for conversation in (left, gone):
        assert (await call(http, chat_api, "GET", f"/conversations/{conversation}"))[0] == 200
        status, body = await call(http, chat_api, "DELETE", f"/conversations/{conversation}")
        assert (status, body["deleted"]) == (200, True)
    assert list(chat_api.kept.items) == [left]
    assert not chat_api.kept.conversations
    assert (await call(http, chat_api, "GET", f"/conversations/{left}/items"))[0] == 404
    assert (await ask(http, chat_api, "responses", conversation=left)).status == 404


async def test_one_conversation_answers_one_question_at_a_time(
    chat_api: ChatApiServer, http: aiohttp.ClientSession
) -> None:
    """400 conversation_locked while another is answered; free again when that one ends or hangs up."""
    made = (await call(http, chat_api, "POST", "/conversations"))[1]["id"]
    chat_api.behaviour = ChatBehaviour(first_delay_seconds=30)
    slow = asyncio.create_task(ask(http, chat_api, "responses", conversation=made))
    await until(lambda: chat_api.kept.busy)
    heard = await ask(http, chat_api, "responses", conversation=made)
    assert (heard.status, heard.whole["error"]["code"]) == (400, "conversation_locked")
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    await until(lambda: not chat_api.kept.busy)
    chat_api.behaviour = ChatBehaviour()
    assert (await ask(http, chat_api, "responses", conversation=made)).status == 200


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "mutually_exclusive_parameters"),
        ({"input": []}, None),
        ({"input": 7}, None),
    ],
)
async def test_bad_responses_are_refused(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, more: dict[str, Any], code: str | None
) -> None:
    """400 in OpenAI's shape."""
    heard = await ask(http, chat_api, "responses", **more)
    assert (heard.status, heard.whole["error"]["code"]) == (400, code)


async def test_dify_streams_as_documented(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Dify's API documentation: ids in every event, usage and price with the last, pings in between."""
    chat_api.behaviour = said("word " * 25)
    heard = await ask(http, chat_api, "dify")
    *messages, end = heard.data()
    assert {data["event"] for data in messages} == {"message"}
    assert end["event"] == "message_end"
    for name in ("task_id", "message_id", "conversation_id", "created_at"):
        assert len({data[name] for data in heard.data()}) == 1
    usage = end["metadata"]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (usage["currency"], float(usage["total_price"]) > 0) == ("USD", True)
    assert [event.name for event in heard.events].count("ping") == 2


async def test_dify_keeps_each_users_conversation(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """The id of the first answer continues it; another user's and an unknown one do not exist."""
    chat_api.behaviour = ChatBehaviour(answer=told)
    first = (await ask(http, chat_api, "dify", "one", stream=False)).whole["conversation_id"]
    heard = await ask(http, chat_api, "dify", "two", conversation_id=first)
    assert heard.text() == "user: one | assistant: user: one | user: two"
    assert {data["conversation_id"] for data in heard.data()} == {first}
    assert chat_api.requests[-1].conversation == first
    for more in ({"user": "else", "conversation_id": first}, {"conversation_id": "unknown"}):
        heard = await ask(http, chat_api, "dify", **more)
        assert heard.whole == {"code": "not_found", "message": "Conversation Not Exists.", "status": 404}
        assert heard.status == 404


async def test_a_cut_dify_conversation_exists_and_does_not_tell_the_unanswered(
    chat_api: ChatApiServer, http: aiohttp.ClientSession
) -> None:
    """Its id came with the first event, so whoever forgets must delete it."""
    chat_api.behaviour = ChatBehaviour(answer=told)
    chat_api.faults.add(kind="cut", count=1)
    with pytest.raises(aiohttp.ClientError):
        await ask(http, chat_api, "dify", "one")
    ((conversation, kept),) = chat_api.kept.dify.items()
    assert [one.query for one in kept.exchanged] == ["one"]
    assert (await ask(http, chat_api, "dify", "two", conversation_id=conversation)).text() == "user: two"


async def test_a_dify_conversation_is_deleted_by_its_user(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """404 for another user, 400 without one, 204 at last, and then 404."""
    conversation = (await ask(http, chat_api, "dify", stream=False)).whole["conversation_id"]
    path = f"/conversations/{conversation}"
    assert (await call(http, chat_api, "DELETE", path, user="else"))[1]["code"] == "not_found"
    assert (await call(http, chat_api, "DELETE", path))[1]["code"] == "invalid_param"
    assert (await call(http, chat_api, "DELETE", path, user="someone")) == (204, {})
    assert (await call(http, chat_api, "DELETE", path, user="someone"))[0] == 404
    assert not chat_api.kept.dify


@pytest.mark.parametrize("more", [{"user": ""}, {"query": None}, {"inputs": None}, {"response_mode": "whole"}])
async def test_bad_dify_requests_are_refused(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, more: dict[str, Any]
) -> None:
    """In Dify's own shape."""
    heard = await ask(http, chat_api, "dify", **more)
    assert (heard.status, set(heard.whole)) == (400, {"code", "message", "status"})


@pytest.mark.parametrize("stream", [True, False])
async def test_completions_may_carry_a_conversation(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, stream: bool
) -> None:
    """Every chunk, or the whole, holds the id that is to be passed back; an unknown one is 404."""
    chat_api.behaviour = ChatBehaviour(conversation_field="conversation_id")

    async def exchange(**more: str) -> str:
        heard = await ask(http, chat_api, "completions", stream=stream, **more)
        ids = {data["conversation_id"] for data in (heard.data() if stream else [heard.whole])}
        assert len(ids) == 1
        return str(ids.pop())

    first = await exchange()
    assert await exchange(conversation_id=first) == first
    assert await exchange() != first
    assert chat_api.kept.threads[first] == 2
    chat_api.kept.threads.clear()
    heard = await ask(http, chat_api, "completions", conversation_id=first)
    assert (heard.status, heard.whole["error"]["code"]) == (404, "conversation_not_found")
    assert chat_api.requests[-1].conversation == first


async def test_moderation_flags_words(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """OpenAI API reference, moderations: one result for each text."""
    chat_api.behaviour = ChatBehaviour(flagged=frozenset({"Sword"}))
    body = (await call(http, chat_api, "POST", "/moderations", input=["a word", "a SWORD!"]))[1]
    assert [result["flagged"] for result in body["results"]] == [False, True]
    assert body["results"][1]["categories"]["violence"] is True
    assert body["results"][1]["category_scores"]["violence"] > 0.5
    assert (await call(http, chat_api, "POST", "/moderations", input="sword"))[1]["results"][0]["flagged"] is True
    assert (await call(http, chat_api, "POST", "/moderations", input=[]))[0] == 400
    assert [one.status for one in chat_api.calls] == [200, 200, 400]


async def test_calls_are_no_requests(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Deletions and listings stand apart from questions, and no callback hears of them."""
    heard: list[ChatRequest] = []
    chat_api.on_request = heard.append
    await call(http, chat_api, "POST", "/conversations")
    assert (chat_api.requests, heard) == ([], [])
    assert [(one.method, one.path, one.status) for one in chat_api.calls] == [("POST", "/conversations", 200)]


@pytest.mark.parametrize("dialect", ["completions", "responses"])
async def test_a_repeated_beginning_is_cached(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str
) -> None:
    """From 1,024 tokens on, under the same prompt_cache_key."""
    chat_api.behaviour = said("x")
    head = [{"role": "system", "content": "s" * 8000}]
    usages = []
    for text in ("one", "two"):
        messages = [*head, {"role": "user", "content": text}]
        field = "messages" if dialect == "completions" else "input"
        body: dict[str, Any] = {field: messages, "prompt_cache_key": "k"}
        heard = await ask(http, chat_api, dialect, stream=False, **body)
        usages.append(heard.whole["usage"])
    name = "prompt_tokens_details" if dialect == "completions" else "input_tokens_details"
    assert [usage[name]["cached_tokens"] for usage in usages] == [0, 2004]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [400, 422])
async def test_a_field_can_be_refused(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str, status: int
) -> None:
    """What a narrower server says names the field; without it the question is answered."""
    chat_api.behaviour = ChatBehaviour(refused_fields={"store": status})
    heard = await ask(http, chat_api, dialect, store=True)
    assert (heard.status, chat_api.requests[0].status) == (status, status)
    if status == 422:
        assert heard.whole["detail"][0]["loc"] == ["body", "store"]
    else:
        assert "Unrecognized request argument supplied: store" in heard.body.decode()
    assert (await ask(http, chat_api, dialect)).status == 200


async def test_a_role_can_be_refused(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """`developer` is unknown to several servers."""
    chat_api.behaviour = ChatBehaviour(refused_roles=frozenset({"developer"}))
    heard = await ask(http, chat_api, "completions", messages=[{"role": "developer", "content": "s"}])
    assert (heard.status, heard.whole["error"]["param"]) == (400, "messages[0].role")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_the_server_keeps_counts_for_the_limit(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str
) -> None:
    """A prompt overflows with its history, wherever that lies."""
    chat_api.behaviour = ChatBehaviour(answer=lambda _messages: "x" * 400)
    first = (await ask(http, chat_api, dialect, stream=False)).whole
    chat_api.behaviour = ChatBehaviour(context_tokens=50)
    more = {
        "completions": {"messages": [{"role": "assistant", "content": "x" * 400}, {"role": "user", "content": "y"}]},
        "responses": {"previous_response_id": first["id"]},
        "dify": {"conversation_id": first.get("conversation_id")},
    }[dialect]
    heard = await ask(http, chat_api, dialect, **more)
    assert (heard.status, chat_api.requests[-1].fault) == (400, "context")
    assert (await ask(http, chat_api, dialect)).status == 200

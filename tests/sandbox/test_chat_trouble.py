"""Every fault and every oddity of the offline chat API, in each dialect that knows it."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from typing import Any, get_args

import aiohttp
import pytest

from bot.sandbox import ChatApiServer, ChatBehaviour
from bot.sandbox.chat_faults import (
    AFTER_TEXT,
    BEFORE_TEXT,
    CHAT_KINDS,
    ERRORS,
    HUGE_BYTES,
    LOOPS,
    ChatFaultPlan,
    ChatKind,
    plays,
)
from bot.sandbox.chat_wire import ODDITIES, THOUGHT
from tests.sandbox.callers import until
from tests.sandbox.chat_callers import DIALECTS, PATHS, Heard, ask, call, delta, question

WORDS = "Zażółć gęślą — 你好 “quoted” a\u2028b\u0085c\n\n**bold** 😀 `data: [DONE]` the end."
REFUSED = sorted(ERRORS)
SILENT = ["drop", "hang"]


def cases(kinds: list[str]) -> list[tuple[str, str]]:
    return [(dialect, kind) for dialect, kind in product(DIALECTS, kinds) if plays(kind, dialect)]


@pytest.fixture
def spoken(chat_api: ChatApiServer) -> ChatApiServer:
    chat_api.behaviour = ChatBehaviour(answer=lambda _messages: "one two three four")
    return chat_api


def strike(chat_api: ChatApiServer, kind: str, **more: Any) -> None:
    chat_api.faults.add(kind=kind, count=1, **more)  # type: ignore[arg-type]  # one of the kinds


def test_every_kind_is_played_before_or_after_text() -> None:
    """The matrix walks two sets, which together are the whole; no table knows a kind that cannot be asked for."""
    assert BEFORE_TEXT | AFTER_TEXT == CHAT_KINDS == frozenset(get_args(ChatKind))
    assert not BEFORE_TEXT & AFTER_TEXT
    assert set(ERRORS) | {"hang", "drop", "slow_headers", "no_choices"} == BEFORE_TEXT
    assert set(PATHS) == set(DIALECTS)


@pytest.mark.parametrize(("dialect", "kind"), cases(REFUSED))
async def test_a_refusal_comes_instead_of_an_answer(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str, kind: str
) -> None:
    """In the dialect's own shape, or in that of whatever stands before it; the next question is answered."""
    refusal = ERRORS[kind]
    strike(spoken, kind, seconds=3)
    heard = await ask(http, spoken, dialect)
    assert spoken.requests[0].fault == kind
    assert spoken.requests[0].status == heard.status
    if isinstance(refusal.raw, bytes):
        assert (heard.status, heard.body) == (refusal.status, refusal.raw)
    elif refusal.raw is not None:
        assert (heard.status, heard.whole) == (refusal.status, refusal.raw)
    elif dialect == "dify":
        assert heard.whole["status"] == heard.status
        assert set(heard.whole) == {"code", "message", "status"}
        assert heard.whole["code"] != "unknown" or kind in {"402", "529"}
    else:
        assert (heard.status, heard.whole["error"]["code"]) == (refusal.status, refusal.code)
    assert not spoken.kept.dify
    assert not spoken.kept.responses
    assert (await ask(http, spoken, dialect)).text() == "one two three four"


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [("429", "retry-after", "3"), ("503", "retry-after", "3"), ("429_ms", "retry-after-ms", "3000")],
)
async def test_a_retry_is_timed_in_seconds_or_milliseconds(
    spoken: ChatApiServer, http: aiohttp.ClientSession, kind: str, header: str, value: str
) -> None:
    """One header or the other; `429_bare` has none."""
    for one in (kind, "429_bare"):
        strike(spoken, one, seconds=3)
        headers = {name.lower(): found for name, found in (await ask(http, spoken, "completions")).headers.items()}
        retries = {name: found for name, found in headers.items() if name.startswith("retry")}
        assert retries == ({header: value} if one == kind else {})


async def test_a_refusal_can_be_worded(spoken: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Status and text of one's own, for what one provider says."""
    strike(spoken, "500", status=418, text="teapot")
    heard = await ask(http, spoken, "completions")
    assert (heard.status, heard.whole["error"]["message"]) == (418, "teapot")


@pytest.mark.parametrize(("dialect", "kind"), cases(SILENT))
async def test_a_connection_ends_without_a_word(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str, kind: str
) -> None:
    """At once or after a silence."""
    strike(spoken, kind, seconds=0.02)
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(http, spoken, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_slow_headers_are_answered_late(spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str) -> None:
    """Nothing for a while, then everything to whoever still listens."""
    strike(spoken, "slow_headers", seconds=0.02)
    assert (await ask(http, spoken, dialect)).text() == "one two three four"
    strike(spoken, "slow_headers", seconds=30)
    impatient = asyncio.create_task(ask(http, spoken, dialect))
    await until(lambda: len(spoken.requests) == 2)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    await until(lambda: spoken.requests[1].aborted)
    assert spoken.requests[1].status is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_may_hold_no_choice(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str, stream: bool
) -> None:
    """All in order, and nothing said."""
    strike(spoken, "no_choices")
    heard = await ask(http, spoken, dialect, stream=stream)
    assert (heard.status, heard.text()) == (200, "")


@pytest.mark.parametrize(("dialect", "kind"), cases(["cut", "stall"]))
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_cut_off(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str, kind: str, stream: bool
) -> None:
    """After two chunks, at once or after a silence; what is whole is not sent at all."""
    strike(spoken, kind, after=2, seconds=0.02)
    with pytest.raises(aiohttp.ClientError):
        await ask(http, spoken, dialect, stream=stream)
    assert spoken.requests[0].chunks_sent == (2 if stream else 0)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_error_comes_in_the_stream(spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str) -> None:
    """Under 200, in the dialect's shape, and nothing after it."""
    strike(spoken, "error_midway", after=2, text="oh no")
    heard = await ask(http, spoken, dialect)
    assert (heard.status, heard.text()) == (200, "one two ")
    last = heard.events[-1]
    assert "oh no" in json.dumps(last.data)
    if dialect == "responses":
        assert (last.name, last.data["type"]) == ("error", "error")
    elif dialect == "dify":
        assert (last.data["event"], last.data["status"]) == ("error", 500)
        assert last.data["code"] == "internal_server_error"
    else:
        assert last.data["error"]["type"] == "server_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_can_tell_that_it_failed(
    spoken: ChatApiServer, http: aiohttp.ClientSession, stream: bool
) -> None:
    """response.failed, or the status of the object."""
    strike(spoken, "failed_midway", after=2)
    heard = await ask(http, spoken, "responses", stream=stream)
    response = heard.events[-1].data["response"] if stream else heard.whole
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert heard.text() == ("one two " if stream else "")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_event_can_be_no_json(spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str) -> None:
    """In the middle of an answer that goes on."""
    strike(spoken, "garbage_midway", after=2)
    heard = await ask(http, spoken, dialect)
    bad = [at for at, event in enumerate(heard.events) if isinstance(event.data, str) and event.data != "[DONE]"]
    assert len(bad) == 1
    assert "".join(delta(event.data) for event in heard.events[: bad[0]] if isinstance(event.data, dict)) == "one two "
    assert heard.text() == "one two three four"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_can_go_on_without_end(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str
) -> None:
    """Until the client hangs up."""
    strike(spoken, "endless")
    async with http.post(f"{spoken.url}{PATHS[dialect]}", json=question(dialect, "hello")) as reply:
        seen = b""
        while seen.count(b"three") < 20:
            seen += await reply.content.readany()
    await until(lambda: spoken.requests[0].aborted)


@pytest.mark.parametrize(("dialect", "kind"), cases(["huge", "loop", "blank"]))
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_can_be_no_use(
    spoken: ChatApiServer, http: aiohttp.ClientSession, dialect: str, kind: str, stream: bool
) -> None:
    """Too long, the same again and again, or nothing to see."""
    strike(spoken, kind)
    text = (await ask(http, spoken, dialect, stream=stream)).text()
    assert text == spoken.requests[0].answer
    if kind == "huge":
        assert len(text) >= HUGE_BYTES
    elif kind == "loop":
        assert text == text[: len(text) // LOOPS] * LOOPS
    else:
        assert text
        assert not text.strip()


def finish_of(heard: Heard, dialect: str, *, stream: bool) -> str:
    """Why the answer ended, as its last word tells."""
    if dialect == "responses":
        response = heard.events[-1].data["response"] if stream else heard.whole
        assert response["status"] == "incomplete"
        return str(response["incomplete_details"]["reason"])
    chunks = heard.data() if stream else [heard.whole]
    return str([one["finish_reason"] for chunk in chunks for one in chunk["choices"]][-1])


@pytest.mark.parametrize(
    ("kind", "dialect", "reason"),
    [
        ("length", "completions", "length"),
        ("length", "responses", "max_output_tokens"),
        ("filter_midway", "completions", "content_filter"),
        ("filter_midway", "responses", "content_filter"),
    ],
)
async def test_an_answer_ends_early_and_says_why(
    spoken: ChatApiServer, http: aiohttp.ClientSession, kind: str, dialect: str, reason: str
) -> None:
    """Too long, or stopped by a filter; what was said until then is what counts as said."""
    for stream in (True, False):
        strike(spoken, kind, after=2)
        heard = await ask(http, spoken, dialect, stream=stream)
        assert finish_of(heard, dialect, stream=stream) == reason
        assert heard.text() == spoken.requests[-1].answer == "one two "


async def test_dify_replaces_what_its_moderation_objects_to(spoken: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """Dify's API documentation, message_replace: the whole answer is another one."""
    strike(spoken, "filter_midway", after=2)
    heard = await ask(http, spoken, "dify")
    replaced = [data for data in heard.data() if data["event"] == "message_replace"]
    assert [data["answer"] for data in replaced] == [spoken.requests[0].answer]


async def test_length_is_nothing_to_dify(spoken: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """A rule waits for a request that it can strike."""
    strike(spoken, "length", after=1)
    assert (await ask(http, spoken, "dify")).text() == "one two three four"
    assert (await ask(http, spoken, "completions")).text() == "one "


async def test_calls_can_fail_too(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """A rule with a path strikes what begins with it, and a deletion that failed deleted nothing."""
    made = (await call(http, chat_api, "POST", "/conversations"))[1]["id"]
    rule = chat_api.faults.add(kind="500", path="/conversations", method="DELETE", count=1)
    assert (await ask(http, chat_api, "responses", conversation=made)).status == 200
    assert (await call(http, chat_api, "GET", f"/conversations/{made}"))[0] == 200
    assert (await call(http, chat_api, "DELETE", f"/conversations/{made}"))[0] == 500
    assert rule.struck == 1
    # aiohttp sends a DELETE again by itself when a connection that it had open is gone.
    chat_api.faults.add(kind="drop", path="/conversations")
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(http, chat_api, "DELETE", f"/conversations/{made}")
    chat_api.faults.clear()
    assert (await call(http, chat_api, "DELETE", f"/conversations/{made}"))[0] == 200


def test_unknown_kinds_and_oddities_are_told() -> None:
    """A typing error in a test is an error, not a test of nothing."""
    with pytest.raises(ValueError, match="unknown fault 'nonsense'"):
        ChatFaultPlan().add(kind="nonsense")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ValueError, match="unknown oddities: nonsense"):
        ChatBehaviour(wire=frozenset({"nonsense"}))


def odd(*names: str, pace: float = 0.0) -> ChatBehaviour:
    return ChatBehaviour(answer=lambda _messages: WORDS, wire=frozenset(names), chunk_seconds=pace)


@pytest.mark.parametrize("pace", [0.0, 0.001])
@pytest.mark.parametrize("oddity", sorted(ODDITIES - {"think"}))
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_odd_stream_says_the_same(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str, oddity: str, pace: float
) -> None:
    """To a reader that follows the standard the words do not change."""
    chat_api.behaviour = odd(oddity, pace=pace)
    assert (await ask(http, chat_api, dialect)).text() == WORDS == chat_api.requests[0].answer


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_oddities_of_a_stream_go_together(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str
) -> None:
    """The worst server there is."""
    chat_api.behaviour = odd(*(ODDITIES - {"cr", "whole"}))
    assert (await ask(http, chat_api, dialect)).text() == f"<think>{THOUGHT}</think>\n{WORDS}"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_model_may_think_aloud(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str, stream: bool
) -> None:
    """What stands between the marks is no answer, and the server does not keep it as one."""
    chat_api.behaviour = odd("think")
    assert (await ask(http, chat_api, dialect, stream=stream)).text() == f"<think>{THOUGHT}</think>\n{WORDS}"
    assert chat_api.requests[0].answer == WORDS
    for kept in chat_api.kept.responses.values():
        assert kept.messages[-1]["content"] == WORDS


@pytest.mark.parametrize(
    ("oddity", "sign"),
    [
        ("crlf", b"\r\n\r\n"),
        ("cr", b"\r\r"),
        ("comments", b": keep-alive\n"),
        ("bom", b"\xef\xbb\xbf"),
        ("no_space", b"data:{"),
        ("multiline", b"data: {\ndata: "),
        ("id_retry", b"\nretry: 3000\nevent: "),
        ("u2028", "a\u2028b\u2029c\u0085d".encode()),
        ("reasoning", THOUGHT.encode()),
        ("null_fields", b":null"),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_oddity_is_on_the_wire(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str, oddity: str, sign: bytes
) -> None:
    """A decoder that makes it vanish has something to do."""
    chat_api.behaviour = odd(oddity)
    body = (await ask(http, chat_api, dialect)).body
    assert sign in body
    assert body.count(b"\n") == 0 or oddity != "cr"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_reasoning_comes_before_and_within_the_text(
    chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str
) -> None:
    """In fields and events of its own; the items of a response stand where their events said."""
    chat_api.behaviour = odd("reasoning")
    heard = await ask(http, chat_api, dialect)
    kinds = ["text" if delta(data) else "thought" for data in heard.data() if delta(data) or _is_thought(data)]
    assert kinds[0] == "thought"
    assert kinds.count("thought") == 2
    assert "thought" in kinds[kinds.index("text") :]
    if dialect == "responses":
        items = {data["output_index"]: data["item"] for data in heard.data() if "item" in data}
        assert [items[index] for index in range(3)] == heard.events[-1].data["response"]["output"]


def _is_thought(data: dict[str, Any]) -> bool:
    deltas = [choice["delta"] for choice in data.get("choices", [])]
    return (
        any(one.get("reasoning_content") for one in deltas)
        or data.get("type") == "response.reasoning_text.delta"
        or data.get("event") == "agent_thought"
    )


async def test_a_stream_may_lack_its_end_mark_and_usage(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """As several servers do."""
    chat_api.behaviour = odd("no_done", "no_usage")
    body = (await ask(http, chat_api, "completions", stream_options={"include_usage": True})).body
    assert b"[DONE]\n\n" not in body
    assert b"usage" not in body
    assert "usage" not in (await ask(http, chat_api, "responses", stream=False)).whole
    assert "usage" not in (await ask(http, chat_api, "dify", stream=False)).whole["metadata"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_may_come_whole(chat_api: ChatApiServer, http: aiohttp.ClientSession, dialect: str) -> None:
    """One JSON object, although a stream was asked for."""
    chat_api.behaviour = odd("whole", "split")
    heard = await ask(http, chat_api, dialect)
    assert (heard.kind, heard.text()) == ("application/json", WORDS)


async def test_a_split_body_comes_in_many_pieces(chat_api: ChatApiServer, http: aiohttp.ClientSession) -> None:
    """A few bytes each, so that characters of several bytes come apart."""
    chat_api.behaviour = odd("split")
    async with http.post(f"{chat_api.url}{PATHS['completions']}", json=question("completions", "hello")) as reply:
        sizes = [len(chunk) async for chunk, ends in reply.content.iter_chunks() if ends]
    assert max(sizes) <= 7

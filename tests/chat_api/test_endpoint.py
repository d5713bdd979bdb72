"""One endpoint and the sandbox's chat API: oddities, deadlines, bounds, bodies that are no answer, the pool."""

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bot.chat_api.asking import FILTER, LENGTH, Answer
from bot.errors import (
    ChatApiEmptyError,
    ChatApiError,
    ChatApiGarbledError,
    ChatApiTimeoutError,
    ChatApiUnavailableError,
)
from bot.sandbox import ChatApiServer
from bot.sandbox.chat_wire import ODDITIES, THOUGHT
from tests.chat_api.conftest import DIALECTS, SHORT, Asking, Opens, answers, attempt, until

WORDS = "Zażółć gęślą — 你好 “quoted” a\u2028b\u0085c\n\n**bold** 😀 `data: [DONE]` the end."


# ---- oddities
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("odd", sorted(ODDITIES))
async def test_no_oddity_changes_the_answer(server: ChatApiServer, opened: Opens, dialect: str, odd: str) -> None:
    """However servers write their streams, at once or at a pace; what is shown on the way is its beginning."""
    endpoint = await opened(server, dialect)
    for pace in (0.0, 0.001):
        server.behaviour = answers(WORDS, wire=frozenset({odd}), chunk_seconds=pace)
        answer, asking = await attempt(endpoint, "hello")
        assert (answer.text, answer.finish) == (WORDS, "")
        assert all(WORDS.startswith(shown) for shown in asking.shown)
        assert asking.shown[-1] == WORDS


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_mixture_of_oddities_changes_the_answer(
    server: ChatApiServer, opened: Opens, dialect: str, seed: int
) -> None:
    """They come together, too, in pieces of a few bytes."""
    endpoint, source = await opened(server, dialect), random.Random(seed)
    for _ in range(25):
        odd = frozenset(source.sample(sorted(ODDITIES - {"whole"}), k=source.randint(2, 6)))
        server.behaviour = answers(WORDS, wire=odd)
        answer, asking = await attempt(endpoint, "hello")
        assert answer.text == WORDS, sorted(odd)
        assert not any(THOUGHT[:9] in shown for shown in asking.shown), sorted(odd)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("odd", ["reasoning", "think"])
@pytest.mark.parametrize("how", ["streamed", "whole"])
async def test_reasoning_is_never_shown(server: ChatApiServer, opened: Opens, dialect: str, odd: str, how: str) -> None:
    """Beside the text, in it, before it and in its middle; streamed or in one object."""
    server.behaviour = answers(WORDS, wire=frozenset({odd, *({"whole"} if how == "whole" else ())}))
    answer, asking = await attempt(await opened(server, dialect), "hello")
    assert answer.text == WORDS
    assert not any("think" in shown for shown in asking.shown)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_usage_is_counted_where_it_is_told(server: ChatApiServer, opened: Opens, dialect: str) -> None:
    """None where it is not."""
    endpoint = await opened(server, dialect)
    for odd, counted in (("", True), ("no_usage", False), ("null_fields", False)):
        server.behaviour = answers("one two", wire=frozenset({odd} - {""}))
        answer, _ = await attempt(endpoint, "hello")
        assert ((answer.prompt_tokens or 0) > 0, answer.prompt_tokens is None) == (counted, not counted)
        assert (answer.answer_tokens is None) == (not counted)


async def test_what_dify_takes_back_is_not_shown_in_the_end(server: ChatApiServer, opened: Opens) -> None:
    """A message_replace stands for all before it."""
    server.behaviour = answers("one two three four", chunk_seconds=0.02)
    server.faults.add(kind="filter_midway", after=2)
    answer, asking = await attempt(await opened(server, "dify"), "hello")
    assert answer.text == "Your question cannot be answered here."
    assert asking.shown[0].startswith("one")


@pytest.mark.parametrize("dialect", ["completions", "responses"])
@pytest.mark.parametrize(("kind", "finish"), [("length", LENGTH), ("filter_midway", FILTER)])
async def test_an_early_end_is_told(server: ChatApiServer, opened: Opens, dialect: str, kind: str, finish: str) -> None:
    """The text is what came until then."""
    server.behaviour = answers("one two three four")
    server.faults.add(kind=kind, after=2)  # type: ignore[arg-type]  # one of the kinds
    answer, _ = await attempt(await opened(server, dialect), "hello")
    assert (answer.text.strip(), answer.finish) == ("one two", finish)


# ---- deadlines and bounds
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["slow_headers", "hang"])
async def test_the_first_words_have_a_deadline(server: ChatApiServer, opened: Opens, dialect: str, kind: str) -> None:
    """A server that takes the question and says nothing is left, and hears that it was."""
    server.faults.add(kind=kind, seconds=30)  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises(ChatApiTimeoutError):
        await attempt(await opened(server, dialect, limits=SHORT), "hello")
    await _is_aborted(server)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_next_words_have_a_deadline(server: ChatApiServer, opened: Opens, dialect: str) -> None:
    """From the last words on: what came is left in the answer, for whoever can use it."""
    server.behaviour = answers("one two three four", chunk_seconds=0.01)
    server.faults.add(kind="stall", after=2, seconds=30)
    endpoint, answer = await opened(server, dialect, limits=SHORT), Answer()
    with pytest.raises(ChatApiTimeoutError):
        await endpoint.attempt(Asking().ask("hello"), answer, lambda _: None)
    assert answer.text.strip() == "one two"
    await _is_aborted(server)


async def test_the_gap_counts_from_the_first_words_on(opened: Opens) -> None:
    """Also where the first words were quick and their own deadline would still be far away."""
    async with raw(b"data: " + _delta("one") + b"\n\n", hold=30) as url:
        limits = type(SHORT)(connect=1.0, first=30.0, gap=0.2, total=60.0)
        with pytest.raises(ChatApiTimeoutError):
            await asyncio.wait_for(attempt(await opened(url, limits=limits), "hello"), 10)


async def test_a_model_that_thinks_is_alive_and_a_comment_is_no_sign_of_life(opened: Opens) -> None:
    """Events without text move the deadline on; keep-alives of a proxy, and blanks, do not."""
    thought = b'data: {"choices":[{"delta":{"reasoning_content":"x"}}]}\n\n'
    said = b"data: " + _delta("said") + b"\n\ndata: [DONE]\n\n"
    limits = type(SHORT)(connect=1.0, first=0.6, gap=0.6, total=5.0)
    async with raw(*[thought] * 12, said, pause=0.1) as url:
        assert (await attempt(await opened(url, limits=limits), "hello"))[0].text == "said"
    for beat in (b": keep-alive\n\n", b"\n", b"  "):
        async with raw(*[beat] * 40, said, pause=0.1) as url:
            with pytest.raises(ChatApiTimeoutError):
                await attempt(await opened(url, limits=limits), "hello")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["endless", "huge"])
async def test_an_answer_without_end_is_cut_and_takes_no_memory(
    server: ChatApiServer, opened: Opens, dialect: str, kind: str
) -> None:
    """At a number of characters that no honest answer reaches; the server is told to stop."""
    endpoint = await opened(server, dialect, tokens=50)
    words = " ".join(f"word{number}" for number in range(4000))
    server.behaviour = answers(words, chunk_words=1000)
    server.faults.add(kind=kind)  # type: ignore[arg-type]  # one of the kinds
    answer = Answer()
    try:
        await endpoint.attempt(Asking().ask("hello"), answer, lambda _: None)
    except ChatApiEmptyError:
        assert kind == "huge"  # it says the same over and over
    else:
        assert answer.finish == LENGTH
    assert len(answer.text) <= 64_000


async def test_a_whole_reply_that_is_too_long_is_cut_and_says_so(server: ChatApiServer, opened: Opens) -> None:
    """As a streamed one is."""
    server.behaviour = answers(" ".join(map(str, range(20_000))), wire=frozenset({"whole"}))
    answer, _ = await attempt(await opened(server, tokens=50), "hello")
    assert (len(answer.text), answer.finish) == (64_000, LENGTH)


@pytest.mark.parametrize("begun", [b"", b"{", b"data: ", b"data: {}\n\n: ", b'data: {"choices":[', b"\n"])
async def test_a_body_that_never_ends_is_bounded_in_memory(opened: Opens, begun: bytes) -> None:
    """Blanks, one object, one event, comments: none is gathered beyond its bound."""
    piece = b" " * (1 << 16)

    async with raw(begun, *[piece] * 1600, slow=False) as url:
        endpoint = await opened(url, limits=type(SHORT)(connect=1, first=20, gap=20, total=20))
        tracemalloc.start()
        with pytest.raises((ChatApiEmptyError, ChatApiGarbledError)):
            await attempt(endpoint, "hello")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 60 << 20


# ---- bodies that are no answer
@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", ChatApiEmptyError), (b"\n\n", ChatApiEmptyError), (b"data: [DONE]\n\n", ChatApiEmptyError),
        (b"<html></html>", ChatApiGarbledError), (b"data: {\n\n", ChatApiGarbledError), (b"{}", ChatApiGarbledError),
        (b"data: 1\n\n", ChatApiGarbledError), (b"hello", ChatApiEmptyError), (b"[]", ChatApiGarbledError),
        (b'data: {"error":{"message":"x","code":500}}\n\n', ChatApiUnavailableError),
        (b'[{"error":{"message":"x","code":429}}]', ChatApiUnavailableError),
        (b'data: {"choices":[{"delta":{"content":"<think>x"}}]}\n\ndata: [DONE]\n\n', ChatApiEmptyError),
        ('data: {"choices":[{"delta":{"content":"\ufffd\ufffd"}}]}\n\ndata: [DONE]\n\n'.encode(), ChatApiEmptyError),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_is_no_answer_is_told_apart(
    opened: Opens, body: bytes, wanted: type[ChatApiError], chunked: bool
) -> None:
    """Empty, garbled or an error, under 200, with its length told or not."""
    async with raw(body, chunked=chunked) as url:
        with pytest.raises(wanted):
            await attempt(await opened(url), "hello")


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE] \r\n\r\n", b": bye\n\n"])
async def test_an_answer_without_its_end_mark_is_whole_where_the_body_is(
    opened: Opens, chunked: bool, end: bytes
) -> None:
    """A body in chunks or of known length that ended, ended."""
    async with raw(b"data: " + _delta("said") + b"\n\n", end, chunked=chunked) as url:
        assert (await attempt(await opened(url), "hello"))[0].text == "said"


async def test_an_answer_may_look_like_the_beginning_of_a_thought(opened: Opens) -> None:
    """Until its body ends, also where nothing else says that it is whole."""
    async with raw(b"data: " + _delta("<") + b"\n\n") as url:
        assert (await attempt(await opened(url), "hello"))[0].text == "<"


async def test_an_answer_that_was_whole_is_not_lost_to_its_end(opened: Opens) -> None:
    """The connection hangs, or is cut, behind the finish: the customer need not wait or ask again."""
    ended = b'data: {"choices":[{"delta":{"content":"said"},"finish_reason":"stop"}]}\n\n'
    async with raw(ended, hold=30) as url:
        assert (await attempt(await opened(url), "hello"))[0].text == "said"
    async with raw(ended, cut=True) as url:
        assert (await attempt(await opened(url), "hello"))[0].text == "said"


async def test_an_answer_that_was_cut_is_none(opened: Opens) -> None:
    """In the middle of its chunks."""
    async with raw(b"data: " + _delta("said") + b"\n\n", cut=True) as url:
        with pytest.raises(ChatApiUnavailableError):
            await attempt(await opened(url), "hello")


async def test_nobody_there_is_unavailable(opened: Opens) -> None:
    """Refused connections, names that are none, and TLS spoken to who does not."""
    async with raw(b"") as url:
        tls = url.replace("http:", "https:")
        with pytest.raises((ChatApiUnavailableError, ChatApiTimeoutError)):
            await attempt(await opened(tls, limits=SHORT), "hello")
    for address in (url, "http://no-such-host.invalid/v1"):
        with pytest.raises((ChatApiUnavailableError, ChatApiTimeoutError)):
            await attempt(await opened(address, limits=SHORT), "hello")


# ---- the pool
async def _cancel_many(server: ChatApiServer, opened: Opens, count: int) -> None:
    server.behaviour = answers("one two three four", chunk_seconds=0.005, first_delay_seconds=0.002)
    server.keep_requests = False
    endpoint, source, done = await opened(server), random.Random(count), 0

    async def one() -> None:
        moment = source.choice((0.0, 0.0005, 0.001, 0.002, 0.004, 0.008))
        try:
            async with asyncio.timeout(moment):
                await attempt(endpoint, "hello")
        except (TimeoutError, ChatApiTimeoutError):
            pass

    while done < count:
        await asyncio.gather(*(one() for _ in range(100)))
        done += 100
    server.behaviour = answers("fine")
    found = await asyncio.gather(*(attempt(endpoint, f"hello {number}") for number in range(50)))
    assert {answer.text for answer, _ in found} == {"fine"}


async def test_cancelled_requests_leave_the_pool_whole(server: ChatApiServer, opened: Opens) -> None:
    """httpx's own pool leaks a place where a request is cancelled before its headers come (encode/httpx, known)."""
    await asyncio.wait_for(_cancel_many(server, opened, 3000), 120)


@pytest.mark.slow
async def test_a_hundred_thousand_cancelled_requests_leave_the_pool_whole(server: ChatApiServer, opened: Opens) -> None:
    """The same, many times more than the pool has places."""
    await asyncio.wait_for(_cancel_many(server, opened, 100_000), 900)


# ---- servers that write what they like
def _delta(text: str) -> bytes:
    return b'{"choices":[{"delta":{"content":"%s"}}]}' % text.encode()


@asynccontextmanager
async def raw(
    *pieces: bytes, chunked: bool = True, pause: float = 0.0, hold: float = 0.0, cut: bool = False, slow: bool = True
) -> AsyncIterator[str]:
    """A server that answers every request with these bytes; ``hold``: seconds before the body ends, ``cut``: never."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            size = str(sum(map(len, pieces))).encode()
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: " + size
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n\r\n")
            for piece in filter(None, pieces):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                await writer.drain()
                await asyncio.sleep(pause)
            await asyncio.sleep(hold)
            if chunked and not cut:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _is_aborted(server: ChatApiServer) -> None:
    await until(lambda: server.requests[-1].t_end is not None and server.requests[-1].aborted)

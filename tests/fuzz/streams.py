"""Streams of every dialect with a known text, as odd as servers write them, cut and spoiled at random.

What is heard of them goes through the very layers that an answer goes through, without a network. Each case comes of
one seed and can be made again.
"""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from bot.chat_api.asking import Answer, Ask
from bot.chat_api.completions import Completions
from bot.chat_api.dialect import Dialect
from bot.chat_api.dify import Dify
from bot.chat_api.events import EventStream, object_in
from bot.chat_api.hearing import Hearing
from bot.chat_api.responses import Responses
from bot.errors import ChatApiEmptyError, ChatApiError

DIALECTS: Final[dict[str, Callable[[], Dialect]]] = {
    "completions": lambda: Completions("conversation_id"),
    "responses": Responses,
    "dify": Dify,
}
MOST: Final = 64_000
_ASK: Final = Ask([{"role": "user", "content": "x"}])
_ALPHABETS: Final = (
    "etaoin shrdlu, .\n", "ĂąęßØ ñç", "你好，我们 的。", "שלום مرحبا", "नमस्ते", "ไทย", "🙂👨‍👩‍👧🏽‍♀️🇺🇦 ",
    "e\u0301\u200d\u200b\ufe0f ",
    "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e ", "\x00\x01\x1f\x7f\"\\/\b\t ", "data: [DONE]\n\n:{}", "<>&`*_#|-",
)  # fmt: skip
_TOKENS: Final = (
    b"data: ", b"data:", b"\n", b"\r", b"\r\n", b"\n\n", b": ", b"event: ", b"[DONE]", b"{", b"}", b"[", b"]", b'"',
    b"null", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud83d", b"<think>", b"</think>", b"\x00", b"1e999", b"-1",
    b"NaN", b"true", b'"error":{"code":429},', b'"event":"error",', b'"delta":', b'"choices":[', b'"answer":', b"\\",
    b"9" * 40, b",",
)  # fmt: skip


@dataclass(slots=True)
class Case:
    """``text``: what the answer is, where the bytes are as they were made; ``whole``: one object instead of events."""

    dialect: str
    body: bytes
    text: str
    whole: bool
    spoiled: bool
    most: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """``error``: the name of ours that it came to."""

    text: str
    error: str = ""
    finish: str = ""
    remote: str = ""


class _Scope:
    """A deadline that never comes."""

    def when(self) -> float:
        return 1e12

    def reschedule(self, _: float) -> None:
        return


async def heard(case: Case, pieces: list[bytes]) -> Outcome:
    """What comes of a body in these pieces. Raises whatever is not one of our errors."""
    answer, shown = Answer(), list[str]()
    hearing = Hearing(DIALECTS[case.dialect](), "mark", _ASK, answer, shown.append)
    hearing.bounded(_Scope(), 60.0, case.most)  # type: ignore[arg-type]  # all of a timeout that is used
    try:
        if case.whole:
            await hearing.whole(object_in(b"".join(pieces)))
        else:
            await _streamed(hearing, pieces)
    except ChatApiError as error:
        return Outcome("", type(error).__name__)
    finally:
        assert all(len(text) <= case.most for text in (answer.text, *shown))
    remote = f"{answer.remote.kind} {answer.remote.id}" if answer.remote else ""
    return Outcome(answer.text, "", answer.finish, remote)


async def _streamed(hearing: Hearing, pieces: list[bytes]) -> None:
    stream = EventStream()
    for piece in pieces:
        if (found := stream.feed(piece)) and await hearing.events(found):
            return
    if await hearing.events(stream.end()):
        return
    hearing.over(cleanly=True)


def made(seed: str) -> tuple[Case, list[bytes]]:
    """The case of a seed, and its pieces."""
    source = random.Random(seed)
    dialect = source.choice(tuple(DIALECTS))
    whole = source.random() < 0.1
    body, text = (_whole if whole else _stream)(dialect, source)
    spoiled = source.random() < 0.5
    if spoiled:
        for _ in range(source.randint(1, 4)):
            body = _spoiled(body, source)
    # An answer that is cut at its bound does not hear that it is taken back later.
    most = source.randint(1, 60) if source.random() < 0.1 and b"message_replace" not in body else MOST
    return Case(dialect, body, text, whole, spoiled, most), _cut(body, source)


async def judged(case: Case, pieces: list[bytes]) -> str:
    """What is wrong with a case; nothing, mostly."""
    unsplit, split = await heard(case, [case.body]), await heard(case, pieces)
    if unsplit != split:
        return f"in pieces {split}, at once {unsplit}"
    if case.spoiled:
        return ""
    wanted = case.text[: case.most]
    if not wanted.strip() or wanted.count("\ufffd") * 10 > len(wanted):
        return "" if split.error == ChatApiEmptyError.__name__ else f"no answer, and heard {split}"
    return "" if split.text == wanted else f"said {wanted!r}, and heard {split}"


def run(seed: str, first: int, count: int) -> tuple[str, str]:
    """Judges cases ``seed``-``first`` and on; the seed of the first that is wrong, and what is wrong with it."""

    async def all_of_them() -> tuple[str, str]:
        for number in range(first, first + count):
            name = f"{seed}-{number}"
            try:
                if wrong := await judged(*made(name)):
                    return name, wrong
            except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
                return name, f"{type(error).__name__}: {error}"
        return "", ""

    return asyncio.run(all_of_them())


# ---- bodies
def _words(source: random.Random, most: int = 40) -> str:
    if source.random() < 0.1:  # any character at all
        return "".join(chr(_point(source)) for _ in range(source.randint(0, 8)))
    return "".join(source.choices(source.choice(_ALPHABETS), k=source.randint(0, most)))


def _point(source: random.Random) -> int:
    point = source.randrange(0x110000 - 0x800)
    return point if point < 0xD800 else point + 0x800


def _dump(value: object, source: random.Random) -> bytes:
    way = source.random()
    if way < 0.6:
        return orjson.dumps(value)
    return json.dumps(value, ensure_ascii=way < 0.8, separators=(", ", ": ") if way < 0.9 else None).encode()


def _deltas(source: random.Random) -> tuple[list[str], str]:
    """The text in deltas, with a thought before it now and then; and what of it is to be seen."""
    deltas = [_words(source) for _ in range(source.randint(0, 8))]
    text = "".join(deltas)
    if source.random() < 0.2:
        tag = source.choice(("think", "thinking", "reasoning", "THOUGHT"))
        thought = f"{source.choice(('', ' ', chr(10)))}<{tag}>{_words(source).replace('<', '')}</{tag}>\n"
        at = source.randint(0, len(thought))
        return [thought[:at], thought[at:], *deltas], text.lstrip()
    return deltas, text


def _stream(dialect: str, source: random.Random) -> tuple[bytes, str]:
    deltas, text = _deltas(source)
    events, text = {"completions": _completions, "responses": _responses, "dify": _dify}[dialect](deltas, text, source)
    end = source.choice(("\n", "\n", "\r\n", "\r")).encode()
    colon = source.choice((b": ", b": ", b":"))
    oddities = source.random() < 0.3
    lines: list[bytes] = []
    for event in events:
        if oddities and source.random() < 0.3:
            lines += source.choice(([b": ping", b""], [b"id" + colon + b"7"], [b"retry: 3000"], [b""], [b"event: x"]))
        data = event if isinstance(event, bytes) else _dump(event, source)
        several = oddities and data.startswith(b"{") and len(data) > 2 and source.random() < 0.3
        for line in (data[:1], data[1:-1], data[-1:]) if several else (data,):
            lines.append(b"data" + colon + line)
        lines.append(b"")
    while lines and not lines[-1] and source.random() < 0.1:
        lines.pop()
    mark = b"\xef\xbb\xbf" if oddities and source.random() < 0.3 else b""
    return mark + b"".join(line + end for line in lines), text


def _completions(deltas: list[str], text: str, source: random.Random) -> tuple[list[Any], str]:
    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}

    events: list[Any] = [chunk({"role": "assistant", "content": source.choice(("", None))})]
    for delta in deltas:
        if source.random() < 0.1:
            events.append(chunk({"reasoning_content": _words(source), "content": None}))
        parts = [{"type": "text", "text": delta}, {"type": "reasoning", "text": "no"}]
        events.append(chunk({"content": parts if source.random() < 0.1 else delta}, logprobs=None))
    if source.random() < 0.9:
        events.append(chunk(source.choice(({}, {"content": None}, {"content": ""})), "stop"))
    if source.random() < 0.7:
        events.append({"choices": source.choice(([], None)), "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    if source.random() < 0.5:
        for event in events:
            event["conversation_id"] = "abc"
    return [*events, *([b"[DONE]"] if source.random() < 0.8 else [])], text


def _responses(deltas: list[str], text: str, source: random.Random) -> tuple[list[Any], str]:
    response: dict[str, Any] = {"id": "resp_1", "status": "in_progress", "output": [], "error": None}
    events: list[Any] = [{"type": "response.created", "response": response}]
    for delta in deltas:
        if source.random() < 0.1:
            events.append({"type": "response.reasoning_text.delta", "delta": _words(source)})
        events.append({"type": "response.output_text.delta", "delta": delta, "logprobs": source.choice(([], None))})
    said = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    events.append({"type": "response.output_text.done", "text": text})
    events.append({"type": "response.output_item.done", "item": said})
    usage = {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}}
    done = {**response, "status": "completed", "output": [said], "usage": source.choice((usage, None))}
    return [*events, {"type": "response.completed", "response": done}], text


def _dify(deltas: list[str], text: str, source: random.Random) -> tuple[list[Any], str]:
    ids = {"conversation_id": "7c1d", "message_id": "m", "task_id": "t"}
    events: list[Any] = []
    for delta in deltas:
        if source.random() < 0.1:
            events.append({"event": source.choice(("ping", "agent_thought")), "thought": _words(source), **ids})
        events.append({"event": source.choice(("message", "agent_message")), "answer": delta, **ids})
    if source.random() < 0.1:
        text = _words(source)
        events.append({"event": "message_replace", "answer": text, **ids})
    return [*events, {"event": "message_end", "metadata": {"usage": {"prompt_tokens": 1}}, **ids}], text


def _whole(dialect: str, source: random.Random) -> tuple[bytes, str]:
    deltas, text = _deltas(source)
    said = "".join(deltas)
    replies: dict[str, dict[str, Any]] = {
        "completions": {"choices": [{"message": {"content": said, "reasoning": "no"}, "finish_reason": "stop"}]},
        "responses": {"id": "resp_1", "output": [{"type": "reasoning", "content": [{"type": "x", "text": "no"}]},
                      {"type": "message", "content": [{"type": "output_text", "text": said}]}]},
        "dify": {"event": "message", "answer": said, "conversation_id": "7c1d", "metadata": None},
    }  # fmt: skip
    return _dump(replies[dialect], source), text


# ---- what happens to them
def _cut(body: bytes, source: random.Random) -> list[bytes]:
    if source.random() < 0.2 and len(body) < 2000:
        return [body[at : at + 1] for at in range(len(body))]
    cuts = sorted(source.randint(0, len(body)) for _ in range(source.randint(0, 12)))
    return [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def _spoiled(body: bytes, source: random.Random) -> bytes:
    if source.random() < 0.3:
        lines = body.splitlines(keepends=True) or [b""]
        at, other = source.randrange(len(lines)), source.randrange(len(lines))
        way = source.randrange(3)
        if way == 0:
            del lines[at]
        elif way == 1:
            lines.insert(other, lines[at])
        else:
            lines[at], lines[other] = lines[other], lines[at]
        return b"".join(lines)
    start = source.randint(0, len(body))
    stop = min(len(body), start + source.choice((0, 1, 1, 1, 2, 5, 50)))
    cut = body[start:stop]
    put = source.choice((
        b"", bytes([source.randrange(256)]), source.choice(_TOKENS), cut * 2, cut[::-1], source.randbytes(4),
    ))  # fmt: skip
    return body[:start] if source.random() < 0.1 else body[:start] + put + body[stop:]

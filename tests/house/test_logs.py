"""Logs: no secret, no customer's words, no chat's number, whoever writes the line."""

import asyncio
import io
import json
import logging
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramNetworkError
from pydantic import BaseModel

from bot.errors import TelegramRefusedError
from bot.logs import CUT, WITHHELD, Pseudonyms, Redactor, chat_name, configure, get_logger, log_leftovers

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
WORDS = "my cat is called Mortimer"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Gives the process its own logging back."""
    root, loud = logging.getLogger(), ("bot", "handlers", "storage")
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in loud:
        logging.getLogger(name).setLevel(logging.NOTSET)
    sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = hooks


@pytest.fixture(params=["console", "json"])
def form(request: pytest.FixtureRequest) -> str:
    """Both ways of writing a line."""
    return str(request.param)


def listening(form: str = "console", *, level: str = "debug", secrets: tuple[str, ...] = (TOKEN,)) -> io.StringIO:
    """Sets logging up and returns what it writes to."""
    out = io.StringIO()
    configure(level, form, secrets, out)
    return out


def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_token_in_a_client_exception_is_cut_out(form: str) -> None:
    """The token is part of every Bot API address, and HTTP clients put addresses into their errors."""
    out = listening(form)
    address = f"http://127.0.0.1:{closed_port()}/bot{TOKEN}/getMe"
    log = get_logger("bot.test")
    async with aiohttp.ClientSession() as session:
        with suppress(aiohttp.ClientError):
            await session.get(address)
        try:
            await session.get(address.replace("http:", "nothttp:"))
        except aiohttp.ClientError:
            log.exception("telegram.failed", url=address)
    async with httpx.AsyncClient() as client:
        try:
            (await client.get(address)).raise_for_status()
        except httpx.HTTPError as error:
            log.error("telegram.failed", why=str(error), url=quote(address, safe=""), exc_info=error)
    text = out.getvalue()
    assert text.count("telegram.failed") == 2
    assert CUT in text
    assert TOKEN.partition(":")[2] not in text


async def test_aiogram_says_nothing_of_the_token_at_debug(form: str) -> None:
    """A library's own lines pass the same gate, in all their levels."""
    out = listening(form)
    server = TelegramAPIServer.from_base(f"http://127.0.0.1:{closed_port()}")
    bot = Bot(TOKEN, session=AiohttpSession(api=server, timeout=2))
    try:
        await bot.get_me()
    except TelegramNetworkError as error:
        logging.getLogger("aiogram.dispatcher").error("Failed to fetch updates - %s: %s", type(error).__name__, error)
        get_logger("bot.test").exception("poll.failed")
    finally:
        await bot.session.close()
    for name in ("aiohttp.client", "aiogram", "httpx", "uvicorn.error"):
        formatted_before = f"at http://host/bot{TOKEN}/getMe"
        logging.getLogger(name).warning(formatted_before)
        logging.getLogger(name).debug("at http://host/bot%s/getMe", TOKEN)
    text = out.getvalue()
    assert "poll.failed" in text
    assert TOKEN.partition(":")[2] not in text


def test_a_token_nobody_told_of_is_cut_out_too(form: str) -> None:
    """Whatever looks like a bot token, a password in an address or a bearer key is a secret."""
    out = listening(form, secrets=())
    get_logger("bot.test").info(
        "x", a=f"bot{TOKEN}", b=TOKEN.replace(":", "%3A"), c="redis://user:pa55word@host/0", d="Bearer sk-abcdef"
    )
    text = out.getvalue()
    assert text.count(CUT) == 4
    assert not any(part in text for part in ("AAHdqTcv", "pa55word", "sk-abcdef"))


def test_a_secret_is_found_in_every_spelling() -> None:
    """JSON escapes it, addresses quote it, representations escape it again."""
    secret = 'p"w\\d é/1'
    cut = Redactor([secret])
    for spelling in (
        secret,
        json.dumps(secret),
        quote(secret),
        quote(secret, safe=""),
        repr(secret),
        json.dumps([secret]),
    ):
        assert "1" not in cut(spelling), spelling


def test_libraries_are_silent_below_warning(form: str) -> None:
    """LOG_LEVEL is about the service: debug lines of an HTTP client hold addresses, and of a web server everything."""
    out = listening(form)
    for name in ("aiohttp.access", "aiogram.event", "httpx", "httpcore", "uvicorn.access", "asyncio", "redis"):
        library = logging.getLogger(name)
        library.setLevel(logging.DEBUG)
        library.debug("chatter")
        library.info("chatter")
        library.setLevel(logging.NOTSET)
    assert out.getvalue() == ""


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_log_level_is_the_lowest_level_seen(level: str, seen: int) -> None:
    """LOG_LEVEL means what it says, for events and for plain records of our own modules."""
    out = listening(level=level)
    for method in ("debug", "info", "warning", "error"):
        getattr(get_logger("bot.test"), method)("said.event")
        getattr(logging.getLogger("storage.test"), method)("said.record")
    assert (out.getvalue().count("said.event"), out.getvalue().count("said.record")) == (seen, seen)


class Parsed(BaseModel):
    """Something whose validation error quotes its input."""

    number: int


def exceptions_with_words() -> Iterator[BaseException]:
    """Real exceptions that hold what a customer wrote, one of each kind."""
    raisers: list[Any] = [
        lambda: int(WORDS),
        lambda: dict[str, int]()[WORDS],
        lambda: Parsed.model_validate({"number": WORDS}),
        (WORDS + "\udc80").encode,
        lambda: json.loads(f'"{WORDS}'),
    ]
    for raiser in raisers:
        try:
            raiser()
        except Exception as error:  # noqa: BLE001 - each kind is wanted here
            yield error
    yield TelegramRefusedError(400, f'Bad Request: unsupported start tag "{WORDS}" at byte offset 0')
    yield ExceptionGroup("several", [ValueError(WORDS), OSError("fine")])


def test_customers_words_in_exceptions_are_withheld(form: str) -> None:
    """Tracebacks are wanted, words are not: places and kinds stay, messages of unknown families go."""
    out = listening(form)
    log = get_logger("bot.test")
    for error in exceptions_with_words():
        log.error("turn.failed", exc_info=error)
        logging.getLogger("aiogram.event").error(
            "Cause exception while process update id=%d: %s", 7, error, exc_info=error
        )
        formatted_before = f"Task exception was never retrieved\nfuture: {error!r}"
        logging.getLogger("asyncio").error(formatted_before, exc_info=error)
        try:
            raise RuntimeError(WORDS) from error
        except RuntimeError:
            log.exception("turn.failed")
    text = out.getvalue()
    assert "Mortimer" not in text
    assert "test_logs.py" in text
    assert "pydantic_core._pydantic_core.ValidationError: " + WITHHELD in text
    assert "bot.errors.TelegramRefusedError: Telegram refused with 400" in text


def test_arguments_of_a_library_s_record_are_withheld(form: str) -> None:
    """A library may put a whole update into its warning; numbers and kinds of errors tell enough."""
    out = listening(form)
    logging.getLogger("aiogram.dispatcher").warning("Update id=%d is strange: %s", 7, WORDS)
    logging.getLogger("aiogram.dispatcher").warning("Update is %(what)s", {"what": WORDS})
    logging.getLogger("aiogram.dispatcher").warning(ValueError(WORDS))
    text = out.getvalue()
    assert "Update id=%d is strange" in text
    assert "[7]" in text
    assert "Mortimer" not in text


async def test_customers_words_in_a_forgotten_task_are_withheld(form: str) -> None:
    """asyncio itself writes the exception's representation of a task that nobody awaited."""
    out = listening(form)
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": ValueError(WORDS), "text": WORDS}
    )
    assert "Task exception was never retrieved" in out.getvalue()
    assert "Mortimer" not in out.getvalue()


def test_fields_that_hold_words_or_chats_are_guarded(form: str) -> None:
    """A careless call must not break the law: texts are withheld, chats renamed, objects reduced to their kind."""
    out = listening(form)
    get_logger("bot.test").info(
        "x",
        text=WORDS,
        caption=WORDS,
        chat=987654321,
        chat_id=987654321,
        found=Parsed(number=77),
        n=[{"prompt": WORDS}],
    )
    text = out.getvalue()
    assert "Mortimer" not in text
    assert "987654321" not in text
    assert "number=" not in text
    assert text.count(chat_name(987654321)) == 2
    assert "Parsed" in text


def test_a_line_stays_one_line(form: str) -> None:
    """Control characters in a value can neither forge a line nor colour the terminal."""
    out = listening(form)
    get_logger("bot.test").info("x", model="a\nb\r", colour="\x1b[31mred", forged="a\u2028b", turned="\u202eb")
    assert out.getvalue().count("\n") == 1
    assert not set(out.getvalue()) & {"\r", "\x1b", "\u2028", "\u202e"}


def test_json_lines_are_json() -> None:
    """Collectors read one object a line, with time, level and event; lone surrogates do not break it."""
    out = listening("json")
    get_logger("bot.test").warning("turn.answered", ms=12.5, odd="\udc80")
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["ms"], line["odd"]) == ("turn.answered", "warning", 12.5, "\udc80")
    assert datetime.fromisoformat(line["time"]).tzinfo == UTC


def test_a_record_that_cannot_be_written_is_named_and_nothing_else() -> None:
    """logging's own complaint prints the arguments, which would go past every rule."""
    out = listening()

    class Odd(str):
        __slots__ = ()

        def split(self, *_: Any) -> Any:
            raise ValueError(WORDS)

    logging.getLogger("aiogram").error(Odd("x"))
    assert out.getvalue() == "log.failed logger=aiogram\n"


def test_leftovers_pass_the_same_gate(form: str) -> None:
    """Uncaught exceptions, in threads too, and warnings: Python would print them with all they hold."""
    out = listening(form)
    log_leftovers()
    sys.excepthook(ValueError, ValueError(WORDS), None)
    thread = threading.Thread(target=lambda: int(WORDS))
    thread.start()
    thread.join()
    warnings.showwarning(WORDS, UserWarning, "place.py", 3)
    text = out.getvalue()
    assert [name in text for name in ("process.uncaught", "thread.uncaught", "python.warning")] == [True] * 3
    assert "place.py:3" in text
    assert "Mortimer" not in text


def test_a_chat_keeps_its_pseudonym_for_a_day() -> None:
    """Lines can be joined within a day, not across days, not across processes, and not back to the chat."""
    now = [86_400.0 * 20_000]
    ours, others = Pseudonyms(lambda: now[0]), Pseudonyms(lambda: now[0])
    first = ours.name(-1001234567890)
    assert first == ours.name(-1001234567890)
    assert len({first, ours.name(42), others.name(-1001234567890)}) == 3
    now[0] += 86_399
    assert ours.name(-1001234567890) == first
    now[0] += 1
    assert ours.name(-1001234567890) != first

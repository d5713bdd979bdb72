"""Logs that keep secrets and customers' words to themselves, whoever writes them.

One handler renders everything: our events and the records of every library. Three rules hold there and nowhere else, so
no caller can forget them: secrets are cut out of the finished line; chats appear as pseudonyms; free text of others is
left out (a library's message arguments, an exception's message unless its family is known to speak of connections only,
and never the local variables of a traceback). What libraries say below WARNING is dropped at any LOG_LEVEL.
"""

import base64
import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast
from urllib.parse import quote

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

CUT = "(secret)"
WITHHELD = "(withheld)"

_OURS = frozenset({"bot", "handlers", "storage"})
_PLAIN_SPOKEN = _OURS | {"aiohttp", "httpx", "httpcore", "redis", "ssl"}  # their messages name hosts, codes and states
_ABOUT_CODE = (ImportError, ModuleNotFoundError, NameError, AttributeError, TypeError)  # they name types and names only
_PRIVATE_FIELDS = frozenset(
    {
        *("text", "content", "caption", "question", "answer", "prompt", "body", "payload"),
        *("token", "secret", "password", "username", "first_name", "last_name", "phone"),
    }
)
_CHAT_FIELDS = frozenset({"chat", "chat_id", "user_id"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LOOKS_SECRET = (
    r"\d{3,}(?::|%3[Aa])[A-Za-z0-9_-]{20,}",  # a bot token, plain or inside an encoded address
    r"(?<=://)[^\s/@]*:[^\s/@]+(?=@)",  # user and password of an address
    r"(?<=[Bb]earer )[^\s'\",]+",
)
_SECONDS_PER_DAY = 86_400
_MAX_FRAMES = 40
_MAX_ERRORS = 12


def get_logger(name: str) -> FilteringBoundLogger:
    """The event log of module `name`; nothing is set up before the first event."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


def configure(
    level: str = "info", form: str = "console", secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Sets up all logging of the process; may be called again, the last call holds.

    `level` and `form` take what LOG_LEVEL and LOG_FORMAT take. A server library must be told to leave logging alone
    (uvicorn: `log_config=None, access_log=False`), or its own handlers go past the rules above.
    """
    out = stream or sys.stderr
    lowest = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # loggers are made at import, before this call
    )
    handler = _Handler(out)
    handler.setFormatter(_Formatter(form, colours=out.isatty(), redact=Redactor(secrets)))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or _is_ours(record.name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(lowest)


def log_leftovers() -> None:
    """Sends what Python would print on its own (uncaught exceptions, warnings) through the same rules."""
    log = get_logger("bot.leftovers")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("process.uncaught", exc_info=(kind, error, trace))

    def warned(*found: Any, **_: Any) -> None:
        _, category, filename, line = found[:4]  # the text may quote a value, so it stays out
        log.warning("python.warning", category=category.__name__, where=f"{filename}:{line}")

    sys.excepthook = uncaught
    sys.unraisablehook = lambda found: log.error("process.unraisable", exc_info=found.exc_value)
    threading.excepthook = lambda found: log.error("thread.uncaught", exc_info=found.exc_value)
    warnings.showwarning = warned


class Redactor:
    """Cuts `secrets`, in plain, JSON and URL spelling, and whatever looks like a secret, out of a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {
            spelling
            for secret in secrets
            if secret
            for spelling in (
                secret,
                json.dumps(secret)[1:-1],
                quote(secret),
                quote(secret, safe=""),
                repr(secret)[1:-1],
            )
        }
        known = [re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True)]
        self._pattern = re.compile("|".join([*known, *_LOOKS_SECRET]))

    def __call__(self, text: str) -> str:
        return self._pattern.sub(CUT, text)


class Pseudonyms:
    """Short names for chats under a random key that is drawn anew each day (UTC) and never leaves the process.

    Lines of one day and process can be told to concern the same chat; nobody can tell which chat that was.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._day = -1
        self._key = b""

    def name(self, chat_id: int) -> str:
        day = int(self._clock() // _SECONDS_PER_DAY)
        if day != self._day:
            self._key, self._day = os.urandom(32), day
        digest = hashlib.blake2b(str(chat_id).encode(), key=self._key, digest_size=5).digest()
        return "c" + base64.b32encode(digest).decode().lower()


_pseudonyms = Pseudonyms()


def chat_name(chat_id: int) -> str:
    """The pseudonym under which `chat_id` appears in today's log of this process, such as `ck5x2w7qa`."""
    return _pseudonyms.name(chat_id)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """The library's own version prints the record's arguments past every rule; this one names the logger only."""
        with suppress(OSError, ValueError):
            self.stream.write(f"log.failed logger={record.name}\n")


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, form: str, *, colours: bool, redact: Redactor) -> None:
        render: structlog.typing.Processor = (
            structlog.processors.JSONRenderer()
            if form == "json"
            else structlog.dev.ConsoleRenderer(
                colors=colours, timestamp_key="time", pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
            )
        )
        super().__init__(
            foreign_pre_chain=[_foreign],
            pass_foreign_args=True,
            use_get_message=False,
            processors=[
                _exception,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _guarded,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                render,
            ],
        )
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


def _is_ours(logger_name: str) -> bool:
    return logger_name.partition(".")[0] in _OURS


def _foreign(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A library's record: the first line of its template, and of its arguments only numbers and kinds of errors.

    Templates are written by programmers; arguments, and the further lines some libraries format beforehand, can hold a
    customer's words (asyncio's "Task exception was never retrieved" ends in the exception's repr).
    """
    record: logging.LogRecord = event["_record"]
    arguments = event.pop("positional_args", None) or ()
    given = [_plain(argument) for argument in (arguments if isinstance(arguments, tuple) else ())]
    event["event"] = record.msg.split("\n", 1)[0] if isinstance(record.msg, str) else type(record.msg).__name__
    shown = [argument for argument in given if not isinstance(argument, str)]
    shown += [type(argument).__name__ for argument in arguments if isinstance(argument, BaseException)]
    if shown:
        event["args"] = shown
    event["logger"] = record.name
    return event


def _guarded(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _field(name, value) for name, value in event.items()}


def _field(name: str, value: object) -> object:
    if name in _PRIVATE_FIELDS:
        return WITHHELD
    if name in _CHAT_FIELDS and isinstance(value, int):
        return chat_name(value)
    return _plain(value)


def _plain(value: object, depth: int = 3) -> Any:
    """`value` where it is plain data; of anything else only its kind, for a repr can hold a whole message."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (str, Path)):
        return _CONTROL.sub("·", str(value))
    if isinstance(value, Enum):
        return _plain(value.value)
    if depth and isinstance(value, dict):
        return {str(name): _field(str(name), _plain(inner, depth - 1)) for name, inner in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner, depth - 1) for inner in value]
    return type(value).__name__


def _exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error, seen=set()))
    return event


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    """The traceback of `error` and of what led to it, oldest first: places, kinds, and harmless messages."""
    if id(error) in seen or len(seen) >= _MAX_ERRORS:
        return
    seen.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        yield from _told(earlier, seen)
        yield "which led to:"
    for place in traceback.format_tb(error.__traceback__, limit=-_MAX_FRAMES):
        yield place.rstrip("\n")
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_message(error)}"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield "of which:"
            yield from _told(inner, seen)


def _message(error: BaseException) -> str:
    family = type(error).__module__.partition(".")[0]
    if family in _PLAIN_SPOKEN or isinstance(error, OSError) or type(error) in _ABOUT_CODE:
        return _CONTROL.sub("·", str(error))[:500]
    return WITHHELD

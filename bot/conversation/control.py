"""Reaches the running turn of a chat at once, in whichever process it runs.

What calls a turn away from its answer (Stop, /forget, /human …) goes through the chat's mailbox like everything else,
and is announced besides: by a message to all workers, and by a mark in the chat for who missed it.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bot.logs import get_logger

CONFIRMED: Final = "erase"
PERSON: Final = "person"
CONSENT: Final = "consent"
"""What the data of the buttons that are urgent begins with."""

_COMMAND: Final = re.compile(r"/(stop|forget|human)(@\w+)?(\s|$)", re.IGNORECASE)
_LISTEN_SECONDS: Final = 5.0
_log = get_logger(__name__)


def is_urgent(update: dict[str, Any]) -> bool:
    """Whether an update must not wait for the answer that is being written."""
    if "stopped_message_generation" in update:
        return True
    press = update.get("callback_query")
    if isinstance(press, dict):
        return str(press.get("data") or "").partition(":")[0] in {CONFIRMED, PERSON, CONSENT}
    message = update.get("message")
    text = message.get("text") if isinstance(message, dict) else None
    return isinstance(text, str) and _COMMAND.match(text) is not None


class Watch:
    """Whether the turn of one chat was called; ``on_call`` is told as long as it is set."""

    def __init__(self) -> None:
        self.called = False
        self.on_call: Callable[[], None] | None = None

    def call(self) -> None:
        self.called = True
        if self.on_call is not None:
            self.on_call()


class Control:
    """The turns that run in this process."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._watches: dict[int, Watch] = {}

    @contextmanager
    def watching(self, chat_id: int) -> Iterator[Watch]:
        """A watch over a chat, from before its mail is read, so that nothing is missed in between."""
        watch = self._watches[chat_id] = Watch()
        try:
            yield watch
        finally:
            if self._watches.get(chat_id) is watch:
                del self._watches[chat_id]

    def call(self, chat_id: int) -> None:
        """Something urgent has come for the chat."""
        watch = self._watches.get(chat_id)
        if watch is not None:
            watch.call()

    async def listen(self, client: "Redis") -> None:
        """Passes calls on, until cancelled. ``client`` is a connection that nobody else uses."""
        pause = 0.1
        while True:
            try:
                async with client.pubsub() as calls:
                    await calls.subscribe(self._channel)
                    for watch in list(self._watches.values()):
                        watch.call()  # what was missed while nobody listened
                    pause = 0.1
                    while True:
                        message = await calls.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_SECONDS)
                        if message is not None:
                            self.call(int(message["data"]))
            except (RedisError, OSError, TimeoutError) as error:
                _log.info("control.deaf", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

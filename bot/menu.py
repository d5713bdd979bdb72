"""The command menus customers see in Telegram: set in each language, and only when they changed.

Telegram shows a person the menu of their language, else the one without a language, which is the English one
(Bot API, setMyCommands). Groups get the commands that make sense there.
"""

import asyncio
import hashlib
from typing import Any, Final

import orjson

from bot import texts
from bot.delivery.telegram import TelegramClient
from bot.errors import TelegramError, TelegramRetryAfterError
from bot.logs import get_logger
from bot.texts import LANGUAGES, LOCALES, Words
from storage.errors import StorageError
from storage.scripts import Store

_IN_GROUPS: Final = ("new", "stop", "human", "forget", "privacy", "help")
_FIRST_PAUSE_SECONDS: Final = 5.0
_LONGEST_PAUSE_SECONDS: Final = 600.0
_log = get_logger(__name__)


async def keep_menus(telegram: TelegramClient, store: Store, key: str) -> None:
    """Gives Telegram the menus unless it has them; tries until it has. ``key``: where the store notes which it has."""
    mark = await asyncio.to_thread(_mark)
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            if await store.call("GET", key) != mark:
                for menu in await asyncio.to_thread(_menus):
                    await telegram.call("setMyCommands", menu)
                await store.call("SET", key, mark)
                _log.info("menus.set", languages=len(LANGUAGES))
        except TelegramRetryAfterError as error:
            await asyncio.sleep(error.seconds)
        except (TelegramError, StorageError) as error:
            _log.info("menus.later", reason=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        else:
            return


def _mark() -> bytes:
    """Of all that menus are made from: comparing it loads no catalogue."""
    made = hashlib.sha256(orjson.dumps([texts.COMMANDS, _IN_GROUPS]))
    for path in sorted(LOCALES.rglob("*.po")):
        made.update(path.read_bytes())
    return made.hexdigest().encode()


def _menus() -> list[dict[str, Any]]:
    words = Words()
    found = []
    for scope, names in (("all_private_chats", tuple(texts.COMMANDS)), ("all_group_chats", _IN_GROUPS)):
        for language in LANGUAGES:
            commands = [{"command": name, "description": words.say(texts.COMMANDS[name], language)} for name in names]
            menu: dict[str, Any] = {"scope": {"type": scope}, "commands": commands}
            found.append(menu if language == "en" else menu | {"language_code": language})
    return found

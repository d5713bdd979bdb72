"""From a raw update to an intent, through aiogram's dispatcher."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiogram import Bot, Dispatcher, Router
from aiogram.dispatcher.event.bases import UNHANDLED
from aiogram.types import Update
from pydantic import ValidationError

from bot.conversation.intents import Intent, Nothing
from bot.logs import get_logger

_log = get_logger(__name__)


def dispatcher_of(bot: Bot, *routers: Router) -> Callable[[dict[str, Any]], Awaitable[Intent]]:
    """A function that gives the intent of a raw update; it raises what a handler raises.

    An update that Telegram's own models refuse is logged by its type and means nothing.
    """
    dispatcher = Dispatcher(disable_fsm=True)
    dispatcher.include_routers(*routers)

    async def dispatch(raw: dict[str, Any]) -> Intent:
        try:
            update = Update.model_validate(raw, context={"bot": bot})
        except ValidationError:
            _log.warning("update.malformed", type=next((name for name in raw if name != "update_id"), "none"))
            return Nothing("malformed")
        intent = await dispatcher.feed_update(bot, update)
        return Nothing("unhandled") if intent is UNHANDLED or intent is None else intent

    return dispatch

"""The Bot API's methods on a sandbox world: `METHODS` maps the lower-case name to its real name and handler."""

from __future__ import annotations

from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.methods.chats import CHAT_METHODS
from bot.sandbox.methods.commands import COMMAND_METHODS
from bot.sandbox.methods.editing import EDITING_METHODS
from bot.sandbox.methods.files import FILE_METHODS
from bot.sandbox.methods.profile import PROFILE_METHODS
from bot.sandbox.methods.sending import SENDING_METHODS

METHODS: dict[str, tuple[str, Handler]] = {
    name.lower(): (name, handler)
    for group in (SENDING_METHODS, EDITING_METHODS, FILE_METHODS, CHAT_METHODS, COMMAND_METHODS, PROFILE_METHODS)
    for name, handler in group.items()
}

__all__ = ["METHODS", "Handler", "MethodCall"]

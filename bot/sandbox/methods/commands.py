"""The bot's commands: kept by scope and language, and which of them a person is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from bot.sandbox.form import as_number
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import BadRequestError

if TYPE_CHECKING:
    from bot.sandbox.account import Account
    from bot.sandbox.world import Chat

Commands = list[dict[str, str]]

#: Bot API, BotCommand and setMyCommands.
MAX_COMMANDS: Final = 100
MAX_DESCRIPTION: Final = 256
_COMMAND: Final = re.compile(r"[a-z0-9_]{1,32}")
_LANGUAGE: Final = re.compile(r"([a-z]{2})?")
_WIDE: Final = ("default", "all_private_chats", "all_group_chats", "all_chat_administrators")
_NARROW: Final = ("chat", "chat_administrators", "chat_member")


def set_my_commands(call: MethodCall) -> bool:
    try:
        given = call.params.nested("commands")
    except orjson.JSONDecodeError as error:
        raise BadRequestError("can't parse commands JSON object") from error
    if not isinstance(given, list):
        raise BadRequestError("expected an Array of BotCommand")
    if len(given) > MAX_COMMANDS:
        raise BadRequestError("BOT_COMMANDS_TOO_MUCH")
    commands = [_command(one) for one in given]
    _keep(call, {**_kept(call.account), _key_of(call): commands})
    return True


def get_my_commands(call: MethodCall) -> Commands:
    return _kept(call.account).get(_key_of(call), [])


def delete_my_commands(call: MethodCall) -> bool:
    key = _key_of(call)
    _keep(call, {other: commands for other, commands in _kept(call.account).items() if other != key})
    return True


def commands_shown(account: Account, chat: Chat, language: str) -> Commands:
    """What the menu of a person with this language holds in `chat`.

    The first list that was set counts, in the order of the Bot API's "Determining list of commands": from the
    narrowest scope to the widest, in each the person's language before none.
    """
    kept = _kept(account)
    if not kept:
        return []
    wide = "all_private_chats" if chat.type == "private" else "all_group_chats"
    for scope in ({"type": "chat", "chat_id": chat.id}, {"type": wide}, {"type": "default"}):
        for spoken in (language.partition("-")[0].lower(), ""):
            if found := kept.get(_key(scope, spoken)):
                return found
    return []


def _kept(account: Account) -> dict[str, Commands]:
    kept: dict[str, Commands] = account.profile.get("commands", {})
    return kept


def _keep(call: MethodCall, commands: dict[str, Commands]) -> None:
    call.account.keep_profile("commands", commands)
    for chat in call.world.chats.values():
        call.world.tell("chat", chat)


def _key(scope: dict[str, Any], language: str) -> str:
    return orjson.dumps([scope, language], option=orjson.OPT_SORT_KEYS).decode()


def _key_of(call: MethodCall) -> str:
    language = call.params.text("language_code")
    if not _LANGUAGE.fullmatch(language):
        raise BadRequestError("invalid language code specified")
    try:
        scope = call.params.nested("scope")
    except orjson.JSONDecodeError as error:
        raise BadRequestError("can't parse BotCommandScope JSON object") from error
    return _key(_scope(call, scope), language)


def _scope(call: MethodCall, given: object) -> dict[str, Any]:
    """The scope with nothing but what tells it from others; the wordings are the server's."""
    if given is None:
        return {"type": "default"}
    if not isinstance(given, dict):
        raise BadRequestError("can't parse BotCommandScope: expected an Object")
    kind = given.get("type")
    if kind in _WIDE:
        return {"type": kind}
    if kind not in _NARROW:
        raise BadRequestError("can't parse BotCommandScope: Unsupported type specified")
    scope = {"type": kind, "chat_id": call.world.known_chat(as_number(given.get("chat_id"))).id}
    if kind == "chat_member":
        scope["user_id"] = as_number(given.get("user_id"))
        if scope["user_id"] <= 0:
            raise BadRequestError("can't parse BotCommandScope: Invalid user_id specified")
    return scope


def _command(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        raise BadRequestError("can't parse BotCommand: expected an Object")
    command, description = given.get("command"), given.get("description")
    if not isinstance(command, str) or not isinstance(description, str):
        raise BadRequestError('can\'t parse BotCommand: Can\'t find field "command" or "description"')
    command = command.removeprefix("/")
    if not _COMMAND.fullmatch(command):
        raise BadRequestError("BOT_COMMAND_INVALID")
    if not 1 <= len(description.strip()) <= MAX_DESCRIPTION:
        raise BadRequestError("BOT_COMMAND_DESCRIPTION_INVALID")
    return {"command": command, "description": description.strip()}


COMMAND_METHODS: dict[str, Handler] = {
    "setMyCommands": set_my_commands,
    "getMyCommands": get_my_commands,
    "deleteMyCommands": delete_my_commands,
}

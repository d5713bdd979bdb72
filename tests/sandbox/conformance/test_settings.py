"""The bot's commands and its webhook."""

from __future__ import annotations

from typing import Any

import pytest

from bot.sandbox import TelegramServer
from bot.sandbox.methods.commands import commands_shown
from tests.sandbox.callers import Subject, refused


async def test_commands_are_kept_by_scope_and_language(subject: Subject) -> None:
    """Bot API, setMyCommands and getMyCommands."""
    scope = {"type": "all_group_chats"}
    commands = [{"command": "help", "description": "What I can do"}]
    assert await subject.ok("setMyCommands", commands=commands, scope=scope, language_code="es") is True
    assert await subject.ok("getMyCommands", scope=scope, language_code="es") == commands
    assert await subject.ok("deleteMyCommands", scope=scope, language_code="es") is True
    assert await subject.ok("getMyCommands", scope=scope, language_code="es") == []


@pytest.mark.parametrize("command", ["Caps", "has-dash", "x" * 33, ""])
async def test_bad_commands_are_invalid(subject: Subject, command: str) -> None:
    """Bot API, BotCommand: 1-32 of lower-case letters, digits and underscores."""
    answer = await subject.no("setMyCommands", commands=[{"command": command, "description": "x"}])
    assert answer == refused("BOT_COMMAND_INVALID")


async def test_there_are_at_most_100_commands(subject: Subject) -> None:
    """Bot API, setMyCommands."""
    commands = [{"command": f"c{number}", "description": "x"} for number in range(101)]
    assert (await subject.no("setMyCommands", commands=commands))[0] == 400


@pytest.mark.parametrize("kind", ["default", "all_private_chats", "all_group_chats", "all_chat_administrators", "chat"])
async def test_lists_of_commands_do_not_touch_each_other(subject: Subject, kind: str) -> None:
    """Bot API, BotCommandScope and language_code: each pair has a list of its own; deleting one leaves the others."""
    scope = {"type": kind, "chat_id": subject.chat} if kind == "chat" else {"type": kind}
    lists = {code: [{"command": f"in_{code or 'any'}", "description": "x"}] for code in ("", "es", "zh")}
    for code, commands in lists.items():
        await subject.ok("setMyCommands", commands=commands, scope=scope, language_code=code)
    await subject.ok("deleteMyCommands", scope=scope, language_code="es")
    found = [await subject.ok("getMyCommands", scope=scope, language_code=code) for code in lists]
    assert found == [lists[""], [], lists["zh"]]
    for code in ("", "zh"):
        await subject.ok("deleteMyCommands", scope=scope, language_code=code)


async def test_no_scope_is_the_default_scope(subject: Subject) -> None:
    """Bot API, setMyCommands: scope defaults to BotCommandScopeDefault."""
    commands = [{"command": "help", "description": "x"}]
    await subject.ok("setMyCommands", commands=commands)
    assert await subject.ok("getMyCommands", scope={"type": "default"}) == commands
    await subject.ok("deleteMyCommands")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"scope": {"type": "everywhere"}}, "can't parse BotCommandScope: Unsupported type specified"),
        ({"scope": {"type": "chat", "chat_id": 987654321}}, "chat not found"),
        ({"language_code": "english"}, "invalid language code specified"),
    ],
)
async def test_commands_for_nobody_are_refused(subject: Subject, place: dict[str, Any], reason: str) -> None:
    """Server: the scope and the two letters of the language (ISO 639-1) are checked."""
    assert await subject.no("getMyCommands", **place) == refused(reason)


async def test_a_command_is_described_in_1_to_256_characters(subject: Subject) -> None:
    """Bot API, BotCommand."""
    for description in ("", "x" * 257):
        answer = await subject.no("setMyCommands", commands=[{"command": "x", "description": description}])
        assert answer == refused("BOT_COMMAND_DESCRIPTION_INVALID")


async def test_a_person_is_shown_the_narrowest_list_in_their_language(
    subject: Subject, customers: TelegramServer
) -> None:
    """Bot API, determining list of commands: chat, private chats, default; in each the language before none."""
    customers.add_customer(subject.chat, language_code="zh-hans")
    account = customers.account()
    chat = account.world.chats[subject.chat]
    shown = []
    for name, kind, code in (
        ("all", "default", ""), ("all_zh", "default", "zh"), ("private", "all_private_chats", ""),
        ("private_ru", "all_private_chats", "ru"), ("private_zh", "all_private_chats", "zh"), ("here", "chat", ""),
        ("here_zh", "chat", "zh"),
    ):  # fmt: skip
        scope = {"type": kind, "chat_id": subject.chat} if kind == "chat" else {"type": kind}
        commands = [{"command": name, "description": "x"}]
        await subject.ok("setMyCommands", commands=commands, scope=scope, language_code=code)
        shown.append(commands_shown(account, chat, "zh-hans")[0]["command"])
    assert shown == ["all", "all_zh", "private", "private", "private_zh", "here", "here_zh"]


@pytest.mark.parametrize("secret", ["with space", "ü", "x" * 257])
async def test_a_webhook_secret_has_a_plain_alphabet(subject: Subject, secret: str) -> None:
    """Bot API, setWebhook: secret_token of 1-256 characters A-Z, a-z, 0-9, _ and -."""
    code, description = await subject.no("setWebhook", url="https://example.org/hook", secret_token=secret)
    assert code == 400
    assert "secret token" in description


async def test_polling_is_a_conflict_while_a_webhook_is_set(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, getUpdates: does not work with an outgoing webhook; server: the wording."""
    assert await subject.ok("setWebhook", url="http://127.0.0.1:9/hook", secret_token="s_-1", max_connections=3) is True
    info = await subject.ok("getWebhookInfo")
    assert (info["url"], info["max_connections"]) == ("http://127.0.0.1:9/hook", 3)
    conflict = (
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
    )
    assert await subject.no("getUpdates") == (409, conflict)
    assert await subject.ok("deleteWebhook") is True
    assert (await subject.ok("getWebhookInfo"))["url"] == ""
    assert await subject.ok("getUpdates") == []

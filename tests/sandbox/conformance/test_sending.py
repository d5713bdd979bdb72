"""What a text message may hold, and how it comes back."""

from __future__ import annotations

import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import BUTTONS, GROUP, Subject, refused


async def test_a_sent_message_comes_back_whole(subject: Subject) -> None:
    """Bot API, sendMessage: on success, the sent Message is returned."""
    message = await subject.send("whole", reply_markup=BUTTONS)
    assert message["chat"]["id"] == subject.chat
    assert message["chat"]["type"] == "private"
    assert message["from"]["is_bot"] is True
    assert message["text"] == "whole"
    assert message["reply_markup"] == BUTTONS
    assert message["date"] > 1_700_000_000


async def test_message_ids_grow(subject: Subject) -> None:
    """Bot API, Message: ids are unique inside a chat; later messages have higher ones."""
    first, second = await subject.send(), await subject.send()
    assert second["message_id"] > first["message_id"]


async def test_private_chats_share_one_sequence_of_ids(subject: Subject, customers: TelegramServer) -> None:
    """Report: all private chats and basic groups of a bot count together, each supergroup by itself."""
    first = await subject.send()
    between = customers.customer_writes(2002, "elsewhere")
    basic = customers.customer_writes(-77, "in a basic group", chat_type="group")
    own = customers.customer_writes(GROUP, "in a supergroup", chat_type="supergroup")
    assert [between, basic] == [first["message_id"] + 1, first["message_id"] + 2]
    assert own == 1


async def test_a_chat_never_seen_is_not_found(subject: Subject) -> None:
    """Server: a bot cannot write to somebody who has never written to it."""
    assert await subject.no("sendMessage", chat_id=999_999_999_991, text="x") == refused("chat not found")


async def test_a_missing_chat_id_is_refused(subject: Subject) -> None:
    """Server: chat_id is required."""
    assert await subject.no("sendMessage", text="x") == refused("chat_id is empty")


async def test_an_empty_text_is_refused(subject: Subject) -> None:
    """Server: the text must not be empty."""
    assert await subject.no("sendMessage", chat_id=subject.chat, text="") == refused("message text is empty")
    assert await subject.no("sendMessage", chat_id=subject.chat) == refused("message text is empty")


@pytest.mark.parametrize(("text", "mode"), [(" \n ", None), ("\u202e\u2028", None), ("<b> </b>", "HTML")])
async def test_a_text_without_anything_visible_is_refused(subject: Subject, text: str, mode: str | None) -> None:
    """Server: after cleaning and trimming something must be left."""
    reason = refused("text must be non-empty")
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text, parse_mode=mode) == reason


@pytest.mark.parametrize("text", ["x" * 4096, "\U0001f600" * 2048, "я" * 4096])
async def test_4096_utf16_units_fit(subject: Subject, text: str) -> None:
    """Bot API, sendMessage: 1-4096 characters after entities parsing; a character is a UTF-16 unit."""
    assert (await subject.send(text))["text"] == text


@pytest.mark.parametrize("text", ["x" * 4097, "\U0001f600" * 2048 + "x"])
async def test_4097_utf16_units_are_too_long(subject: Subject, text: str) -> None:
    """Bot API, sendMessage: at most 4096 characters."""
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text) == refused("message is too long")


async def test_markup_does_not_count_towards_the_length(subject: Subject) -> None:
    """Bot API, sendMessage: the limit holds after entities parsing."""
    message = await subject.send("<b>" + "x" * 4096 + "</b>", parse_mode="HTML")
    assert len(message["text"]) == 4096


async def test_a_lone_surrogate_is_refused(subject: Subject) -> None:
    """Server: strings must be encoded in UTF-8."""
    url, body = f"{subject.url}/bot{subject.token}/sendMessage", f'{{"chat_id":{subject.chat},"text":"half \\ud83d"}}'
    async with subject.http.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
        assert (reply.status, (await reply.json())["description"]) == refused("strings must be encoded in UTF-8")


async def test_a_text_is_trimmed_and_cleaned(subject: Subject) -> None:
    """Server: blank ends go, control characters become spaces, carriage returns and overrides vanish."""
    assert (await subject.send("  a\tb\r\nc\u202e \n"))["text"] == "a b\nc"

"""Rich messages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.callers import NOT_MODIFIED, Subject


@pytest.mark.parametrize(
    "rich",
    [
        {"markdown": "# Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"},
        {"html": "<h1>Title</h1><p>text</p>"},
        {"blocks": [{"type": "paragraph", "text": "text"}]},
    ],
)
async def test_a_rich_message_is_sent_in_one_of_three_forms(subject: Subject, rich: dict[str, Any]) -> None:
    """Bot API, sendRichMessage and InputRichMessage."""
    message = await subject.ok("sendRichMessage", chat_id=subject.chat, rich_message=rich)
    assert message["rich_message"]["blocks"]
    assert "text" not in message
    assert await subject.ok("sendRichMessageDraft", chat_id=subject.chat, draft_id=1, rich_message=rich) is True


@pytest.mark.parametrize(
    "rich",
    [
        {},
        {"markdown": "x", "html": "x"},
        {"markdown": "x" * 32_769},
        {"html": "<p>x"},
        {"blocks": [{"type": "paragraph", "text": "x"}] * 501},
        {"markdown": "|" + " a |" * 21 + "\n|" + " --- |" * 21},
        {"blocks": [{"type": "table", "cells": [["x"] * 21]}]},
    ],
)
async def test_a_rich_message_out_of_bounds_is_refused(subject: Subject, rich: dict[str, Any]) -> None:
    """Bot API, rich messages: one form, 32,768 characters, 500 blocks, 20 columns (wordings are not documented)."""
    assert (await subject.no("sendRichMessage", chat_id=subject.chat, rich_message=rich))[0] == 400


async def test_a_message_can_be_edited_into_a_rich_one(subject: Subject) -> None:
    """Bot API, editMessageText: rich_message instead of text."""
    place = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    rich = {"markdown": "**rich**"}
    assert (await subject.ok("editMessageText", rich_message=rich, **place))["rich_message"]
    assert await subject.no("editMessageText", rich_message=rich, **place) == (400, NOT_MODIFIED)
    assert (await subject.ok("editMessageText", text="plain again", **place))["text"] == "plain again"

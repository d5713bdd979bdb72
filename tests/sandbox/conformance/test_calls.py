"""How a call is made: tokens, method names, parameters."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.sandbox.callers import Subject


async def test_a_wrong_token_is_unauthorized(subject: Subject) -> None:
    """Server: any method with a token nobody has answers 401."""
    async with subject.http.get(f"{subject.url}/bot1:wrong/getMe") as reply:
        assert reply.status == 401
        assert await reply.json() == {"ok": False, "error_code": 401, "description": "Unauthorized"}


async def test_an_unknown_method_is_not_found(subject: Subject) -> None:
    """Server: 404 for a method that does not exist."""
    code, description = await subject.no("sendTelepathy")
    assert code == 404
    assert description.startswith("Not Found")


@pytest.mark.parametrize("name", ["getMe", "getme", "GETME"])
async def test_method_names_come_in_any_case(subject: Subject, name: str) -> None:
    """Bot API, making requests: all methods are case-insensitive."""
    assert (await subject.ok(name))["is_bot"] is True


async def test_parameters_come_by_query_form_multipart_and_json(subject: Subject) -> None:
    """Bot API, making requests: four ways of passing parameters."""
    url, values = f"{subject.url}/bot{subject.token}/sendMessage", {"chat_id": str(subject.chat), "text": "four ways ü"}
    form = aiohttp.FormData()
    for name, value in values.items():
        form.add_field(name, value, content_type="text/plain")
    ways: list[dict[str, Any]] = [{"params": values}, {"data": values}, {"data": form}, {"json": values}]
    for way in ways:
        async with subject.http.post(url, **way) as reply:
            assert (await reply.json())["result"]["text"] == "four ways ü", way
    async with subject.http.get(url, params=values) as reply:
        assert reply.status == 200


async def test_nested_objects_may_come_as_json_text(subject: Subject) -> None:
    """Bot API, sendMessage: reply_markup is a JSON-serialized object."""
    url = f"{subject.url}/bot{subject.token}/sendMessage"
    values = {
        "chat_id": str(subject.chat),
        "text": "x",
        "reply_markup": '{"inline_keyboard":[[{"text":"a","url":"https://example.org"}]]}',
    }
    async with subject.http.post(url, data=values) as reply:
        body = await reply.json()
    assert body["result"]["reply_markup"]["inline_keyboard"][0][0]["text"] == "a"


async def test_get_me_describes_a_bot(subject: Subject) -> None:
    """Bot API, getMe: a User with the fields that only getMe returns."""
    me = await subject.ok("getMe")
    assert {"id", "is_bot", "first_name", "username", "can_join_groups", "supports_inline_queries"} <= me.keys()

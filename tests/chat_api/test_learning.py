"""What an endpoint learns of its server from refusals, and what is known of some from the start."""

import asyncio

import pytest

from bot.chat_api.profile import Profile, profile_of
from bot.errors import (
    ChatApiRefusedError,
)
from bot.sandbox import ChatApiServer
from tests.chat_api.conftest import Opens, answers, attempt


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", ["stream_options", "max_tokens", "temperature"])
async def test_a_field_that_is_refused_is_left_out_and_remembered(
    server: ChatApiServer, opened: Opens, name: str, status: int
) -> None:
    """Asked again without it at once; the next question is one request."""
    server.behaviour = answers("fine", refused_fields={name: status})
    endpoint = await opened(server, temperature=0.5)
    assert (await attempt(endpoint, "hello"))[0].text == "fine"
    assert len(server.requests) == 2
    assert (await attempt(endpoint, "again"))[0].text == "fine"
    assert len(server.requests) == 3
    assert name not in server.requests[-1].body
    assert ("max_completion_tokens" in server.requests[-1].body) == (name == "max_tokens")


async def test_all_that_a_narrow_server_refuses_is_learned(server: ChatApiServer, opened: Opens) -> None:
    """One after the other, with the prompt's role."""
    names = {"stream_options": 422, "max_tokens": 400, "max_completion_tokens": 400, "temperature": 422}
    server.behaviour = answers("fine", refused_fields=names, refused_roles=frozenset({"system"}))
    endpoint = await opened(server, temperature=0.5)
    assert (await attempt(endpoint, "hello"))[0].text == "fine"
    before = len(server.requests)
    assert (await attempt(endpoint, "again"))[0].text == "fine"
    assert len(server.requests) == before + 1
    assert server.requests[-1].messages[0]["role"] == "developer"


async def test_of_two_fields_that_are_named_the_one_that_was_sent_is_meant(
    server: ChatApiServer, opened: Opens
) -> None:
    """The other one is advice, and taken."""
    server.behaviour = answers("fine")
    text = "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead."
    server.faults.add(kind="400", text=text, count=1)
    endpoint = await opened(server)
    assert (await attempt(endpoint, "hello"))[0].text == "fine"
    assert server.requests[-1].body["max_completion_tokens"] == 1000
    assert len(server.requests) == 2


async def test_a_prompt_that_no_role_takes_goes_with_the_question(server: ChatApiServer, opened: Opens) -> None:
    """Some models know users only."""
    server.behaviour = answers("fine", refused_roles=frozenset({"system", "developer"}))
    endpoint = await opened(server)
    assert (await attempt(endpoint, "hello"))[0].text == "fine"
    assert server.requests[-1].messages == [{"role": "user", "content": "the prompt\n\nhello"}]


async def test_questions_at_once_learn_together(server: ChatApiServer, opened: Opens) -> None:
    """The first ones of many customers are refused before anything is learned: all are answered, and no field is
    given up but the one."""
    server.behaviour = answers("fine", refused_fields={"stream_options": 400})
    endpoint = await opened(server)
    found = await asyncio.gather(*(attempt(endpoint, f"hello {number}") for number in range(30)))
    assert {answer.text for answer, _ in found} == {"fine"}
    await attempt(endpoint, "again")
    assert "max_tokens" in server.requests[-1].body


async def test_one_refused_question_does_not_strip_the_next_ones(server: ChatApiServer, opened: Opens) -> None:
    """Where sending less did not help, it was not for the fields."""
    server.behaviour = answers("fine")
    server.faults.add(kind="400", count=2)
    endpoint = await opened(server)
    with pytest.raises(ChatApiRefusedError):
        await attempt(endpoint, "hello")
    assert (await attempt(endpoint, "again"))[0].text == "fine"
    assert {"stream_options", "max_tokens"} <= server.requests[-1].body.keys()


async def test_a_refusal_without_a_reason_is_tried_once_with_less(server: ChatApiServer, opened: Opens) -> None:
    """A server that says nothing of what it does not take."""
    server.behaviour = answers("fine")
    server.faults.add(kind="422", count=1)
    endpoint = await opened(server)
    assert (await attempt(endpoint, "hello"))[0].text == "fine"
    assert "stream_options" not in server.requests[-1].body
    server.faults.clear()
    server.faults.add(kind="400")
    with pytest.raises(ChatApiRefusedError):
        await attempt(endpoint, "again")
    assert len(server.requests) == 3


def test_what_is_known_of_a_server_is_its_own() -> None:
    """By the end of the host's name; no two endpoints share what they learn."""
    first, second = profile_of("https://api.mistral.ai/v1"), profile_of("https://api.mistral.ai/v1")
    first.learn("temperature")
    assert second.dropped == {"stream_options"}
    assert profile_of("https://x.openai.azure.com/openai/v1").limit == "max_completion_tokens"
    assert profile_of("https://notopenai.azure.com.example.com/v1") == Profile()


def test_learning_ends() -> None:
    """Whatever a server says it does not take, there is a last lesson."""
    profile = Profile()
    for name in ("role", "max_tokens", "temperature", "max_completion_tokens", "system"):
        assert profile.learn(name)
    for name in ("role", "max_tokens", "temperature", "max_completion_tokens", "user"):
        assert not profile.learn(name)

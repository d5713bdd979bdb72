"""What a provider keeps: its id is noted before the answer goes on, and all of it is removed."""

import asyncio

import pytest

from bot.chat_api.asking import Answer, Remote
from bot.errors import (
    ChatApiError,
    ChatApiRefusedError,
    Reason,
)
from bot.sandbox import ChatApiServer, ChatBehaviour
from tests.chat_api.conftest import Asking, Opens, answers, attempt, told


@pytest.mark.parametrize(
    ("dialect", "field", "kind"),
    [("responses", "", "response"), ("responses", "conversation", "conversation"), ("dify", "", "conversation"),
     ("completions", "conversation_id", "conversation")],
)  # fmt: skip
async def test_an_id_is_kept_before_the_answer_goes_on(
    server: ChatApiServer, opened: Opens, dialect: str, field: str, kind: str
) -> None:
    """Nothing is shown before it is written down, and the next question passes it with the news alone."""
    server.behaviour = answers("one two three", conversation_field=field if dialect == "completions" else "")
    endpoint, asking, answer, order = await opened(server, dialect, field=field), Asking(), Answer(), []
    ask = asking.ask("first")

    async def keep(remote: Remote) -> None:
        await asyncio.sleep(0)
        order.append(remote.id)

    ask = type(ask)(ask.messages, [], None, ask.user, keep)
    await endpoint.attempt(ask, answer, lambda text: order.append("shown"))
    assert answer.remote is not None
    assert answer.remote.id in order[: order.index("shown")]
    assert (answer.remote.endpoint, answer.remote.kind) == (endpoint.mark, kind)
    assert server.requests[0].conversation in {"", answer.remote.id if field == "conversation" else ""}
    server.behaviour = ChatBehaviour(answer=told, conversation_field=server.behaviour.conversation_field)
    second, _ = await attempt(endpoint, "first", "one two three", "second", remote=answer.remote)
    assert second.text == "first | one two three | second"
    assert server.requests[-1].conversation == answer.remote.id
    if dialect != "completions":
        assert [message["content"] for message in server.requests[-1].messages if message["role"] != "system"] == [
            "second"
        ]


@pytest.mark.parametrize("dialect", ["responses", "dify"])
async def test_an_answer_waits_for_its_id_to_be_kept(server: ChatApiServer, opened: Opens, dialect: str) -> None:
    """Where that fails, nothing more of the answer is taken."""
    server.behaviour = answers("one two three", chunk_seconds=0.01)
    endpoint, shown = await opened(server, dialect), list[str]()
    ask = Asking().ask("first")

    async def fails(_: Remote) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await endpoint.attempt(type(ask)(ask.messages, [], None, "u", fails), Answer(), shown.append)
    assert shown == []


async def test_removing_a_conversation_pages_its_items_first(server: ChatApiServer, opened: Opens) -> None:
    """Deleting a conversation leaves its items, so they go before it, over several pages."""
    endpoint = await opened(server, "responses", field="conversation")
    server.behaviour = answers("fine")
    answer, _ = await attempt(endpoint, "hello")
    assert answer.remote is not None
    server.kept.add_items(answer.remote.id, [{"role": "user", "content": str(n)} for n in range(230)])
    assert await endpoint.remove(answer.remote, "someone") is True
    assert (server.kept.conversations, server.kept.items) == ({}, {})
    order = [call.method for call in server.calls if call.path.startswith("/conversations/")]
    assert order[-1] == "DELETE"
    assert order.count("GET") == 4
    assert await endpoint.remove(answer.remote, "someone") is True  # gone is gone


@pytest.mark.parametrize("dialect", ["responses", "dify"])
async def test_removing_is_tried_again_until_it_is_confirmed(
    server: ChatApiServer, opened: Opens, dialect: str
) -> None:
    """A failure raises; what is not there any more is deleted; who cannot delete says so."""
    endpoint = await opened(server, dialect)
    server.behaviour = answers("fine")
    answer, _ = await attempt(endpoint, "hello")
    assert answer.remote is not None
    server.faults.add(kind="500", path="/", method="DELETE", count=1)
    with pytest.raises(ChatApiError):
        await endpoint.remove(answer.remote, "someone")
    assert await endpoint.remove(answer.remote, "someone") is True
    assert (server.kept.responses, server.kept.dify) == ({}, {})
    assert await endpoint.remove(answer.remote, "someone") is True
    server.faults.add(kind="400", status=405, path="/", method="DELETE")
    assert await endpoint.remove(answer.remote, "someone") is False


async def test_a_provider_without_conversations_is_spoken_to_without(server: ChatApiServer, opened: Opens) -> None:
    """Each answer continues the last one instead, and it is asked for a conversation only once."""
    server.faults.add(kind="404", path="/conversations")
    server.behaviour = answers("fine")
    endpoint = await opened(server, "responses", field="conversation")
    answer, _ = await attempt(endpoint, "hello")
    assert answer.remote is not None
    assert answer.remote.kind == "response"
    await attempt(endpoint, "hello", "fine", "again", remote=answer.remote)
    await attempt(endpoint, "anew")
    assert [call.path for call in server.calls] == ["/conversations"]


@pytest.mark.parametrize("kind", ["400", "404"])
async def test_a_refusal_while_something_is_held_may_mean_that_it_is_lost(
    server: ChatApiServer, opened: Opens, kind: str
) -> None:
    """Not every server words it as the documented ones do."""
    server.behaviour = answers("fine")
    endpoint = await opened(server, "responses")
    answer, _ = await attempt(endpoint, "hello")
    server.faults.add(kind=kind, text="no idea what this is about")  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises(ChatApiRefusedError) as refused:
        await attempt(endpoint, "hello", "fine", "again", remote=answer.remote)
    assert refused.value.reason is Reason.STATE
    with pytest.raises(ChatApiRefusedError) as refused:
        await attempt(endpoint, "hello")
    assert refused.value.reason is not Reason.STATE

"""Ending an answer that is being written."""

import time
from collections.abc import Callable

import pytest

from bot import texts
from tests.flows.conftest import QUICK, STORY, Service, World, until


def cancelled(world: World, marker: str) -> bool:
    """Whether the chat API saw its caller leave."""
    return world.asked(marker)[0].aborted


@pytest.mark.parametrize("by", ["button", "command"])
async def test_stop_ends_the_answer_and_keeps_what_was_shown(world: World, by: str) -> None:
    """The request is cancelled, the beginning stays, marked, and the model is told it later."""
    customer = world.customer()
    world.streams()
    customer.writes("alpha tell")
    await customer.draft()
    if by == "button":
        world.telegram.customer_stops(customer.chat_id)
    else:
        customer.writes("/stop")
    [said] = await customer.sees(1, 5)
    kept = said.removesuffix(f"\n\n{texts.STOPPED_MARK}")
    assert said != kept
    assert STORY.startswith(kept)
    await until(lambda: cancelled(world, "alpha tell"), "the request ends")
    world.at_ease()
    await customer.asks("alpha next")
    assert [m["content"] for m in world.asked("alpha next")[0].messages[1:]] == ["alpha tell", kept, "alpha next"]
    assert len(customer.texts) == 2


async def test_stop_before_the_first_word_answers_the_question_with_a_sentence(world: World) -> None:
    """The question is covered, and not asked again."""
    customer = world.customer()
    world.slow(15)
    customer.writes("bravo slow")
    await world.is_asked("bravo slow")
    customer.writes("/stop")
    assert await customer.sees(1, 5) == [texts.STOPPED]
    world.at_ease()
    await customer.asks("bravo next")
    assert [m["content"] for m in world.asked("bravo next")[0].messages[1:]] == ["bravo next"]


async def test_stop_ends_the_answer_also_over_other_mail(world: World) -> None:
    """A photo lies between the question and the stop: the question is not asked again for it."""
    customer = world.customer()
    world.slow(15)
    customer.writes("bravo behind")
    await world.is_asked("bravo behind")
    customer.writes(None, extra={"photo": []})
    customer.writes("/stop")
    assert await customer.sees(2, 5) == [texts.STOPPED, texts.ONLY_TEXT]
    assert len(world.asked("bravo behind")) == 1


async def test_stop_in_one_topic_leaves_the_others_alone(world: World) -> None:
    """In a forum each topic is a conversation of its own."""
    group, (first, second) = world.forum("one", "two")
    world.slow(1.5)
    group.writes("bravo topic", thread_id=first)
    await world.is_asked("bravo topic")
    group.writes("/stop", thread_id=second)
    assert await group.sees(2) == ["Answer to: bravo topic", texts.NOTHING_TO_STOP]
    assert [message.thread_id for message in group.shown if message.text] == [first, second]


async def test_stop_after_the_end_gets_a_sentence(world: World) -> None:
    """By command or by a button that came too late: no error, nothing lost."""
    customer = world.customer()
    await customer.asks("charlie")
    assert await customer.asks("/stop") == texts.NOTHING_TO_STOP
    chat = {"id": customer.chat_id, "type": "private", "first_name": "A"}
    world.telegram.push_update({"stopped_message_generation": {"chat": chat, "draft_id": 1}})
    assert (await customer.sees(3))[-1] == texts.NOTHING_TO_STOP
    assert await customer.asks("charlie next") == "Answer to: charlie next"


async def test_a_stop_pressed_late_does_not_hit_the_next_answer(world: World) -> None:
    """Telegram's button means one draft."""
    customer = world.customer()
    world.streams(0.003)
    customer.writes("delta one")
    await customer.draft()
    draft = world.telegram.world().draft(customer.chat_id)
    assert draft is not None
    await customer.sees(1)
    customer.writes("delta two")
    await world.is_asked("delta two")
    chat = {"id": customer.chat_id, "type": "private", "first_name": "A"}
    world.telegram.push_update({"stopped_message_generation": {"chat": chat, "draft_id": draft.draft_id}})
    await until(lambda: len(customer.texts) >= 2 and customer.texts[1] == STORY, "the whole second answer")


async def test_stop_reaches_a_turn_in_another_process(
    own_world: World, start_service: Callable[..., Service], store_address: str
) -> None:
    """Ingress and worker are two processes here; how long it takes is in the bench."""
    own_world.streams()
    for role in ("ingress", "worker"):
        start_service("run", "--only", role, times=QUICK, REDIS_URL=store_address).spawn()
    customer = own_world.customer()
    customer.writes("echo tell")
    await customer.draft()
    pressed = time.monotonic()
    own_world.telegram.customer_stops(customer.chat_id)
    await until(lambda: cancelled(own_world, "echo tell"), "the request ends", 5)
    assert time.monotonic() - pressed < 2
    await customer.sees(1, 5)

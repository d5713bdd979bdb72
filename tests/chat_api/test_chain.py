"""Several endpoints in a row, and tries again: one whole answer wherever one can be had, or the one error that fits."""

import asyncio
from typing import Any

import pytest

from bot.chat_api.asking import CUT, Answer
from bot.chat_api.client import ChatApi
from bot.chat_api.endpoint import Limits
from bot.errors import ChatApiDownError, ChatApiEmptyError, ChatApiError, ChatApiRefusedError, Reason
from bot.sandbox import ChatApiServer, ChatBehaviour
from bot.sandbox.chat_faults import AFTER_TEXT, BEFORE_TEXT, ChatKind, plays
from tests.chat_api.conftest import DIALECTS, Asking, Opens, answers, chained, told, until

LONG = " ".join(f"word{number}" for number in range(100))
TELLS = ChatBehaviour(answer=told)
BRIEF = Limits(connect=1.0, first=1.0, gap=0.5, total=3.0)
DEFINITE = {"400", "422", "content_filter", "413", "context"}
NO_FAULT = {"length", "filter_midway", "endless", "huge"}
OURS = {"401", "402", "403", "404", "404_model", "quota"}


async def asked(chat_api: ChatApi, *said: str, **more: Any) -> tuple[Answer, Asking]:
    asking = Asking()
    return await chat_api.ask(asking.ask(*said, **more), asking.shown.append), asking


def cases(kinds: set[str]) -> list[tuple[str, str]]:
    return [(dialect, kind) for dialect in DIALECTS for kind in sorted(kinds) if plays(kind, dialect)]


@pytest.mark.parametrize(("dialect", "kind"), cases({*BEFORE_TEXT, *AFTER_TEXT} - DEFINITE - NO_FAULT - OURS))
async def test_a_fault_that_passes_is_asked_over(
    server: ChatApiServer, opened: Opens, dialect: str, kind: ChatKind
) -> None:
    """Before the first text or after it: the answer is the whole one, and what is shown never shrinks."""
    server.behaviour = answers(LONG, chunk_seconds=0.0005)
    server.faults.add(kind=kind, count=1, seconds=0.05, after=30)
    answer, asking = await asked(chained(await opened(server, dialect, limits=BRIEF)), "hello")
    assert (answer.text, answer.finish) == (LONG, "")
    assert len(server.requests) == (1 if kind == "slow_headers" else 2)
    assert [len(shown) for shown in asking.shown] == sorted(len(shown) for shown in asking.shown)


@pytest.mark.parametrize(("dialect", "kind"), cases({*BEFORE_TEXT, *AFTER_TEXT} - NO_FAULT - {"context", "413"}))
async def test_a_fault_that_lasts_ends_in_one_error_in_time(
    server: ChatApiServer, opened: Opens, dialect: str, kind: ChatKind
) -> None:
    """Down where the question may wait, else what is wrong with it; after few requests."""
    server.behaviour = answers("too short to be shown unfinished")
    server.faults.add(kind=kind, seconds=30 if kind in {"hang", "stall", "slow_headers"} else 0.01)
    with pytest.raises(ChatApiError) as failed:
        await asyncio.wait_for(asked(chained(await opened(server, dialect, limits=BRIEF), total=4.0), "hello"), 8)
    if kind in DEFINITE:
        assert isinstance(failed.value, ChatApiRefusedError)
        wanted = Reason.CONTENT if kind == "content_filter" else Reason.REQUEST
        assert failed.value.reason is wanted
    elif kind in {"empty", "blank", "loop", "no_choices"}:
        assert isinstance(failed.value, ChatApiEmptyError)
    else:
        assert isinstance(failed.value, ChatApiDownError)
        assert (failed.value.reason is not None) == (kind in OURS)
    assert len(server.requests) <= 4


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["context", "413"])
async def test_too_much_is_told_at_once(server: ChatApiServer, opened: Opens, dialect: str, kind: ChatKind) -> None:
    """Whoever asked can ask with less."""
    server.faults.add(kind=kind)
    with pytest.raises(ChatApiRefusedError) as failed:
        await asked(chained(await opened(server, dialect)), "hello")
    assert failed.value.reason is Reason.SIZE
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["cut", "stall", "error_midway", "garbage_midway"])
async def test_an_answer_that_fails_each_time_is_shown_as_far_as_it_came(
    server: ChatApiServer, opened: Opens, kind: ChatKind
) -> None:
    """Where enough of it came to be better than none."""
    server.behaviour = answers(LONG, chunk_seconds=0.001)
    server.faults.add(kind=kind, after=50, seconds=30)
    answer, asking = await asked(chained(await opened(server, limits=BRIEF)), "hello")
    assert (answer.text.strip(), answer.finish) == (" ".join(LONG.split()[:50]), CUT)
    assert answer.remote is None
    assert asking.shown[-1].strip() == answer.text.strip()


async def test_the_whole_has_a_deadline(server: ChatApiServer, opened: Opens) -> None:
    """Of all tries together; what came until then is shown where it is enough."""
    server.behaviour = answers(" ".join(["word"] * 50 + [f"w{n}" for n in range(5000)]), chunk_seconds=0.01)
    answer, _ = await asked(chained(await opened(server), total=1.5), "hello")
    assert answer.finish == CUT
    assert len(answer.text) >= 200
    server.behaviour = answers("a b c d e f", chunk_seconds=1.0)
    with pytest.raises(ChatApiDownError):
        await asked(chained(await opened(server), total=1.0), "hello")


@pytest.mark.parametrize("kind", ["503", "401", "quota", "drop", "garbage", "cut", "stall", "hang", "empty", "loop"])
@pytest.mark.parametrize("other", DIALECTS)
async def test_the_next_one_answers_with_the_whole_context(
    server: ChatApiServer, fallback: ChatApiServer, opened: Opens, kind: ChatKind, other: str
) -> None:
    """Also where the first one keeps the conversation, and so was told only the news."""
    main, second = await opened(server, "responses", limits=BRIEF), await opened(fallback, other)
    server.behaviour = fallback.behaviour = TELLS
    chat_api = chained(main, second)
    first, _ = await asked(chat_api, "one")
    assert first.endpoint in {"", main.mark}
    server.faults.add(kind=kind, seconds=0.05)
    answer, _ = await asked(chat_api, "one", "one", "two", remote=first.remote)
    assert answer.text.endswith("two")
    assert "one" in answer.text
    assert fallback.requests[-1].conversation == ""
    server.faults.clear()


async def test_the_first_one_answers_again_when_it_is_back(
    server: ChatApiServer, fallback: ChatApiServer, opened: Opens
) -> None:
    """After its pause, and with what it missed; until then it is not asked."""
    main, second = await opened(server, "responses", pause=0.3), await opened(fallback)
    server.behaviour = fallback.behaviour = TELLS
    chat_api = chained(main, second)
    first, _ = await asked(chat_api, "one")
    server.faults.add(kind="401")
    await asked(chat_api, "one", "one", "two", remote=first.remote)
    before = len(server.requests)
    await asked(chat_api, "one", "one", "two", "two", "three", remote=first.remote)
    assert len(server.requests) == before
    server.faults.clear()
    await _until_worth(chat_api)
    said = ("one", "one", "two", "t", "three", "t", "four")
    answer, _ = await asked(chat_api, *said, remote=first.remote, news=5)
    assert answer.text == " | ".join(said)
    assert [message["content"] for message in server.requests[-1].messages[1:]] == ["two", "t", "three", "t", "four"]


async def test_what_a_provider_lost_is_healed(server: ChatApiServer, opened: Opens) -> None:
    """By our own history; the customer's question is asked once more and no more."""
    for dialect in ("responses", "dify"):
        chat_api = chained(await opened(server, dialect))
        server.behaviour = TELLS
        first, _ = await asked(chat_api, "one")
        server.kept.responses.clear()
        server.kept.dify.clear()
        before = len(server.requests)
        answer, asking = await asked(chat_api, "one", "one", "two", remote=first.remote)
        assert answer.text.endswith("two")
        assert "one" in answer.text
        assert len(server.requests) == before + 2
        assert answer.remote is not None
        assert answer.remote != first.remote
        assert asking.kept == [answer.remote]


@pytest.mark.parametrize("kind", ["loop", "blank", "garbage_midway", "error_midway"])
async def test_a_conversation_that_went_astray_is_left(server: ChatApiServer, opened: Opens, kind: ChatKind) -> None:
    """Dify keeps answers that nobody was shown: it is told our own history anew, in another conversation."""
    chat_api = chained(await opened(server, "dify"))
    server.behaviour = TELLS
    first, _ = await asked(chat_api, "one")
    server.faults.add(kind=kind, count=1)
    answer, _ = await asked(chat_api, "one", "one", "two", remote=first.remote)
    assert answer.text.count("two") == 1
    assert answer.text.endswith("two")
    assert answer.remote is not None
    assert answer.remote != first.remote
    again, _ = await asked(chat_api, "one", "one", "two", "two", "three", remote=answer.remote)
    assert server.requests[-1].conversation == answer.remote.id
    assert again.text.endswith(" | three")


async def test_a_conversation_left_in_mid_answer_is_not_gone_on_with(server: ChatApiServer, opened: Opens) -> None:
    """Whoever stopped the answer saw less of it than the provider may keep."""
    chat_api = chained(await opened(server, "dify"))
    server.behaviour = TELLS
    first, _ = await asked(chat_api, "one")
    server.behaviour = answers(LONG, chunk_seconds=0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked(chat_api, "one", "one", "two", remote=first.remote), 0.3)
    server.behaviour = TELLS
    await asked(chat_api, "one", "one", "two", "word0", "three", remote=first.remote, news=3)
    assert server.requests[-1].conversation == ""
    assert "word0" in server.requests[-1].messages[0]["content"]


async def test_a_refused_question_goes_to_no_other_where_it_would_be_refused_too(
    server: ChatApiServer, fallback: ChatApiServer, opened: Opens
) -> None:
    """A filter decides for good, a plain refusal may be the one server's own."""
    chat_api = chained(await opened(server), await opened(fallback))
    fallback.behaviour = answers("fine")
    server.faults.add(kind="content_filter", count=1)
    with pytest.raises(ChatApiRefusedError) as failed:
        await asked(chat_api, "hello")
    assert failed.value.reason is Reason.CONTENT
    assert fallback.requests == []
    server.faults.add(kind="400")
    assert (await asked(chat_api, "hello"))[0].text == "fine"
    assert chat_api.down_seconds() == 0.0


async def test_all_down_is_one_error_and_soon_no_requests(
    server: ChatApiServer, fallback: ChatApiServer, opened: Opens
) -> None:
    """It says when a try makes sense, and whose fault it is where that is known."""
    chat_api = chained(await opened(server, pause=30), await opened(fallback, pause=30))
    server.faults.add(kind="503", seconds=0.01)
    fallback.faults.add(kind="401")
    for _ in range(3):
        with pytest.raises(ChatApiDownError) as failed:
            await chat_api.ask(Asking().ask("hello"), lambda _: None, patient=False)
    assert len(server.requests) <= 6
    assert len(fallback.requests) == 1
    with pytest.raises(ChatApiDownError) as failed:
        await chat_api.ask(Asking().ask("hello"), lambda _: None, patient=False)
    assert failed.value.seconds > 10
    assert chat_api.down_seconds() > 0


async def test_a_patient_question_waits_for_the_next_try(server: ChatApiServer, opened: Opens) -> None:
    """A short pause of the breaker is no reason to tell anybody that the service is down."""
    chat_api = chained(await opened(server, pause=0.2))
    server.behaviour = answers("fine")
    server.faults.add(kind="401", count=1)
    with pytest.raises(ChatApiDownError):
        await asked(chat_api, "hello")
    assert (await asked(chat_api, "again"))[0].text == "fine"


async def test_one_question_at_a_time_tries_one_that_is_down(server: ChatApiServer, opened: Opens) -> None:
    """Of many that wait."""
    chat_api = chained(await opened(server, pause=0.1))
    server.behaviour = answers("fine", first_delay_seconds=0.1)
    server.faults.add(kind="401", count=1)
    with pytest.raises(ChatApiDownError):
        await asked(chat_api, "hello")
    await _until_worth(chat_api)
    asking = [chat_api.ask(Asking().ask(f"again {n}"), lambda _: None, patient=False) for n in range(20)]
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in found].count(Answer) == 1
    assert [type(one) for one in found].count(ChatApiDownError) == 19
    assert len(server.requests) == 2


async def test_a_question_that_is_called_away_does_not_hold_the_try(server: ChatApiServer, opened: Opens) -> None:
    """Cancelled in the middle of trying an endpoint that was down: the next question may try it."""
    chat_api = chained(await opened(server, pause=0.05))
    server.faults.add(kind="401", count=1)
    with pytest.raises(ChatApiDownError):
        await asked(chat_api, "hello")
    server.behaviour = answers("fine", first_delay_seconds=5)
    await _until_worth(chat_api)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked(chat_api, "again"), 0.3)
    server.behaviour = answers("fine")
    answer, _ = await asked(chat_api, "and again")
    assert answer.text == "fine"


@pytest.mark.parametrize("kind", ["429", "429_ms", "503"])
async def test_a_named_time_is_waited_for(server: ChatApiServer, opened: Opens, kind: ChatKind) -> None:
    """Neither sooner, nor in vain where it is far away."""
    server.behaviour = answers("fine")
    server.faults.add(kind=kind, count=1, seconds=0.3)
    chat_api = chained(await opened(server))
    assert (await asked(chat_api, "hello"))[0].text == "fine"
    first, second = server.requests
    assert second.t - first.t >= 0.29
    server.faults.add(kind=kind, seconds=600)
    with pytest.raises(ChatApiDownError) as failed:
        await asyncio.wait_for(asked(chat_api, "hello"), 5)
    assert failed.value.seconds == 600
    assert len(server.requests) == 3


async def _until_worth(chat_api: ChatApi) -> None:
    await until(lambda: not any(endpoint.breaker.pause() for endpoint in chat_api.endpoints))

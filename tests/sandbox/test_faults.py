"""Faults and flood control as a caller meets them, and what they leave behind."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from bot.sandbox import FaultPlan, FloodLimits, TelegramServer
from bot.sandbox.flood import FloodGate
from bot.sandbox.refusal import RefusedError
from tests.sandbox.callers import CHAT, Subject, until


def sent(server: TelegramServer) -> list[str | None]:
    return [message.text for message in server.messages(CHAT) if message.from_bot]


@pytest.mark.parametrize("kind", ["500", "502", "503", "504", "400", "401", "403"])
async def test_a_refusing_fault_does_nothing(api: Subject, server: TelegramServer, kind: str) -> None:
    """The status as told, JSON in the server's shape, nothing sent; the next call passes."""
    server.faults.add(method="sendMessage", kind=kind, count=1)  # type: ignore[arg-type]  # one of the kinds
    code, _ = await api.no("sendMessage", chat_id=CHAT, text="x")
    assert code == int(kind)
    assert sent(server) == []
    await api.send("y")
    assert sent(server) == ["y"]


async def test_a_proxys_error_page_is_no_json(api: Subject, server: TelegramServer) -> None:
    """Telegram's front end answers 502 with HTML at times."""
    server.faults.add(kind="502", html=True)
    async with api.http.post(f"{api.url}/bot{api.token}/getMe") as reply:
        assert (reply.status, reply.content_type) == (502, "text/html")


async def test_429_names_the_seconds_to_wait(api: Subject, server: TelegramServer) -> None:
    """Bot API, ResponseParameters retry_after; also as a header."""
    server.faults.add(method="sendMessage", kind="429", seconds=7)
    async with api.http.post(f"{api.url}/bot{api.token}/sendMessage", json={"chat_id": CHAT, "text": "x"}) as reply:
        body = await reply.json()
        assert reply.headers["Retry-After"] == "7"
    assert (body["error_code"], body["parameters"]) == (429, {"retry_after": 7})
    assert body["description"] == "Too Many Requests: retry after 7"


@pytest.mark.parametrize(("kind", "left"), [("drop", []), ("accept_then_cut", ["x"])])
async def test_a_cut_connection_with_and_without_effect(
    api: Subject, server: TelegramServer, kind: str, left: list[str]
) -> None:
    """`drop` cuts before anything is done, `accept_then_cut` after it: a caller cannot tell them apart."""
    server.faults.add(method="sendMessage", kind=kind, count=1)  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.call("sendMessage", chat_id=CHAT, text="x")
    assert sent(server) == left
    assert server.calls[-1].fault == kind
    assert server.calls[-1].status == (200 if left else 0)


@pytest.mark.parametrize("hold", [False, True])
async def test_a_late_call_is_accepted_after_the_caller_gave_up(
    api: Subject, server: TelegramServer, *, hold: bool
) -> None:
    """Cut at once or silent: the message appears only later, whatever the caller did in between."""
    server.faults.add(method="sendMessage", kind="late", seconds=0.5, count=1, hold=hold)
    call = asyncio.create_task(api.call("sendMessage", chat_id=CHAT, text="late"))
    await until(lambda: server.calls)
    if hold:
        call.cancel()
    with pytest.raises((aiohttp.ClientConnectionError, asyncio.CancelledError)):
        await call
    assert sent(server) == []
    await until(lambda: sent(server) == ["late"])
    assert server.messages(CHAT)[-1].t - server.calls[-1].t >= 0.5
    assert server.calls[-1].message_id == server.messages(CHAT)[-1].message_id


async def test_a_slow_call_is_done_at_once_and_answered_later(api: Subject, server: TelegramServer) -> None:
    """The reply still carries the id."""
    server.faults.add(method="sendMessage", kind="slow", seconds=0.2, count=1)
    call = asyncio.create_task(api.send("slow"))
    await until(lambda: sent(server) == ["slow"])
    assert not call.done()
    assert (await call)["message_id"] == server.messages(CHAT)[-1].message_id


async def test_a_hanging_call_is_never_done(api: Subject, server: TelegramServer) -> None:
    """No answer, then the connection ends."""
    server.faults.add(method="sendMessage", kind="hang", seconds=0.1, count=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.call("sendMessage", chat_id=CHAT, text="x")
    assert sent(server) == []


async def test_a_star_leaves_polling_alone(api: Subject, server: TelegramServer) -> None:
    """A fault of getUpdates has to be named."""
    server.faults.add(kind="500")
    assert await api.ok("getUpdates") == []
    server.faults.add(method="getUpdates", kind="502")
    assert (await api.no("getUpdates"))[0] == 502


async def test_a_fault_may_be_aimed_at_one_chat(api: Subject, server: TelegramServer) -> None:
    """Other chats go on."""
    server.add_chat(2002)
    server.faults.add(kind="500", chat_id=2002)
    await api.send("fine")
    assert (await api.no("sendMessage", chat_id=2002, text="x"))[0] == 500


def test_the_same_seed_draws_the_same_faults() -> None:
    """A run can be repeated from its seed."""
    runs = []
    for _ in range(2):
        plan = FaultPlan()
        plan.seed(42)
        plan.chaos(p=0.5, longest_seconds=2)
        faults = [plan.pick("sendMessage", CHAT) for _ in range(200)]
        runs.append([(fault.kind, plan.pause(fault)) for fault in faults if fault])
    assert runs[0] == runs[1]
    assert 60 < len(runs[0]) < 140
    assert {"late", "drop", "accept_then_cut"} <= {kind for kind, _ in runs[0]}
    assert all(0 <= seconds <= 2 for _, seconds in runs[0])


def test_an_unknown_fault_is_refused() -> None:
    """A typing error must not silently be no fault."""
    with pytest.raises(ValueError, match="unknown fault"):
        FaultPlan().add(kind="explode")  # type: ignore[arg-type]


# --- flood control ----------------------------------------------------------------------------------------
class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tries(gate: FloodGate, method: str, chat_id: int, times: int) -> list[int]:
    """0 for each call let through, else its retry_after."""
    waits = []
    for _ in range(times):
        try:
            gate.check(method, chat_id)
            waits.append(0)
        except RefusedError as refused:
            waits.append(refused.retry_after or -1)
    return waits


def test_a_chat_takes_a_burst_of_three_then_one_a_second() -> None:
    """Bot FAQ: avoid more than one message per second per chat; short bursts pass."""
    clock = Clock()
    gate = FloodGate(FloodLimits(), clock)
    assert tries(gate, "sendMessage", CHAT, 4) == [0, 0, 0, 1]
    clock.now += 1
    assert tries(gate, "editMessageText", CHAT, 2) == [0, 1]


def test_sending_on_while_shut_out_prolongs() -> None:
    """Report: calls made during the wait make it longer."""
    clock = Clock()
    gate = FloodGate(FloodLimits(), clock)
    assert tries(gate, "sendMessage", CHAT, 6) == [0, 0, 0, 1, 2, 3]
    clock.now += 2
    assert tries(gate, "sendMessage", CHAT, 1) == [2]
    clock.now += 2
    assert tries(gate, "sendMessage", CHAT, 1) == [0]


def test_a_group_takes_twenty_a_minute() -> None:
    """Bot FAQ: not more than 20 messages per minute to the same group."""
    clock = Clock()
    gate = FloodGate(FloodLimits(), clock)
    for _ in range(20):
        assert tries(gate, "sendMessage", -100, 1) == [0]
        clock.now += 1
    assert tries(gate, "sendMessage", -100, 1) == [40]
    clock.now += 40
    assert tries(gate, "sendMessage", -100, 1) == [0]


def test_all_chats_together_take_thirty_a_second() -> None:
    """Bot FAQ: about 30 messages per second in bulk."""
    clock = Clock()
    gate = FloodGate(FloodLimits(), clock)
    assert [tries(gate, "sendMessage", chat, 1)[0] for chat in range(1, 33)] == [0] * 30 + [1, 1]


def test_drafts_and_typing_share_an_allowance_of_their_own() -> None:
    """Report: about 20 per 5 s and 40 per 30 s a chat, typing included; messages are not counted with them."""
    clock = Clock()
    gate = FloodGate(FloodLimits(), clock)
    assert tries(gate, "sendMessageDraft", CHAT, 10) == [0] * 10
    assert tries(gate, "sendChatAction", CHAT, 11) == [0] * 10 + [5]
    assert tries(gate, "sendMessage", CHAT, 1) == [0]
    clock.now += 6
    assert tries(gate, "sendRichMessageDraft", CHAT, 20) == [0] * 20
    clock.now += 6
    assert tries(gate, "sendMessageDraft", CHAT, 1) == [18]


async def test_flood_control_answers_429_over_http(api: Subject, server: TelegramServer) -> None:
    """Off unless set; deletes and queries are not counted."""
    server.flood = FloodLimits()
    for _ in range(3):
        await api.send()
    status, body = await api.call("sendMessage", chat_id=CHAT, text="x")
    assert (status, body["parameters"]) == (429, {"retry_after": 1})
    assert await api.ok("getChat", chat_id=CHAT)
    server.flood = None
    await api.send()

"""The inbox on every store the code claims to support."""

import asyncio

from storage.inbox import Mail
from storage.keys import partition_of
from tests.storage.conftest import CHAT, OTHER, House


async def test_mail_is_handed_out_in_the_order_it_came(house: House) -> None:
    """Per-chat order."""
    for number in (1, 2, 3):
        assert await house.put(CHAT, number) == "ok"
    [ready] = await house.claim()
    state = await house.journal.begin(ready, 10)
    assert state is not None
    assert [mail.update_id for mail in state.mail] == [1, 2, 3]
    assert state.mail[0].sealed == b"sealed|1"


async def test_a_repeated_update_is_stored_once(house: House) -> None:
    """Delivery to the webhook is at least once: updates are told apart by their id."""
    assert [await house.put(CHAT, 1), await house.put(CHAT, 1)] == ["ok", "seen"]
    assert (await house.inbox.depth()).updates == 1


async def test_a_chat_has_one_ready_entry_however_much_mail_comes(house: House) -> None:
    """One worker at a time works on a chat."""
    await house.put(CHAT, 1)
    await house.put(CHAT, 2)
    assert len(await house.claim()) == 1
    await house.put(CHAT, 3)
    assert await house.claim() == []


async def test_two_chats_are_ready_side_by_side(house: House) -> None:
    """Chats run in parallel."""
    await house.put(CHAT, 1)
    await house.put(OTHER, 2)
    assert {ready.chat_id for ready in await house.claim()} == {CHAT, OTHER}


async def test_mail_beyond_the_cap_leaves_one_marker(house: House) -> None:
    """Back-pressure: the customer is told once, and the store does not grow."""
    answers = [await house.put(CHAT, number) for number in range(1, 7)]
    assert answers == ["ok", "ok", "ok", "full", "full", "full"]
    [ready] = await house.claim()
    state = await house.journal.begin(ready, 10)
    assert state is not None
    assert [mail.kind for mail in state.mail] == ["update", "update", "update", "over"]
    await house.journal.finish(state, take=4, marker=True)
    assert [await house.put(CHAT, number) for number in range(11, 16)] == ["ok", "ok", "ok", "full", "full"]


async def test_mail_sealed_for_a_forgotten_epoch_is_refused(house: House) -> None:
    """After a forget the old key is gone: what is sealed under it could never be read."""
    await house.store.call("HSET", house.keys.of(CHAT).chat, "epoch", 3)
    enqueued = await house.inbox.enqueue(CHAT, 0, Mail("update", 1, 1, b"old"))
    assert (enqueued.answer, enqueued.epoch) == ("epoch", 3)
    assert await house.put(CHAT, 1, epoch=3) == "ok"


async def test_an_abandoned_chat_is_claimed_by_another_worker(house: House) -> None:
    """Reclaim: a worker that renews no more has died."""
    await house.put(CHAT, 1)
    [ready] = await house.claim("one")
    await house.inbox.renew("one", [ready])
    assert await house.inbox.reclaim("two", 60_000) == []
    deadline = asyncio.get_running_loop().time() + 5
    while not (again := await house.inbox.reclaim("two", 1)):
        assert asyncio.get_running_loop().time() < deadline
    assert again == [ready]


async def test_a_parked_chat_comes_back_when_its_time_has_come_and_not_twice(house: House) -> None:
    """Of several workers' timers one wakes a chat."""
    await house.put(CHAT, 1)
    [ready] = await house.claim()
    state = await house.journal.begin(ready, 10)
    assert state is not None
    await house.journal.park(state, 60)
    assert (await house.inbox.due(0)).woken == 0
    deadline = asyncio.get_running_loop().time() + 5
    while not (woken := sum(due.woken for due in await asyncio.gather(house.inbox.due(0), house.inbox.due(0)))):
        assert asyncio.get_running_loop().time() < deadline
    assert woken == 1
    assert [entry.chat_id for entry in await house.claim()] == [CHAT]


async def test_mail_that_comes_while_a_chat_is_parked_does_not_wake_it(house: House) -> None:
    """A 429 is obeyed whatever the customer writes meanwhile."""
    await house.put(CHAT, 1)
    [ready] = await house.claim()
    state = await house.journal.begin(ready, 10)
    assert state is not None
    await house.journal.park(state, 60_000)
    await house.put(CHAT, 2)
    assert await house.claim() == []


async def test_groups_are_made_again_after_the_store_was_emptied(house: House) -> None:
    """A store that lost everything must not stop the service."""
    await house.store.client.flushall()
    assert await house.claim() == []
    await house.put(CHAT, 1)
    assert len(await house.claim()) == 1


async def test_scripts_are_loaded_again_after_the_store_forgot_them(house: House) -> None:
    """A restarted store knows no script."""
    await house.put(CHAT, 1)
    await house.store.client.script_flush()
    assert await house.put(CHAT, 2) == "ok"


async def test_update_ids_are_forgotten_after_a_day(house: House) -> None:
    """Telegram repeats an update for 24 hours; what is older only costs memory."""
    await house.put(CHAT, 1)
    seen = house.keys.of(CHAT).seen
    await house.store.call("ZADD", seen, 5, "old")
    await house.inbox.prune(3_600_000)
    assert await house.store.call("ZRANGE", seen, 0, -1) == [b"1"]


async def test_a_cancelled_call_leaves_the_connection_in_step(house: House) -> None:
    """A cancellation must not make another call read the wrong reply."""
    calls = [asyncio.create_task(house.store.call("ECHO", f"{number}")) for number in range(50)]
    await asyncio.sleep(0)
    for task in calls[::2]:
        task.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[1::2] == [b"%d" % number for number in range(1, 50, 2)]
    assert await house.store.call("ECHO", "still") == b"still"


async def test_what_is_urgent_wakes_a_parked_chat(house: House) -> None:
    """A forget does not wait for flood control; the chat is told until when everything else waits."""
    await house.put(CHAT, 1)
    state = await house.claimed()
    await house.journal.park(state, 60_000)
    await house.put(CHAT, 2)
    assert await house.claim() == []
    await house.inbox.enqueue(CHAT, 0, Mail("urgent", 3, 1, b"sealed"))
    state = await house.claimed()
    assert state.until_ms - state.now_ms > 50_000
    await house.journal.park(state, 0)
    assert (await house.claimed()).until_ms == 0


async def test_what_is_urgent_is_not_parked_with_the_chat(house: House) -> None:
    """The bug: a /forget that came after a 429 and before the chat was parked waited until flood control was over."""
    await house.put(CHAT, 1)
    state = await house.claimed()
    await house.inbox.enqueue(CHAT, 0, Mail("urgent", 2, 1, b"sealed"))
    await house.journal.park(state, 60_000)
    state = await house.claimed()
    assert state.until_ms - state.now_ms > 50_000
    await house.journal.park(state, 60_000)
    assert await house.claim() == [], "what was seen calls no second time"


async def test_one_update_may_cause_letters_to_several_chats_once_each(house: House) -> None:
    """Chats of one partition included; a letter is taken however much mail waits."""
    operators = (5_038, 5_046)
    assert partition_of(operators[0]) == partition_of(operators[1])
    letter = Mail("post", -7, 1, b"sealed")
    for answer in ("ok", "seen"):
        for operator in operators:
            assert (await house.inbox.enqueue(operator, 0, letter)).answer == answer
    for number in range(1, 5):
        await house.put(CHAT, number)
    assert (await house.inbox.enqueue(CHAT, 0, letter)).answer == "ok"

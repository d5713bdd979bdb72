"""The journal on every store the code claims to support: the rules of the delivery protocol, one by one."""

from dataclasses import replace

import pytest

from storage.history import StoredTurn, header_of, unpacked
from storage.inbox import Mail
from storage.journal import Change, Fate, Planned, StaleFenceError
from storage.marks import Marks
from tests.storage.conftest import CHAT, House


def planned(pieces: int = 1, seq: int = 1, kind: str = "answer") -> Planned:
    return Planned(b"sealed\nrecord", header_of((11,), 5), 1, pieces, kind, 0, seq, marker=False)


async def test_history_grows_by_question_and_answer_together_and_once(house: House) -> None:
    """Invariant 2: what is stored is what was visible; a repeated finish changes nothing."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned())
    for _ in range(2):
        assert await house.journal.finish(state, take=1, turn="t1", message_id=41)
    assert await house.history.read(CHAT, 0, 0, 1, 5) == [StoredTurn(1, (11,), 5, (41,), b"sealed\nrecord")]
    assert (await house.inbox.depth()).updates == 0


async def test_the_window_comes_with_the_claim_unless_it_is_long(house: House) -> None:
    """A chat seldom used costs no call more than one that is remembered."""
    for seq in (1, 2, 3):
        await house.question()
        state = await house.claimed()
        await house.journal.permit(state, f"t{seq}", 0, 40 + seq, planned(seq=seq))
        first = 2 if seq == 3 else None
        assert await house.journal.finish(state, take=1, turn=f"t{seq}", message_id=41 + seq, first=first)
    await house.question()
    for most, known in ((0, 0), (1, 0), (2, 2), (9, 2)):
        [ready] = await house.inbox.claim(house.reader, "one", 1, 50)
        window = await house.journal.begin(ready, 10, turns=most)
        assert window is not None
        assert len(window.window) == known
        if known:
            assert [turn.number for turn in unpacked(2, window.window)] == [2, 3]
        await house.journal.park(window, 0)


async def test_notes_are_replaced_only_as_they_were_read_and_not_after_a_forget(house: House) -> None:
    """A summary takes long: what was noted, corrected or deleted meanwhile stands."""
    await house.question()
    state = await house.claimed()
    assert await house.history.note(state, 0, 0, b"", b"one")
    assert await house.history.note(state, 0, 0, b"", b"one"), "may be done twice"
    assert not await house.history.note(state, 0, 0, b"", b"other")
    assert await house.history.note(state, 0, 0, b"one", b"two")
    assert not await house.history.note(state, 0, 0, b"one", b"late")
    assert await house.history.note(state, 7, 3, b"", b"elsewhere")
    assert await house.history.notes(CHAT, 0, 0) == b"two"
    assert await house.history.note(state, 0, 0, b"two", b"")
    assert await house.history.notes(CHAT, 0, 0) == b""
    assert await house.journal.erase(state, 1, [], {"set": {}, "del": []})
    await house.history.unnote(CHAT, None)
    assert not await house.history.note(state, 0, 0, b"", b"back again")
    assert not await house.history.note(state, 7, 3, b"elsewhere", b"back again")
    assert await house.history.notes(CHAT, 0, 0) == await house.history.notes(CHAT, 7, 3) == b""


async def test_a_worker_that_was_overtaken_can_neither_send_nor_finish(house: House) -> None:
    """Fencing: whoever lost its claim cannot write."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned())
    await house.taken_over(old.ready)
    with pytest.raises(StaleFenceError):
        await house.journal.permit(old, "t1", 0, 40, None, again=True)
    with pytest.raises(StaleFenceError):
        await house.journal.finish(old, take=1, turn="t1")
    with pytest.raises(StaleFenceError):
        await house.journal.settle(old, "t1")
    assert await house.journal.standing(old) == (False, False)
    assert await house.history.read(CHAT, 0, 0, 1, 5) == []


async def test_a_late_reply_of_an_overtaken_worker_owns_an_open_turn(house: House) -> None:
    """Rule 6: the first registered wins whatever the fence, or the message of a dead worker would be sent again."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned())
    new = await house.taken_over(old.ready)
    assert await house.journal.register(old, "t1", 0, 41)
    permit = await house.journal.permit(new, "t1", 0, 40, None)
    assert permit.message_id == 41
    assert not await house.journal.register(new, "t1", 0, 42)
    assert not await house.journal.register(new, "t1", 0, 42), "a tombstone stays one"
    assert await house.journal.finish(new, take=1, turn="t1", message_id=41)


async def test_the_reply_for_an_adopted_message_is_no_loser(house: House) -> None:
    """A zombie that deleted an adopted answer would leave the customer with nothing."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned())
    new = await house.taken_over(old.ready)
    assert await house.journal.finish(new, take=1, turn="t1", message_id=41)
    assert await house.journal.register(old, "t1", 0, 41)
    assert not await house.journal.register(old, "t1", 0, 43)


async def test_a_finish_that_lost_says_so(house: House) -> None:
    """The loser deletes its own message."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned())
    new = await house.taken_over(old.ready)
    assert await house.journal.finish(new, take=1, turn="t1", message_id=41)
    assert not await house.journal.finish(old, take=1, turn="t1", message_id=42)
    assert (await house.inbox.due(0)).overdue == [(CHAT, 42)], "it is on the list even if its worker dies right here"
    await house.marks.discarded(CHAT, 42)
    assert (await house.inbox.due(0)).overdue == []


async def test_what_a_turn_owns_is_no_candidate_though_nobody_marked_it(house: House) -> None:
    """A worker that died after finish and before the mark must not let the next probe find the previous answer."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned())
    assert await house.journal.finish(state, take=1, turn="t1", message_id=41)
    assert await house.marks.unknown_above(CHAT, 40, 2) == [42, 43]


async def test_the_next_worker_finds_the_words_and_the_mark(house: House) -> None:
    """Rule 2 and 4: the finished text is stored before it is sent, with the id above which a copy could stand."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned(pieces=2))
    await house.journal.register(old, "t1", 0, 41)
    await house.journal.permit(old, "t1", 1, 41, planned(pieces=2))
    opened = (await house.taken_over(old.ready)).open_turn
    assert opened is not None
    assert (opened.record, opened.pieces, opened.piece, opened.above) == (b"sealed\nrecord", 2, 1, 41)
    assert opened.message_ids == {0: 41}
    assert opened.sent_ms is not None


async def test_a_refused_send_is_not_looked_for(house: House) -> None:
    """A definite 4xx was not accepted: nothing is in flight."""
    await house.question()
    old = await house.claimed()
    await house.journal.permit(old, "t1", 0, 40, planned())
    await house.journal.settle(old, "t1")
    opened = (await house.taken_over(old.ready)).open_turn
    assert opened is not None
    assert opened.sent_ms is None


async def test_a_turn_with_a_piece_missing_is_not_finished(house: House) -> None:
    """A long answer counts when every message of it stands."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned(pieces=2))
    with pytest.raises(StaleFenceError):
        await house.journal.finish(state, take=1, turn="t1", piece=0, message_id=41)
    assert await house.history.read(CHAT, 0, 0, 1, 5) == []


async def test_a_turn_of_unknown_fate_is_swept_for_later_and_others_are_not(house: House) -> None:
    """Rule 8: after a second attempt strays are looked for, in the chat's own mailbox."""
    sweeps = house.keys.of(CHAT).sweeps
    for attempts in (1, 2):
        await house.question()
        state = await house.claimed()
        for _ in range(attempts):
            await house.journal.permit(state, f"t{attempts}", 0, 40, planned(seq=attempts))
        await house.journal.finish(state, take=1, turn=f"t{attempts}", message_id=40 + attempts)
        assert await house.store.call("ZCARD", sweeps) == (0 if attempts == 1 else 2)
    while not (await house.inbox.due(0)).woken:
        pass
    state = await house.claimed()
    assert [(mail.kind, mail.above) for mail in state.mail] == [("sweep", 40)]


async def test_an_own_sentence_does_not_enter_the_history(house: House) -> None:
    """Invariant 2: no error text is ever stored as an answer."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned(kind="notice"))
    await house.journal.finish(state, take=1, turn="t1", message_id=41)
    assert await house.history.read(CHAT, 0, 0, 1, 5) == []


async def test_a_blocked_chat_is_remembered_and_its_turn_ends(house: House) -> None:
    """After a 403 nothing more is sent until the customer returns."""
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned())
    await house.journal.settle(state, "t1")
    await house.journal.finish(state, take=1, turn="t1", fate=Fate.BLOCKED)
    await house.question()
    state = await house.claimed()
    assert state.blocked_ms > 0
    await house.journal.finish(state, take=1, fate=Fate.RETURNED)
    await house.question()
    assert (await house.claimed()).blocked_ms == 0


async def test_nothing_can_be_written_after_a_forget(house: House) -> None:
    """Invariant 3: a turn in flight belongs to an epoch that is over."""
    await house.question()
    state = await house.claimed()
    await house.store.call("HSET", house.keys.of(CHAT).chat, "epoch", 1)
    with pytest.raises(StaleFenceError):
        await house.journal.permit(state, "t1", 0, 40, planned())


async def test_claims_are_counted_until_a_turn_is_finished(house: House) -> None:
    """A turn that kills its worker again and again has a limit."""
    await house.question()
    state = await house.claimed()
    for expected in (2, 3, 4):
        state = await house.taken_over(state.ready)
        assert (state.claims, state.tired) == (expected, False)
    await house.journal.finish(state, take=0)
    assert (await house.claimed()).claims == 1


async def test_deaths_while_a_tired_chat_rests_count_for_nothing(house: House) -> None:
    """Otherwise a process that is killed often gives up turns that it never tried."""
    await house.question()
    state = await house.claimed()
    for _ in range(3):
        state = await house.taken_over(state.ready)
    for _ in range(5):
        state = await house.taken_over(state.ready)
        assert (state.claims, state.tired) == (4, True)
    await house.journal.park(state, 1, how="rest")
    while not (await house.inbox.due(0)).woken:
        pass
    state = await house.claimed()
    assert (state.claims, state.tired) == (5, False), "a rested chat is tried, and the try counts"


async def test_only_unclaimed_ids_are_candidates(house: House) -> None:
    """Rule 10: ids above the mark that nobody is known to own, up to the highest known one and some more."""
    house.marks.note(CHAT, 10, 12, 13)
    house.marks.note(555, 15)
    assert await house.marks.unknown_above(CHAT, 10, 2) == [11, 14, 16, 17]
    assert await house.marks.highest(CHAT) == 15
    fresh = Marks(house.store, house.keys)
    assert await fresh.highest(CHAT) == 15, "another process knows it, too"
    assert await fresh.unknown_above(-1_000_000_000_123, 3, 2) == [4, 5], "a supergroup counts for itself"


async def test_one_poller_leads_at_a_time(house: House) -> None:
    """Two pollers with one token would take turns in losing updates."""
    assert await house.marks.lead("a", 60_000)
    assert not await house.marks.lead("b", 60_000)
    assert not await house.marks.lead("a", 0)
    assert await house.marks.lead("b", 60_000)


async def test_a_corrected_turn_keeps_its_place(house: House) -> None:
    """Numbers never shift; a correction needs the fence like everything else."""
    for number in (1, 2):
        await house.question()
        state = await house.claimed()
        await house.journal.permit(state, f"t{number}", 0, 40, planned(seq=number))
        await house.journal.finish(state, take=1, turn=f"t{number}", message_id=40 + number)
    await house.question()
    state = await house.claimed()
    found = await house.history.find(state, 0, 11)
    assert found is not None
    corrected = StoredTurn(found.number, found.question_ids, 6, found.answer_ids, b"new")
    assert await house.history.correct(state, 0, corrected)
    assert await house.history.read(CHAT, 0, 0, found.number, found.number) == [corrected]
    await house.taken_over(state.ready)
    assert not await house.history.correct(state, 0, corrected)


async def test_a_change_happens_in_one_step_with_the_end_of_its_turn(house: House) -> None:
    """What a command changes is there exactly when its sentence is, and not before."""
    await house.question()
    state = await house.claimed()
    change = Change({"c:0": "1", "newest": "1"}, ["n:0"], ["0:0:3"], link="77:5")
    await house.journal.permit(state, "t1", 0, 40, replace(planned(kind="notice"), change=change))
    again = await house.taken_over(state.ready)
    assert (again.conversation_of(0), await house.journal.past(CHAT)) == (0, [])
    assert await house.journal.finish(again, take=1, turn="t1", message_id=41)
    await house.question()
    state = await house.claimed()
    assert (state.conversation_of(0), state.newest) == (1, 1)
    assert await house.journal.past(CHAT) == [(0, 0, 3)]
    assert [await house.journal.linked(CHAT, number) for number in (41, 42)] == [(77, 5), (0, 0)]


async def test_a_forget_takes_the_epoch_the_mail_and_the_open_turn(house: House) -> None:
    """Invariant 3: who worked under the old epoch can write nothing more; a step repeated changes nothing."""
    await house.question()
    await house.question()
    state = await house.claimed()
    await house.journal.permit(state, "t1", 0, 40, planned())
    plan = {"set": {"base": "1", "newest": "1"}, "del": ["n:0"]}
    kept = Mail("update", 2, 1, b"sealed anew")
    for _ in range(2):
        assert await house.journal.erase(state, 2, [kept], plan)
    with pytest.raises(StaleFenceError):
        await house.journal.permit(state, "t1", 0, 40, None, again=True)
    assert await house.put(CHAT, 3) == "epoch"
    again = await house.taken_over(state.ready)
    assert (again.epoch, again.base, again.open_turn, again.mail) == (1, 1, None, [kept])
    assert again.forgetting == plan
    assert (await house.inbox.depth()).updates == 1
    await house.journal.erased(again, plan | {"done": True}, "*")
    assert (await house.taken_over(state.ready)).forgetting["done"] is True


async def test_a_forget_begins_anew_when_mail_came_in_between(house: House) -> None:
    """What was stored under the old key meanwhile has to be sealed again first: nothing is lost."""
    await house.question()
    state = await house.claimed()
    await house.question()
    assert not await house.journal.erase(state, 1, [], {})
    assert (await house.taken_over(state.ready)).epoch == 0

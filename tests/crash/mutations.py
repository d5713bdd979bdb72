"""Rules of the protocol, each taken away by a patch in the child: what a test needs to show that a rule matters.

A patch that no longer finds what it takes away raises, so that none of them can become an empty gesture.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from bot.delivery import probe
from bot.delivery.lane import Lane
from bot.delivery.preview import Preview
from bot.delivery.probe import Probe, _Verdict
from bot.worker import Worker
from storage.inbox import Due, Inbox, Ready
from storage.journal import ChatState, Journal, Permit, StaleFenceError
from storage.marks import Marks
from storage.scripts import Store

Method = Callable[..., Awaitable[Any]]


def mutate(names: Iterable[str]) -> None:
    """Takes the named rules away in this process; raises KeyError for a name nobody knows."""
    for name in names:
        MUTATIONS[name]()


def _patch(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Replaces a method by what ``make`` makes of it."""
    setattr(owner, name, make(getattr(owner, name)))


def _returning(value: Any) -> Callable[[Any], Method]:
    async def instead(*_: Any, **__: Any) -> Any:
        return value

    return lambda _: instead


def _lua(script: str, *changes: tuple[str, str]) -> None:
    """Every Store of this process runs the script with these texts exchanged."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def init(store: Any, *args: Any, **kwargs: Any) -> None:
            original(store, *args, **kwargs)
            text = store._texts[script]
            for old, new in changes:
                if old not in text:
                    raise LookupError(f"{script}.lua does not hold {old!r} any more")
                text = text.replace(old, new)
            store._texts[script] = text
            store._hashes[script] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        return init

    _patch(Store, "__init__", make)


# ---- 1: known ids
def _nothing_is_known() -> None:
    _patch(Marks, "note", lambda _: lambda *_args: None)
    _patch(Marks, "flush", _returning(None))


# ---- 2: the fence
def _fence_is_not_raised() -> None:
    raised = "redis.call('HINCRBY', KEYS[1], 'fence', 1)"
    _lua("begin", (raised, f"(redis.call('HGET', KEYS[1], 'fence') or {raised})"))


# ---- 3: drafts
def _drafts_unchecked() -> None:
    _patch(Preview, "_must_stand", _returning(None))


# ---- 4: the journal
def _journal_after_the_send() -> None:
    """What should be written before a send is written when its message id is."""
    permit, finish, register = Journal.permit, Journal.finish, Journal.register
    held: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def later(*args: Any, **kwargs: Any) -> Permit:
        held.append((args, kwargs))
        return Permit(1, args[4])

    def catching_up(original: Method) -> Method:
        async def write(*args: Any, **kwargs: Any) -> Any:
            while held:
                first, named = held.pop(0)
                await permit(*first, **named)
            return await original(*args, **kwargs)

        return write

    _patch(Journal, "permit", lambda _: later)
    _patch(Journal, "finish", lambda _: catching_up(finish))
    _patch(Journal, "register", lambda _: catching_up(register))


# ---- 5: the check at the write
def _no_check_at_the_write() -> None:
    def make(original: Callable[..., None]) -> Callable[..., None]:
        def init(lane: Any, **parts: Any) -> None:
            original(lane, **{**parts, "timing": replace(parts["timing"], recheck=1e9)})

        return init

    _patch(Lane, "__init__", make)


# ---- 6: registering
def _the_fence_alone_decides() -> None:
    old = "local standing = ''\n"
    stale = "if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return {'fence', 'loser'} end\n"
    _lua("finish", (old, old + stale))


def _losers_are_not_registered() -> None:
    """Whoever lost its chat does not look at the reply any more."""

    def make(original: Method) -> Method:
        async def finish(journal: Any, state: ChatState, **more: Any) -> Any:
            stands, _ = await journal.standing(state)
            if not stands:
                raise StaleFenceError
            return await original(journal, state, **more)

        return finish

    _patch(Journal, "finish", make)


# ---- 7: losers
def _no_reaper() -> None:
    def make(original: Method) -> Method:
        async def due(inbox: Any, age_ms: int) -> Due:
            found: Due = await original(inbox, age_ms)
            return replace(found, overdue=[])

        return due

    _patch(Inbox, "due", make)


def _losers_stay() -> None:
    _patch(Lane, "delete", _returning(None))


# ---- 8: finishing
def _anybody_finishes() -> None:
    _lua("finish", ("if f[1] ~= ARGV[1] then return {'fence', standing} end", ""))


def _no_sweeps() -> None:
    _lua("finish", ("if f[10] then", "if false then"))


# ---- 9: unknown outcomes
def _no_probe() -> None:
    _patch(Lane, "_resolve", _returning(None))


def _no_last_look() -> None:
    def make(original: Method) -> Method:
        async def find(*args: Any, wait_seconds: float | None, **more: Any) -> Any:
            return await original(*args, wait_seconds=None, **more)

        return find

    _patch(Probe, "find", make)


# ---- 10: the range
def _no_slack() -> None:
    probe._SLACK = probe._LAST_SLACK = 0  # type: ignore[misc]


# ---- 11: two steps
def _one_step() -> None:
    _patch(Probe, "_ask", _returning(_Verdict.OURS))


# ---- 12: sweeps in the mailbox
def _sweeps_beside_the_mailbox() -> None:
    """Done at once by whoever finds them due, whatever the chat is doing."""
    lanes: list[Lane] = []

    def keeping(original: Callable[..., None]) -> Callable[..., None]:
        def init(worker: Any, **parts: Any) -> None:
            lanes.append(parts["lane"])
            original(worker, **parts)

        return init

    async def sweep(inbox: Any, member: bytes) -> int:
        chat_id, above, _ = member.decode().split(":")
        keys = inbox._keys.of(int(chat_id))
        if not await inbox._store.call("ZREM", keys.sweeps, member):
            return 0
        nobody = ChatState(
            Ready(int(chat_id), ""), fence=0, epoch=0, now_ms=0, mail=[], open_turn=None, blocked_ms=0, claims=0
        )
        return await lanes[-1].sweep(nobody, int(above))

    _patch(Worker, "__init__", keeping)
    _patch(Inbox, "_sweep", lambda _: sweep)


# ---- 13: the heartbeat
def _no_heartbeat() -> None:
    """Looking for abandoned chats touches one's own as well, by chance in time: that must not pass for a heartbeat."""

    def make(original: Method) -> Method:
        async def reclaim(worker: Any) -> None:
            if not worker._held:
                await original(worker)

        return reclaim

    _patch(Worker, "_renew", _returning(None))
    _patch(Worker, "_reclaim", make)


# ---- invariants
def _notices_enter_the_history() -> None:
    _lua("finish", ("f[4] == 'answer'", "true"))


def _confirmed_before_stored() -> None:
    """The ingress lets Telegram forget updates that it has not stored yet."""
    from bot.ingress import Poller

    def make(original: Method) -> Method:
        async def until_stored(poller: Any, updates: list[Any]) -> None:
            last = max(update["update_id"] for update in updates)
            await poller._telegram.call("getUpdates", {"offset": last + 1, "timeout": 0})
            await original(poller, updates)

        return until_stored

    _patch(Poller, "_until_stored", make)


def _repeated_updates_count_again() -> None:
    _lua("enqueue", ("if ARGV[2] ~= '' and", "if false and"))


def _the_epoch_does_not_matter() -> None:
    _lua("journal", ("if (f[2] or '0') ~= ARGV[2] then return {'epoch'} end", ""))


MUTATIONS: Final[dict[str, Callable[[], None]]] = {
    "nothing_is_known": _nothing_is_known,
    "fence_is_not_raised": _fence_is_not_raised,
    "drafts_unchecked": _drafts_unchecked,
    "journal_after_the_send": _journal_after_the_send,
    "no_check_at_the_write": _no_check_at_the_write,
    "the_fence_alone_decides": _the_fence_alone_decides,
    "losers_are_not_registered": _losers_are_not_registered,
    "no_reaper": _no_reaper,
    "losers_stay": _losers_stay,
    "anybody_finishes": _anybody_finishes,
    "no_sweeps": _no_sweeps,
    "no_probe": _no_probe,
    "no_last_look": _no_last_look,
    "no_slack": _no_slack,
    "one_step": _one_step,
    "sweeps_beside_the_mailbox": _sweeps_beside_the_mailbox,
    "no_heartbeat": _no_heartbeat,
    "notices_enter_the_history": _notices_enter_the_history,
    "confirmed_before_stored": _confirmed_before_stored,
    "repeated_updates_count_again": _repeated_updates_count_again,
    "the_epoch_does_not_matter": _the_epoch_does_not_matter,
}

"""The journal of a chat's open turn, and the fence that lets one worker at a time write it.

``begin`` raises the fence; every later step names the fence it was given, and a step under an old one changes nothing.
See the Lua scripts of the same names for the rules; all of them may be run twice.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import orjson

from storage.chatstate import ChatState, OpenTurn, fields_of, state_of
from storage.errors import StorageError
from storage.inbox import Mail, Ready
from storage.keynames import WEEK_DAYS
from storage.keys import ChatKeys, Keys, counts_own_ids
from storage.scripts import Store

__all__ = ["DAY_MS", "TIRED_AFTER", "Change", "ChatState", "Fate", "How", "Journal", "OpenTurn", "Permit", "Planned"]
__all__ += ["StaleFenceError"]


class Fate(Enum):
    """How a turn ends: said; the chat blocked us, or is back; or what it says cannot be delivered."""

    SAID = ""
    BLOCKED = "1"
    RETURNED = "0"
    UNDELIVERABLE = "x"


TIRED_AFTER = 4
"""Claims in a row that ended in nothing, after which a chat rests before the next."""

DAY_MS = 86_400_000
_TURNS_AT_ONCE = 500

_MOST_SPENT = 10**12
"""A turn's charge at most: what a chat API reports is not ours, and the store counts exactly up to 2^53 only."""


How = Literal["forgive", "count", "rest"]


class StaleFenceError(StorageError):
    """Another worker took the chat over: stop, write nothing, send nothing."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a turn is going to say, sealed: written with its first piece."""

    record: bytes
    header: str
    take: int
    pieces: int
    kind: str
    topic: int
    seq: int
    marker: bool
    change: "Change | None" = None


@dataclass(slots=True)
class Change:
    """What a turn changes in its chat when it ends, in one step with it: fields to set and to delete, ended
    conversations to list (``topic:conversation:turns``), what the turn's messages stand for (``chat:topic``), and what
    it used: messages, tokens and millionths of money."""

    put: dict[str, str] = field(default_factory=dict)
    drop: list[str] = field(default_factory=list)
    past: list[str] = field(default_factory=list)
    link: str = ""
    spend: tuple[int, int, int] | None = None

    def packed(self) -> bytes:
        parts: dict[str, Any] = {"set": self.put, "del": self.drop, "past": self.past}
        if self.spend is not None:
            parts["spend"] = _bounded(self.spend)
        parts = {name: part for name, part in parts.items() if part}
        return orjson.dumps(parts | ({"link": self.link} if self.link else {}))


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to send a piece: the attempt's number and the id above which a copy could stand.

    With ``message_id`` it is none: that message shows the piece already.
    """

    attempt: int
    above: int
    message_id: int | None = None


class Journal:
    """The steps of a turn in the store. Raises StaleFenceError where another worker took over, else StorageError."""

    def __init__(self, store: Store, keys: Keys, *, sweep_after: Sequence[float], keep_days: int = 0) -> None:
        """``sweep_after``: seconds after which a chat is swept for strays when a send's fate was unknown;
        ``keep_days``: how long anything is kept, 0 for ever."""
        self._keep_days = keep_days
        self._sweeps = " ".join(str(int(seconds * 1000)) for seconds in sweep_after)
        self._store = store
        self._keys = keys

    async def begin(self, ready: Ready, most: int, *, turns: int = 0) -> ChatState | None:
        """Opens a claimed chat with its first ``most`` items, and with its window unless that is longer than ``turns``;
        None when the entry no longer stands for the chat."""
        keys = self._keys.of(ready.chat_id)
        names = [keys.chat, keys.mail, keys.talks(0)]
        reply = await self._store.insist("begin", names, [ready.entry, most, TIRED_AFTER, turns])
        if reply[0] == b"gone":
            return None
        state = state_of(ready, int(reply[1]), int(reply[2]), fields_of(reply[3]))
        state.mail = [Mail.unpacked(raw) for raw in reply[4]]
        state.tired, state.window = reply[5] == 1, reply[6]
        return state

    async def look(self, chat_id: int) -> ChatState:
        """What a chat is now, without claiming it: for whoever only reads, and needs no fence."""
        flat = await self._store.call("HGETALL", self._keys.of(chat_id).chat)
        return state_of(Ready(chat_id, ""), 0, int(time.time() * 1000), fields_of(flat))

    async def permit(
        self, state: ChatState, turn: str, piece: int, above: int, planned: Planned | None, *, again: bool = False
    ) -> Permit:
        """Journals a send before it is made; ``again`` is the check right before the write."""
        arguments: list[Any] = [state.fence, state.epoch, turn, piece, above, "1" if again else "0"]
        if planned is None:
            arguments += [""] * 9
        else:
            arguments += [planned.record, planned.header, planned.take, planned.pieces, planned.kind]
            arguments += [planned.topic, planned.seq, "1" if planned.marker else "0"]
            arguments.append(planned.change.packed() if planned.change else "")
        reply = await self._store.insist("journal", [self._of(state).chat], arguments)
        match reply[0]:
            case b"ok":
                return Permit(int(reply[1]), int(reply[2]))
            case b"has":
                return Permit(0, above, int(reply[1]))
            case _:
                raise StaleFenceError

    async def register(self, state: ChatState, turn: str, piece: int, message_id: int) -> bool:
        """Records a message id; False when another copy of the piece won, so that this one must be deleted."""
        keys = self._of(state)
        names = [keys.chat, keys.own, keys.tomb, keys.trash]
        reply = await self._store.insist("register", names, [turn, piece, message_id, state.ready.chat_id])
        return bool(reply == b"owner")

    async def settle(self, state: ChatState, turn: str) -> None:
        """Notes that the last send was refused for certain."""
        if not await self._store.insist("settle", [self._of(state).chat], [state.fence, turn]):
            raise StaleFenceError

    async def finish(
        self,
        state: ChatState,
        *,
        take: int,
        turn: str = "",
        topic: int = 0,
        piece: int = 0,
        message_id: int | None = None,
        first: int | None = None,
        marker: bool = False,
        fate: Fate = Fate.SAID,
        blocked_ms: int | None = None,
        idle: bool = False,
    ) -> bool:
        """Ends the turn and hands the chat on; registers ``message_id`` for ``piece`` first. False: that message lost
        against another copy and must be deleted (the turn itself is finished all the same). ``idle``: nobody did
        anything in this turn."""
        keys = self._of(state)
        turns = keys.turns(topic, state.conversation_of(topic))
        reply = await self._store.insist(
            "finish",
            [
                *(keys.chat, keys.mail, keys.ready, keys.own, keys.tomb, turns, keys.stats, keys.sweeps, keys.trash),
                *(keys.past, keys.links, keys.ages),
            ],
            [
                state.fence,
                turn,
                state.ready.entry,
                state.ready.chat_id,
                piece,
                "" if message_id is None else message_id,
                take,
                "" if first is None else first,
                "1" if marker else "0",
                fate.value,
                self._sweeps,
                "" if blocked_ms is None else blocked_ms,
                "" if idle or not self._keep_days else self._aged_ms(state),
            ],
        )
        lost = reply[1] == b"loser"
        if reply[0] != b"ok":
            if lost:
                return False
            raise StaleFenceError
        return not lost

    async def park(self, state: ChatState, delay_ms: int, *, how: How = "forgive") -> None:
        """Gives the chat back, to be claimed again after ``delay_ms``; the journal stays as it is.

        ``how``: forgive (what was tried so far was no failure), count (this claim may have been one: too many of them
        and the chat rests), or rest (a tired chat rests, and its claims go on counting).
        """
        keys = self._of(state)
        await self._store.insist(
            "park",
            [keys.chat, keys.ready, keys.later],
            [state.fence, state.ready.entry, state.ready.chat_id, delay_ms, how],
        )

    async def fail(self, state: ChatState) -> int:
        """Counts an exception of a handler; returns how many the first item has caused."""
        count = int(await self._store.insist("fail", [self._of(state).chat], [state.fence]))
        if not count:
            raise StaleFenceError
        return count

    async def charge(self, state: ChatState, spend: tuple[int, int, int]) -> None:
        """Charges what was used (as ``Change.spend``) for an answer that will not be said; once for each claim."""
        keys = self._of(state)
        if not await self._store.insist("charge", [keys.chat, keys.stats], [state.fence, *_bounded(spend)]):
            raise StaleFenceError

    @property
    def most_days(self) -> int:
        """How many days anything is kept at most, 0 for ever."""
        return self._keep_days

    def days_kept(self, state: ChatState) -> int:
        """How many days anything of a chat is kept: the operator's maximum, or less as the customer wishes; 0 for
        ever."""
        return min(self._keep_days, state.keep_days or self._keep_days)

    def _aged_ms(self, state: ChatState) -> int:
        """When to look at what is written now: when it is too old, or a week earlier."""
        days = self.days_kept(state)
        early = WEEK_DAYS if state.warns and days > WEEK_DAYS else 0
        return (state.now_ms // DAY_MS + days + 1 - early) * DAY_MS

    async def age(self, state: ChatState, due_ms: int | None) -> None:
        """When something of the chat will be too old next; None: there is nothing."""
        keys, chat_id = self._of(state), state.ready.chat_id
        if due_ms is None:
            await self._store.call("ZREM", keys.ages, chat_id)
        else:
            await self._store.call("ZADD", keys.ages, due_ms, chat_id)

    async def put(self, state: ChatState, put: dict[str, str], drop: Sequence[str] = ()) -> None:
        """Changes fields of the chat at once. Raises StaleFenceError."""
        change = orjson.dumps({"set": put, "del": list(drop)})
        if not await self._store.insist("put", [self._of(state).chat], [state.fence, change]):
            raise StaleFenceError

    async def drop_past(self, state: ChatState, talk: tuple[int, int, int]) -> None:
        """Takes an ended conversation (topic, number, turns) off the list: nothing of it is left."""
        await self._store.call("LREM", self._of(state).past, 0, "{}:{}:{}".format(*talk))

    async def drop_dead(self, state: ChatState, before_ms: int) -> None:
        """Removes updates that were set aside before a time."""
        key = self._of(state).dead
        found = fields_of(await self._store.call("HGETALL", key))
        old = [name for name, packed in found.items() if Mail.unpacked(packed).received_ms < before_ms]
        if old:
            await self._store.call("HDEL", key, *old)

    async def clear(self, state: ChatState) -> bool:
        """Removes what is left of a chat in which nothing is stored, unless somebody writes just now."""
        keys = self._of(state)
        rest = [keys.own, keys.tomb, keys.dead, keys.past, keys.links, keys.notes, keys.remotes]
        own_ids = [keys.ids] if counts_own_ids(state.ready.chat_id) else []
        return bool(await self._store.insist("clear", [keys.chat, keys.mail, *rest, *own_ids], [state.fence]))

    async def place(
        self, state: ChatState, topic: int, conversation: int, turns: Sequence[tuple[int, bytes]], *, new: bool = False
    ) -> None:
        """Writes values of turns by their numbers, b"" for none; only over such as are there, unless they are ``new``.
        Raises StaleFenceError."""
        keys = self._of(state)
        names = [keys.chat, keys.turns(topic, conversation)]
        for at in range(0, len(turns), _TURNS_AT_ONCE):
            values = [part for turn in turns[at : at + _TURNS_AT_ONCE] for part in turn]
            if not await self._store.insist("place", names, [state.fence, "1" if new else "0", *values]):
                raise StaleFenceError

    async def set_aside(self, state: ChatState, mail: Mail) -> None:
        """Keeps a sealed update that could not be handled, for the operator."""
        await self._store.call("HSET", self._of(state).dead, str(mail.update_id), mail.packed())

    async def standing(self, state: ChatState) -> tuple[bool, bool]:
        """Whether this worker still holds the chat (asked before a draft, or a ghost draft appears after the answer),
        and whether something urgent has come."""
        fence, halt = await self._store.call("HMGET", self._of(state).chat, "fence", "halt")
        return fence == b"%d" % state.fence, halt is not None

    async def erase(self, state: ChatState, mail: int, kept: Sequence[Mail], plan: dict[str, Any]) -> bool:
        """Begins a forget: the epoch and the open turn are gone with it, and of the mailbox all but what is ``kept``,
        sealed for the next epoch. False: the mailbox no longer holds ``mail`` items, and nothing was done."""
        keys = self._of(state)
        names = [keys.chat, keys.mail, keys.stats, keys.sweeps]
        arguments: list[Any] = [state.fence, state.ready.chat_id, mail, orjson.dumps(plan), self._sweeps]
        done = await self._store.insist("erase", names, arguments + [item.packed() for item in kept])
        if not done:
            raise StaleFenceError
        return bool(done == 1)

    async def erased(self, state: ChatState, plan: dict[str, Any], gone: str) -> None:
        """Notes that what a forget named is gone; ``gone``: entries of ended conversations, or ``*``."""
        keys = self._of(state)
        names = [keys.chat, keys.past, keys.dead, keys.tomb]
        if not await self._store.insist("erased", names, [state.fence, orjson.dumps(plan), gone]):
            raise StaleFenceError

    async def keep(self, state: ChatState, entry: bytes) -> bool:
        """Notes what a chat API began to keep: ``topic:conversation:`` and the sealed id. False when another worker
        took the chat over."""
        keys = self._of(state)
        return bool(await self._store.insist("keep", [keys.chat, keys.remotes], [state.fence, entry]))

    async def kept(self, state: ChatState) -> list[bytes]:
        """All entries of ``keep``, oldest first."""
        return list(await self._store.call("LRANGE", self._of(state).remotes, 0, -1))

    async def kept_no_more(self, state: ChatState, entries: Sequence[bytes]) -> None:
        """Takes entries of ``keep`` away."""
        for entry in entries:
            await self._store.call("LREM", self._of(state).remotes, 0, entry)

    async def remove(self, state: ChatState, turns: Sequence[tuple[int, int]]) -> None:
        """Removes the turns of conversations (topic, number), whose numbers are never used again."""
        keys = self._of(state)
        if turns:
            await self._store.call("UNLINK", *(keys.turns(*of) for of in turns))

    async def past(self, chat_id: int) -> list[tuple[int, int, int]]:
        """The ended conversations of a chat: topic, number, how many turns."""
        entries = await self._store.call("LRANGE", self._keys.of(chat_id).past, 0, -1)
        return [(int(a), int(b), int(c)) for a, b, c in (entry.split(b":") for entry in entries)]

    async def linked(self, chat_id: int, message_id: int) -> tuple[int, int]:
        """Chat and topic of the customer that a message in an operator's chat stands for; zeros where it stands for
        none."""
        found = await self._store.call("HGET", self._keys.of(chat_id).links, message_id) or b"0:0"
        customer, _, topic = found.partition(b":")
        return int(customer), int(topic)

    async def unreachable(self, state: ChatState) -> None:
        """Notes at once that nothing can be sent to this chat; the end of its turn notes it, too."""
        await self._store.call("HSET", self._of(state).chat, "blocked", state.now_ms)

    async def reachable(self, chat_id: int) -> bool:
        """Whether nothing is known that keeps messages from a chat."""
        return not await self._store.call("HEXISTS", self._keys.of(chat_id).chat, "blocked")

    async def owned(self, chat_id: int) -> list[int]:
        """The last messages of ours in a chat, oldest first."""
        return [int(member) for member in await self._store.call("ZRANGE", self._keys.of(chat_id).own, 0, -1)]

    async def mail(self, state: ChatState, most: int = 0) -> list[Mail]:
        """The first items of the mailbox as it is now, oldest first; all of them without ``most``."""
        return [Mail.unpacked(raw) for raw in await self._store.call("LRANGE", self._of(state).mail, 0, most - 1)]

    async def waiting(self, state: ChatState) -> int:
        """How many items the mailbox holds now."""
        return int(await self._store.call("LLEN", self._of(state).mail))

    def _of(self, state: ChatState) -> ChatKeys:
        return self._keys.of(state.ready.chat_id)


def _bounded(spend: tuple[int, int, int]) -> list[int]:
    return [min(max(amount, 0), _MOST_SPENT) for amount in spend]

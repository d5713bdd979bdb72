"""Every key of the store, in one place: its name, its type, what it holds and which Lua scripts touch it.

The hash tag is the partition, so that all keys of a chat share one Redis Cluster slot and each step of a message is one
single-slot script. Keys of the whole bot stand outside those scripts, under the tag ``{bot}``.

=========  ======  =====================================================  =========================================
key        type    holds                                                  touched by
=========  ======  =====================================================  =========================================
ready      stream  one entry per chat that has mail (or is being worked)  enqueue, wake, sweep, finish, park
seen       zset    update ids, score = time stored (ms), 25 hours          enqueue
later      zset    chats that wait for a time, score = due (ms)           park, wake
sweeps     zset    ``chat:hi:n`` to look for strays, score = due (ms)     finish, erase, sweep
trash      zset    ``chat:message`` to delete, score = time (ms)          register, finish (plain ZREM)
ages       zset    chats, score = when something there is too old (ms)    finish, sweep (plain ZADD)
stats      hash    ``depth``: stored updates not yet finished; ``u:…``:   enqueue, finish, erase
                   what the partition's chats used (storage/usage.py);
                   ``kept``: for how many days chats are listed (of 0)
chat:C     hash    fence, epoch, entry, journal of the open turn, marks;  all
                   ``u:m``, ``u:d``, ``u:M``: what was used (numbers: a
                   forget leaves them, or it would lift limits)
mail:C     list    sealed updates, oldest first                           enqueue, begin, finish, erase
own:C      zset    the last message ids we own in the chat                register, finish
tomb:C     zset    message ids that lost against another copy             register, finish
dead:C     hash    sealed updates set aside, by update id                 (plain HSET)
turns:C:…  hash    sealed turns of one conversation, by number            begin, finish, correct, sizes, place
past:C     list    ``topic:conversation:turns`` of ended conversations    finish
links:C    hash    message id in an operator's chat → the customer's      finish
notes:C    hash    sealed notes on a conversation, by topic and number     note (plain HGET, HDEL)
remotes:C  list    sealed ids of what chat APIs keep of the chat          keep (plain LRANGE, LREM)
receipts:C zset    ids of the receipts of a chat, score = time (ms)       (plain ZADD)
import:C:… list    sealed chunks of an archive to read in, an hour         (plain RPUSH)
ids:C      zset    known message ids of a supergroup, the last of them    (plain ZADD)
ids        zset    known message ids of all private chats and groups      (plain ZADD)
leader     string  who polls Telegram                                     lead
control    channel chats whose running turn should look at its mail       enqueue
menu       string  which command menus Telegram was given                 (plain GET, SET)
removals   zset    what chat APIs are to delete, score = due (ms)         (plain ZADD, ZREM)
receipts   hash    what became of data requests, by id (JSON); ``ID:c``,  removed (plain HSET)
                   ``ID:g``: what chat APIs confirmed, or never did
requests   zset    the ids of all of them, score = time (ms)              (plain ZADD)
apikeys    hash    keys of the admin API, hashed, by id (JSON)            (plain HSET)
calls:K:M  string  calls of a key in a minute, two minutes                (plain INCR)
export:ID  string  the chat and the sealed plan of an export, a day       (plain SET)
alerts     hash    what is wrong now, and untold news of it (``!N``)      alert (plain HDEL)
backups    hash    times (s) of the last copies of store and keys, and    (plain HSET)
                   the folder of the latter
=========  ======  =====================================================  =========================================
"""

from dataclasses import dataclass
from zlib import crc32

PARTITIONS = 64
"""Fixed when a store is first used: a chat's partition decides the names of its keys."""

GROUP = "workers"
"""The one consumer group on each ready stream."""

SEEN_MS = 25 * 3600 * 1000
"""Telegram repeats an update for 24 hours at most (Bot API, "Getting updates")."""

_SUPERGROUP_BELOW = -1_000_000_000_000


def partition_of(chat_id: int) -> int:
    """The partition of a chat, 0 … PARTITIONS - 1."""
    return crc32(b"%d" % chat_id) % PARTITIONS


def counts_own_ids(chat_id: int) -> bool:
    """Supergroups and channels number their messages themselves; all other chats of a bot share one sequence."""
    return chat_id < _SUPERGROUP_BELOW


@dataclass(frozen=True, slots=True)
class ChatKeys:
    """The keys of one chat and of its partition."""

    chat: str
    mail: str
    own: str
    tomb: str
    dead: str
    past: str
    links: str
    notes: str
    remotes: str
    receipts: str
    ready: str
    seen: str
    later: str
    sweeps: str
    trash: str
    ages: str
    stats: str
    ids: str
    _turns: str
    _import: str

    def turns(self, topic: int, conversation: int) -> str:
        """The hash that holds the turns of one conversation."""
        return f"{self.talks(topic)}{conversation}"

    def staged(self, request_id: str) -> str:
        """The list that holds an archive until it is read in."""
        return f"{self._import}:{request_id}"

    def talks(self, topic: int) -> str:
        """What the names of a topic's ``turns`` begin with."""
        return f"{self._turns}:{topic}:"


class Keys:
    """Builds the key names of one bot."""

    def __init__(self, bot_id: int) -> None:
        self.bot_id = bot_id
        self._bot = f"tg:{{{bot_id}}}"
        self.ids = f"{self._bot}:ids"
        self.leader = f"{self._bot}:leader"
        self.control = f"{self._bot}:control"
        self.menu = f"{self._bot}:menu"
        self.removals = f"{self._bot}:removals"
        self.alerts = f"{self._bot}:alerts"
        self.receipts = f"{self._bot}:receipts"
        self.requests = f"{self._bot}:requests"
        self.api_keys = f"{self._bot}:apikeys"
        self.backups = f"{self._bot}:backups"

    def api_calls(self, key_id: str, minute: int) -> str:
        """The count of one key's calls in one minute since 1970."""
        return f"{self._bot}:calls:{key_id}:{minute}"

    def export(self, export_id: str) -> str:
        """What is known of one export that an operator asked for."""
        return f"{self._bot}:export:{export_id}"

    def partition(self, name: str, partition: int) -> str:
        """``name`` is one of ready, seen, later, sweeps, trash, ages, stats."""
        return f"tg:{{{self.bot_id}.{partition}}}:{name}"

    def of(self, chat_id: int) -> ChatKeys:
        root = f"tg:{{{self.bot_id}.{partition_of(chat_id)}}}"
        return ChatKeys(
            chat=f"{root}:chat:{chat_id}",
            mail=f"{root}:mail:{chat_id}",
            own=f"{root}:own:{chat_id}",
            tomb=f"{root}:tomb:{chat_id}",
            dead=f"{root}:dead:{chat_id}",
            past=f"{root}:past:{chat_id}",
            links=f"{root}:links:{chat_id}",
            notes=f"{root}:notes:{chat_id}",
            remotes=f"{root}:remotes:{chat_id}",
            receipts=f"{root}:receipts:{chat_id}",
            ready=f"{root}:ready",
            seen=f"{root}:seen",
            later=f"{root}:later",
            sweeps=f"{root}:sweeps",
            trash=f"{root}:trash",
            ages=f"{root}:ages",
            stats=f"{root}:stats",
            ids=f"{root}:ids:{chat_id}" if counts_own_ids(chat_id) else self.ids,
            _turns=f"{root}:turns:{chat_id}",
            _import=f"{root}:import:{chat_id}",
        )

"""A chat as its hash in the store tells it: the open turn, the places of its conversations, settings and marks."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from storage.inbox import Mail, Ready
from storage.usage import Used, used_of

_AWAITED_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A journaled turn that is not finished. ``sent_ms`` is set while a send may be in flight (store's clock)."""

    turn: str
    record: bytes
    take: int
    pieces: int
    kind: str
    topic: int
    seq: int
    marker: bool
    piece: int
    above: int
    sent_ms: int | None
    message_ids: dict[int, int]


@dataclass(slots=True)
class ChatState:
    """A claimed chat as ``begin`` found it, and as its worker changed it since. Times in ms of the store's clock.

    ``window``: the stored turns of topic 0, first to last as the store holds them, where they came along; else empty.
    ``newest``: the highest number given to a conversation; ``chosen``: the language by /language; ``language``: the
    last known one; ``handed_ms``: since when a person answers; ``forgetting``: the plan of an unfinished forget;
    ``done``: the fence of the last finished turn; ``stopped``: the update that stopped an answer last;
    ``until_ms``: not before then it is to go on, unless something urgent cannot wait; ``tidy``: our messages of what
    was forgotten last; ``remote``: by topic, what its chat API keeps, sealed; ``waiting``: since when (ms) and why the
    first question waits (``since:why``); ``told_ms``: when a limit was told last; ``used``: what the customer used in
    this minute, UTC day and UTC month (``m``, ``d``, ``M``); ``keep_days``: how long the customer wants things kept, 0:
    as long as the operator; ``oldest``: by topic and conversation, the first turn that was not too old yet; ``fresh``:
    by topic, conversation and last day of a week, the number of the key that took the place of one that had sealed a
    removed turn; ``rights``: what the customer agreed to, sealed; ``coming``: conversations (topic, number) of an
    unfinished import; ``copies``: by topic and conversation, those that imports made of it; ``offers``: archives
    whose import is to be confirmed, sealed, by until when (s) and which; ``awaits_ms``: when the customer was asked for
    an archive; ``warns``: the customer wants to hear a week before anything is deleted for its age, and heard of what
    was written up to ``warned_day``; ``day``: on which a turn ended last (UTC days since 1970).
    """

    ready: Ready
    fence: int
    epoch: int
    now_ms: int
    mail: list[Mail]
    open_turn: OpenTurn | None
    blocked_ms: int
    claims: int
    tired: bool = False
    edits: int = 0
    last: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    conversation: dict[int, int] = field(default_factory=dict)
    window: list[bytes | None] = field(default_factory=list)
    base: int = 0
    newest: int = 0
    chosen: str = ""
    language: str = ""
    handed_ms: int = 0
    forgetting: dict[str, Any] = field(default_factory=dict)
    done: int = 0
    stopped: int = 0
    until_ms: int = 0
    tidy: list[int] = field(default_factory=list)
    remote: dict[int, bytes] = field(default_factory=dict)
    waiting: str = ""
    told_ms: int = 0
    used: dict[str, Used] = field(default_factory=dict)
    keep_days: int = 0
    oldest: dict[tuple[int, int], int] = field(default_factory=dict)
    fresh: dict[tuple[int, int, int], int] = field(default_factory=dict)
    rights: bytes = b""
    coming: list[tuple[int, int]] = field(default_factory=list)
    copies: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    offers: dict[str, bytes] = field(default_factory=dict)
    awaits_ms: int = 0
    warns: bool = False
    warned_day: int = 0
    day: int = 0

    @property
    def awaits_file(self) -> bool:
        """Whether the customer was just asked for an archive."""
        return self.now_ms - self.awaits_ms < _AWAITED_MS

    def conversation_of(self, topic: int) -> int:
        """The number of a topic's current conversation. Numbers of a chat are never used again."""
        return self.conversation.get(topic, self.base)


def fields_of(reply: Any) -> dict[str, bytes]:
    """A hash as the store's client gives it, from a script or from a command."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def state_of(ready: Ready, fence: int, now_ms: int, fields: dict[str, bytes]) -> ChatState:
    return ChatState(
        ready=ready,
        fence=fence,
        epoch=int(fields.get("epoch", 0)),
        now_ms=now_ms,
        mail=[],
        open_turn=_open_turn(fields),
        blocked_ms=int(fields.get("blocked", 0)),
        claims=int(fields.get("claims", 0)),
        edits=int(fields.get("edits", 0)),
        last=_by_topic(fields, "n:"),
        first=_by_topic(fields, "s:"),
        conversation=_by_topic(fields, "c:"),
        base=int(fields.get("base", 0)),
        newest=int(fields.get("newest", 0)),
        chosen=fields.get("chosen", b"").decode(),
        language=fields.get("language", b"").decode(),
        handed_ms=int(fields.get("handed", 0)),
        done=int(fields.get("done", 0)),
        stopped=int(fields.get("stopped", 0)),
        until_ms=int(fields.get("until", 0)),
        tidy=_numbers(fields.get("tidy", b"")),
        used=used_of(fields, now_ms),
        remote={int(name[2:]): value for name, value in fields.items() if name.startswith("r:")},
        waiting=fields.get("waits", b"").decode(),
        told_ms=int(fields.get("told", 0)),
        forgetting=orjson.loads(fields["forget"]) if "forget" in fields else {},
        keep_days=int(fields.get("keep", 0)),
        warns="warn" in fields,
        warned_day=int(fields.get("warned", 0)),
        day=int(fields.get("day", 0)),
        oldest={_place(name[2:]): int(value) for name, value in fields.items() if name.startswith("o:")},
        fresh={_week(name): int(value) for name, value in fields.items() if name.startswith("g:")},
        rights=fields.get("rights", b""),
        copies={_place(name[2:]): _numbers(value) for name, value in fields.items() if name.startswith("i:")},
        offers={name[6:]: value for name, value in fields.items() if name.startswith("offer:")},
        awaits_ms=int(fields.get("awaits", 0)),
        coming=[_place(entry) for entry in fields.get("coming", b"").decode().split()],
    )


def _place(text: str) -> tuple[int, int]:
    topic, _, conversation = text.partition(":")
    return int(topic), int(conversation)


def _numbers(value: bytes) -> list[int]:
    return [int(number) for number in value.split(b",") if number]


def _week(name: str) -> tuple[int, int, int]:
    _, topic, conversation, day = name.split(":")
    return int(topic), int(conversation), int(day)


def _by_topic(fields: dict[str, bytes], prefix: str) -> dict[int, int]:
    return {int(name[2:]): int(value) for name, value in fields.items() if name.startswith(prefix)}


def _open_turn(fields: dict[str, bytes]) -> OpenTurn | None:
    if "turn" not in fields:
        return None
    return OpenTurn(
        turn=fields["turn"].decode(),
        record=fields["record"],
        take=int(fields["take"]),
        pieces=int(fields["pieces"]),
        kind=fields["kind"].decode(),
        topic=int(fields["topic"]),
        seq=int(fields["seq"]),
        marker=fields.get("marker") == b"1",
        piece=int(fields["piece"]),
        above=int(fields["hi"]),
        sent_ms=int(fields["t"]) if "t" in fields else None,
        message_ids={int(name[4:]): int(value) for name, value in fields.items() if name.startswith("mid:")},
    )

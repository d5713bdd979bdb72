"""Tells operators what is wrong that only they can mend, and when it is over: once for each state, over all processes.

Every process looks for itself, and the store knows what all of them saw (``storage.alerts``). News go out as letters,
under an id of their own: a death in between sends some of them again, and the mailboxes take each once. What a letter
says is put into words where it is delivered, in the reader's language. Nothing here knows of customers.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from bot import texts
from bot.chat_api.client import ChatApi, Condition
from bot.conversation.post import Post
from bot.delivery.telegram import TelegramClient
from bot.errors import Reason, TelegramError, TelegramRefusedError, TelegramUnauthorizedError
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.parts import Parts
from bot.texts import Sentence, Words
from bot.timing import Timing
from storage.alerts import Alerts, News, Sight, memory_share, unclaimed_seconds
from storage.errors import StorageError

Shares = Callable[[], Awaitable[Mapping[Any, float]]]

_LETTERS: Final = 2**52 + 2**51
"""Sets these letters apart from all others; the number of the news comes on top."""

_NEAR: Final = 0.8
_MEMORY: Final = 0.9
_DISK: Final = 0.05
_DISK_BYTES: Final = 200 << 20
_QUEUE_SECONDS: Final = 60.0
_TOKEN_LOOKS: Final = 12  # one question to Telegram a minute
_TOKEN_SECONDS: Final = 10.0
_LONGER: Final = 10
_TOKEN: Final = "token"  # noqa: S105 (the name of a state)
_REASONS: Final = {
    Reason.KEY: "key", Reason.CREDIT: "credit", Reason.MODEL: "model", Reason.ADDRESS: "address",
}  # fmt: skip
_BEGINS: Final = {
    "down": texts.ALERT_DOWN,
    "endpoint": texts.ALERT_ENDPOINT,
    "key": texts.ALERT_KEY,
    "credit": texts.ALERT_CREDIT,
    "model": texts.ALERT_MODEL,
    "address": texts.ALERT_ADDRESS,
    "budget": texts.ALERT_BUDGET,
    "limit": texts.ALERT_LIMIT,
    "memory": texts.ALERT_MEMORY,
    "disk": texts.ALERT_DISK,
    "queue": texts.ALERT_QUEUE,
}
_ENDS: Final = {
    "down": texts.ALERT_DOWN_OVER,
    **dict.fromkeys(("endpoint", *_REASONS.values()), texts.ALERT_ENDPOINT_OVER),
    **dict.fromkeys(("budget", "limit"), texts.ALERT_BUDGET_OVER),
    **dict.fromkeys(("memory", "disk"), texts.ALERT_STORE_OVER),
    _TOKEN: texts.ALERT_TOKEN_OVER,
    "queue": texts.ALERT_QUEUE_OVER,
}
_log = get_logger(__name__)


class Source(NamedTuple):
    """Where sights of some kinds come from. ``look`` names all states of these kinds that there can be: of one that it
    does not name nobody knows any more, and it counts as over. May raise StorageError or OSError."""

    kinds: frozenset[str]
    look: Callable[[], Awaitable[list[Sight]]]


class Lookout:
    """Looks, notes and tells."""

    def __init__(
        self,
        *,
        alerts: Alerts,
        post: Post,
        metrics: Metrics,
        operators: tuple[int, ...],
        sources: Sequence[Source],
        timing: Timing,
    ) -> None:
        self._alerts = alerts
        self._post = post
        self._metrics = metrics
        self._operators = operators
        self._sources = sources
        self._timing = timing
        self._lasting: frozenset[str] = frozenset()

    async def keep(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                _log.info("alert.unseen", error=type(error).__name__)
            except Exception:  # noqa: BLE001 (the top of an owned task: what cannot be seen must not end the service)
                _log.exception("alert.failed")
            await asyncio.sleep(self._timing.look)

    async def look(self) -> None:
        """Raises StorageError; what is not told then is told by the next look, of any process."""
        noted = await self._alerts.note(await self._sights())
        self._lasting = noted.lasting
        lasting = {_kind(name) for name in noted.lasting}
        for kind in _ENDS:
            self._metrics.alert.labels(kind).set(kind in lasting)
        for news in noted.news:
            await self._tell(news)

    async def _sights(self) -> list[Sight]:
        found: list[Sight] = []
        looked: set[str] = set()
        for source in self._sources:
            try:
                found += await source.look()
            except (StorageError, OSError) as error:
                _log.info("alert.unseen", error=type(error).__name__, kinds=sorted(source.kinds))
            else:
                looked |= source.kinds
        known = {sight.name for sight in found}
        found += [Sight(name, False) for name in self._lasting - known if _kind(name) in looked]
        return found

    async def _tell(self, news: News) -> None:
        kind = _kind(news.name)
        times = {"since_ms": news.since_ms, "over_ms": news.over_ms}
        content = {"kind": "alert", "chat_id": 0, "name": kind, "values": times | news.values}
        if news.over_ms or kind in _BEGINS:
            for operator in self._operators:
                await self._post.letter(operator, _LETTERS + news.number, content)
        await self._alerts.told(news)
        if kind == _TOKEN and not news.over_ms:
            _log.error("telegram.token_revoked")  # the one thing that cannot be told in Telegram
        else:
            _log.warning("alert.over" if news.over_ms else "alert.begun", alert=kind, host=news.values.get("host"))


def lookout(parts: Parts, chat_api: ChatApi, shares: Shares) -> Lookout:
    """All that is looked at by a process that asks chat APIs. ``shares``: how much of each limit on all customers
    together is used."""
    settle, settings = parts.timing.settle, parts.settings

    async def chat_apis() -> list[Sight]:
        return chat_api_sights(chat_api.conditions(), parts.timing.outage, settle)

    async def budget() -> list[Sight]:
        return budget_sights(await shares(), settle)

    async def memory() -> list[Sight]:
        return [Sight("memory", await memory_share(parts.store) >= _MEMORY, hold_seconds=settle)]

    async def disk() -> list[Sight]:
        return [Sight("disk", await asyncio.to_thread(is_short, settings.data_dir), hold_seconds=settle)]

    async def queue() -> list[Sight]:
        if chat_api.down_seconds():
            return [Sight("queue", None)]  # whatever waits longer now waits for the chat API
        old = await unclaimed_seconds(parts.store, parts.keys, _QUEUE_SECONDS)
        return [Sight("queue", old > 0, lasts_seconds=max(0.0, old - _QUEUE_SECONDS), hold_seconds=settle)]

    sources = [
        Source(frozenset({"down", "endpoint", *_REASONS.values()}), chat_apis),
        Source(frozenset({"budget", "limit"}), budget),
        Source(frozenset({"memory"}), memory),
        Source(frozenset({_TOKEN}), _Token(parts.telegram, settle)),
        Source(frozenset({"queue"}), queue),
    ]
    if parts.alone:  # the embedded store: its disk is this machine's
        sources.append(Source(frozenset({"disk"}), disk))
    return Lookout(
        alerts=Alerts(parts.store, parts.keys),
        post=parts.post,
        metrics=parts.metrics,
        operators=settings.operator_ids,
        sources=sources,
        timing=parts.timing,
    )


def chat_api_sights(conditions: Sequence[Condition], outage_seconds: float, hold_seconds: float) -> list[Sight]:
    """Of all chat APIs together, and of each. What one of them says of itself stands for its being down, too."""
    down = all(one.down_seconds for one in conditions)
    works = [one.age_seconds for one in conditions if one.works]
    on, age = (False, min(works)) if works else (None, 0.0)
    lasts = min(one.down_seconds for one in conditions)
    if down and lasts >= outage_seconds and any(one.reason is None for one in conditions):
        on, age = True, max(one.age_seconds for one in conditions)
    found = [Sight("down", on, lasts, age, hold_seconds)]
    for one in conditions:
        away = not down and one.reason is None and one.down_seconds >= outage_seconds
        wrong = {"endpoint": away} | {kind: one.reason is reason for reason, kind in _REASONS.items()}
        values = {"host": one.host, "all": "1" if down else ""}
        for kind, on in wrong.items():
            seen = True if on else False if one.works else None
            found.append(Sight(f"{kind}:{one.mark}", seen, one.down_seconds, one.age_seconds, hold_seconds, values))
    return found


def budget_sights(shares: Mapping[Any, float], hold_seconds: float) -> list[Sight]:
    """Of limits as settings write them. What is used of a minute grows and is gone all the time: only the end of it is
    news, and it must be over for longer."""
    found = []
    for limit, share in shares.items():
        name, brief = str(limit), str(limit).endswith("/minute")
        hold = hold_seconds * _LONGER if brief else hold_seconds
        found.append(Sight(f"limit:{name}", share >= 1, 0.0, 0.0, hold, {"limit": name, "share": "100 %"}))
        if not brief:
            near = None if share >= 1 else share >= _NEAR
            found.append(Sight(f"budget:{name}", near, 0.0, 0.0, hold, {"limit": name, "share": "80 %"}))
    return found


def is_short(folder: Path) -> bool:
    """Whether little is free on the disk of a folder. Raises OSError."""
    usage = shutil.disk_usage(folder)
    return usage.free < max(_DISK_BYTES, usage.total * _DISK)


class _Token:
    """Asks Telegram now and then whether it knows the token: with a webhook nothing else would tell."""

    def __init__(self, telegram: TelegramClient, hold_seconds: float) -> None:
        self._telegram = telegram
        self._hold = hold_seconds
        self._looks = 0

    async def __call__(self) -> list[Sight]:
        self._looks += 1
        works = await self._works() if self._looks % _TOKEN_LOOKS == 0 else None
        return [Sight(_TOKEN, None if works is None else not works, hold_seconds=self._hold)]

    async def _works(self) -> bool | None:
        try:
            await self._telegram.call("getMe", {}, seconds=_TOKEN_SECONDS)
        except TelegramUnauthorizedError:
            return False
        except TelegramRefusedError as error:
            return False if error.code == 404 else None
        except TelegramError:
            return None
        return True


def told(name: str, values: Mapping[str, Any], words: Words, language: str) -> str:
    """What an operator reads: ``name`` and ``values`` as the letter brings them."""
    since, over = int(values["since_ms"]), int(values["over_ms"])
    minutes = max(1, round((over - since) / 60_000))
    filled = {**values, "since": _moment(since), "until": _moment(over), "minutes": minutes}
    parts = [Sentence((_ENDS if over else _BEGINS)[name], filled)]
    if not over and name in {"endpoint", *_REASONS.values()}:
        parts.append(Sentence(texts.ALERT_WAITING if values.get("all") else texts.ALERT_OTHERS))
    return " ".join(words.say(part, language) for part in parts)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _kind(name: str) -> str:
    return name.partition(":")[0]

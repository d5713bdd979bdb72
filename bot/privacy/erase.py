"""Forgetting: the keys first, then what they sealed, then a receipt.

It begins with one script that raises the chat's epoch, so that nothing in flight can write under the old one, and
leaves a plan in the chat: names of keys and numbers, no content. Whoever claims the chat next goes on with the plan
until the receipt is said. Every step may be done twice: numbers of conversations and epochs are never used again.

One exchange alone goes the same way: what its key sealed besides is sealed anew first, under a key made for that.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bot import texts
from bot.conversation.deeds import ALL, ONE, Outcome
from bot.conversation.intents import Act
from bot.conversation.notebook import Notebook
from bot.conversation.post import mail_bound
from bot.conversation.remotes import GIVEN_UP_DAYS, Remotes
from bot.conversation.window import Window, turn_bound
from bot.texts import Sentence
from storage.errors import SealBrokenError
from storage.history import REMOVED, History, StoredTurn
from storage.inbox import Mail
from storage.journal import DAY_MS, Change, ChatState, Journal
from storage.keynames import day_of, last_day, mail_group, mail_key, talk_groups, talk_key
from storage.receipts import Receipt, Receipts
from storage.vault import Vault

DUE_DAYS: Final = 30
"""By when a request must be met: a month (GDPR, Article 12(3)); the CCPA gives 45 days."""

_PAGE: Final = 200
_SCOPES: Final = {ALL: "everything", ONE: "exchange"}


@dataclass(frozen=True, slots=True)
class Reach:
    """How long copies may stay that nobody can reach any more: those of the keyring, in days."""

    key_backup_days: int


class Eraser:
    """Carries out confirmed forgets. Raises StorageError."""

    def __init__(
        self,
        journal: Journal,
        window: Window,
        vault: Vault,
        remotes: Remotes,
        notebook: Notebook,
        *,
        history: History,
        receipts: Receipts,
        reach: Reach,
    ) -> None:
        self._journal = journal
        self._window = window
        self._vault = vault
        self._remotes = remotes
        self._notebook = notebook
        self._history = history
        self._receipts = receipts
        self._reach = reach

    async def begin(
        self, state: ChatState, act: Act, *, source: int, read: int, beside: Sequence[Mail], language: str
    ) -> None:
        """From here on there is no way back. The first ``read`` items of the mailbox go with it, the press included,
        but for those ``beside`` it; what came after them stays, under the chat's next key. ``source``: the update that
        asks for it."""
        plan = await self._plan(state, act)
        receipt_id = act.receipt or self._receipts.id_of(state.ready.chat_id, source)
        plan |= {"language": language, "topic": act.topic, "user": act.user, "at": time.time()}
        plan |= {"receipt": receipt_id, "by": "operator" if act.receipt else "customer", "quiet": act.quiet}
        standing = await self._receipts.read(receipt_id)
        plan["asked"] = standing.asked_ms if standing else int(plan["at"] * 1000)
        # Before anything is asked of others, so that there is something to count it on.
        await self._receipts.put(state.ready.chat_id, self._receipt(plan))
        plan["remote"] = await self._remotes.condemn(state, _conversations(plan), receipt_id)
        while True:
            mail = await self._journal.mail(state)
            kept = [await self._anew(state, item) for item in (*beside, *mail[read:])]
            if await self._journal.erase(state, len(mail), kept, plan):
                return

    async def _anew(self, state: ChatState, item: Mail) -> Mail:
        """Mail as it reads in the chat's next epoch. A letter about another customer stays under that one's key."""
        chat_id, epoch = state.ready.chat_id, state.epoch
        key = await self._vault.key_of(item.sealed) if item.sealed else None
        if key is None:
            return item
        try:
            content = self._vault.open(key, item.sealed, mail_bound(chat_id, item.update_id, epoch))
        except SealBrokenError:
            return item  # told of in its turn
        received = item.received_ms / 1000
        if key == await self._vault.standing_key(chat_id, mail_key(epoch, received)):
            key = await self._vault.key(chat_id, mail_key(epoch + 1, received))
        return replace(item, sealed=self._vault.seal(key, content, mail_bound(chat_id, item.update_id, epoch + 1)))

    async def go_on(self, state: ChatState, plan: dict[str, Any]) -> None:
        """Destroys the keys, removes the turns, and notes that only the receipt is left."""
        if plan.get("done"):
            return
        chat_id = state.ready.chat_id
        if plan["scope"] == "exchange":
            topic, number, _ = plan["exchange"]
            await self._seal_others_anew(state, plan)
            await self._notebook.rebuild(state, topic, 0, conversation=number)
        # By name, and not whatever there is now: who sleeps here meets the keys of what was written since. Under keys
        # of these groups nothing is written any more, by the number of the conversation or by the epoch.
        marks = [bytes.fromhex(mark) for mark in plan["keys"]]
        await self._vault.destroy(chat_id, marks=marks, groups=plan["groups"])
        await self._journal.remove(state, [(topic, number) for topic, number in plan["turns"]])
        self._window.forget(chat_id)
        if plan["scope"] != "exchange":
            await self._notebook.remove(chat_id, _conversations(plan))
        await self._remotes.drop(state, _conversations(plan))
        await self._receipts.put(chat_id, self._receipt(plan, done_ms=int(time.time() * 1000)))
        await self._journal.erased(state, {**plan, "done": True}, plan["gone"])

    # ---- planning
    async def _plan(self, state: ChatState, act: Act) -> dict[str, Any]:
        if act.argument == ONE:
            return await self._plan_of_one(state, act)
        everything = act.argument == ALL
        topics = set(state.last) | set(state.conversation) | {0} if everything else {act.topic}
        found = [(topic, state.conversation_of(topic), state.last.get(topic, 0)) for topic in sorted(topics)]
        fresh = str(max([state.newest, state.base, *(number for _, number, _ in found)]) + 1)
        drop = [f"{name}:{topic}" for topic in sorted(topics) for name in ("n", "s", "r")]
        drop.append("waits")  # what is left of the mail may wait, too, and is told of it then
        if everything:
            found += await self._journal.past(state.ready.chat_id)
            found += [(topic, number, 0) for topic, number in state.coming]
            put = {"base": fresh, "newest": fresh}
            drop += [*(f"c:{topic}" for topic in sorted(topics)), *_OF_THE_CUSTOMER]
            drop += [f"i:{topic}:{number}" for topic, number in state.copies]
            drop += [f"offer:{name}" for name in state.offers]
        else:
            put = {f"c:{act.topic}": fresh, "newest": fresh}
        places = {(topic, number) for topic, number, _ in found}
        drop += [f"o:{topic}:{number}" for topic, number in places]
        drop += [f"g:{topic}:{number}:{day}" for topic, number, day in state.fresh if (topic, number) in places]
        # All there are, where everything goes: also those of topics in which nothing was answered yet. Whatever is
        # sealed from here on under a key that is not among them is refused, by the fence or by the epoch.
        put["tidy"] = ",".join(map(str, await self._own(state, None if everything else act.topic)))
        groups = [name for topic, number, _ in found for name in talk_groups(topic, number)]
        keys = await self._vault.marks(state.ready.chat_id, but=mail_group(state.epoch + 1)) if everything else []
        counts = {"exchanges": sum(turns for _, _, turns in found), "conversations": sum(1 for *_, n in found if n)}
        return {
            "scope": _SCOPES.get(act.argument, "conversation"),
            "keys": [mark.hex() for mark in keys],
            "groups": [mail_group(state.epoch), *groups],
            "turns": [(topic, number) for topic, number, _ in found],
            "counts": counts,
            "gone": "*" if everything else "",
            "set": put,
            "del": drop,
        }

    async def _plan_of_one(self, state: ChatState, act: Act) -> dict[str, Any]:
        """Of one exchange: its key goes, and the mail of the epoch, in which its question arrived."""
        topic, number, seq = act.topic, act.conversation, act.number
        turn = await self.exchange(state, topic, number, seq)
        day = last_day(turn.day if turn else day_of(time.time()))
        doomed = await self._sealer(state, (topic, number), turn) or talk_key(topic, number, day, state.fresh)
        anew = talk_key(topic, number, day, {(topic, number, day): state.fence})
        marks = await self._vault.marks(state.ready.chat_id, doomed)
        put = {f"g:{topic}:{number}:{day}": str(state.fence)}
        ids = turn.answer_ids if turn else ()
        return {
            "scope": "exchange",
            "exchange": [topic, number, seq],
            "doomed": doomed,
            "anew": anew,
            "keys": [mark.hex() for mark in marks],
            "groups": [mail_group(state.epoch)],
            "turns": [],
            "of": [(topic, number)],
            "counts": {"exchanges": 1},
            "gone": "",
            "set": put | {"tidy": ",".join(map(str, ids))},
            "del": [f"r:{topic}"],
        }

    async def _sealer(self, state: ChatState, place: tuple[int, int], turn: StoredTurn | None) -> str:
        """The name of the key that sealed a turn; "" where it is not known."""
        key = await self._vault.key_of(turn.record) if turn else None
        names = [talk_key(*place, turn.day, state.fresh), *talk_groups(*place)[1:]] if turn else []
        for name in names:
            if key is not None and await self._vault.standing_key(state.ready.chat_id, name) == key:
                return name
        return ""

    async def exchange(self, state: ChatState, topic: int, conversation: int, number: int) -> StoredTurn | None:
        """A stored turn; None where it is not there (any more)."""
        turns = await self._history.read(state.ready.chat_id, topic, conversation, number, number)
        return turns[0] if turns else None

    async def _seal_others_anew(self, state: ChatState, plan: dict[str, Any]) -> None:
        """What the exchange's key sealed besides it: the turns of its week, under a key of their own."""
        topic, number, gone = plan["exchange"]
        place = (state.ready.chat_id, topic, number)
        last = await self._last(state, topic, number)
        await self._journal.place(state, topic, number, [(gone, REMOVED)])
        doomed = await self._vault.standing_key(state.ready.chat_id, plan["doomed"])
        if doomed is None:
            return  # all of this was done before
        key = await self._vault.key(state.ready.chat_id, plan["anew"])
        for first in range(state.oldest.get((topic, number), 1), last + 1, _PAGE):
            anew = []
            for turn in await self._history.read(*place, first, min(first + _PAGE - 1, last)):
                if await self._vault.key_of(turn.record) != doomed:
                    continue
                bound = turn_bound(*place, turn.number)
                content = self._vault.open(doomed, turn.record, bound)
                anew.append((turn.number, replace(turn, record=self._vault.seal(key, content, bound)).packed()))
            await self._journal.place(state, topic, number, anew)

    async def _last(self, state: ChatState, topic: int, conversation: int) -> int:
        if conversation == state.conversation_of(topic):
            return state.last.get(topic, 0)
        past = await self._journal.past(state.ready.chat_id)
        return next((turns for of, number, turns in past if (of, number) == (topic, conversation)), 0)

    async def _own(self, state: ChatState, topic: int | None) -> list[int]:
        """Our messages that show what is forgotten: of one topic's conversation, or all."""
        owned = await self._journal.owned(state.ready.chat_id)
        if topic is None:
            return owned
        shown = set(await self._window.answers(state, topic))
        return [message_id for message_id in owned if message_id in shown]

    def _receipt(self, plan: dict[str, Any], done_ms: int = 0) -> Receipt:
        asked_ms, at_ms = plan["asked"], int(plan["at"] * 1000)
        beyond = {"telegram": 0, "processor_logs": 0, "key_backups": at_ms + self._reach.key_backup_days * DAY_MS}
        if plan.get("remote"):
            beyond["processor"] = at_ms + GIVEN_UP_DAYS * DAY_MS
        return Receipt(
            id=plan["receipt"],
            kind="erasure",
            by=plan["by"],
            asked_ms=asked_ms,
            due_ms=asked_ms + DUE_DAYS * DAY_MS,
            scope=plan["scope"],
            done_ms=done_ms,
            counts=plan["counts"],
            beyond=beyond,
            asked=plan.get("remote", 0),
        )


_OF_THE_CUSTOMER: Final = (
    "chosen", "language", "handed", "edits", "stopped", "rights", "keep", "warn", "warned",
    "coming", "awaits",
)  # fmt: skip
"""Fields of a chat that end with everything; numbers that must not be used again, and what was used, stay."""


def _conversations(plan: dict[str, Any]) -> list[tuple[int, int]] | None:
    """Those that are forgotten, wholly or in part, None for all."""
    return None if plan["gone"] == "*" else [(topic, number) for topic, number in plan.get("of") or plan["turns"]]


def receipt(plan: dict[str, Any], days: int) -> Outcome:
    """What was deleted and when, and what is out of reach; ``days``: until copies of keys are gone."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(plan["at"]))
    count = plan["counts"]["exchanges"]
    said = Sentence(texts.FORGOTTEN, {"when": when}, plural=texts.FORGOTTEN_MANY, count=count)
    buttons = (((texts.REMOVE_MINE, f"tidy:{plan['user']}"),),)
    change = Change(drop=["forget"])
    also = [texts.FORGOTTEN_REMOTE] if plan.get("remote") else []
    number = Sentence(texts.FORGOTTEN_RECEIPT, {"id": plan["receipt"], "days": days})
    return Outcome(said, (*also, texts.FORGOTTEN_MORE, number), buttons, change, language=plan["language"])

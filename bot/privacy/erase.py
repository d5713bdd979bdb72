"""Forgetting: the keys first, then what they sealed, then a receipt.

It begins with one script that raises the chat's epoch, so that nothing in flight can write under the old one, and
leaves a plan in the chat: names of keys and numbers, no content. Whoever claims the chat next goes on with the plan
until the receipt is said. Every step may be done twice: numbers of conversations and epochs are never used again.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bot import texts
from bot.conversation.deeds import ALL, Outcome
from bot.conversation.intents import Act
from bot.conversation.notebook import Notebook
from bot.conversation.post import mail_bound, mail_key
from bot.conversation.remotes import Remotes
from bot.conversation.window import Window, talk_key
from bot.texts import Sentence
from storage.errors import SealBrokenError
from storage.inbox import Mail
from storage.journal import Change, ChatState, Journal
from storage.vault import Vault


class Eraser:
    """Carries out confirmed forgets. Raises StorageError."""

    def __init__(self, journal: Journal, window: Window, vault: Vault, remotes: Remotes, notebook: Notebook) -> None:
        self._journal = journal
        self._window = window
        self._vault = vault
        self._remotes = remotes
        self._notebook = notebook

    async def begin(self, state: ChatState, act: Act, read: int, beside: Sequence[Mail], language: str) -> None:
        """From here on there is no way back. The first ``read`` items of the mailbox go with it, the press included,
        but for those ``beside`` it; what came after them stays, under the chat's next key."""
        plan = await self._plan(state, act)
        plan |= {"language": language, "topic": act.topic, "user": act.user, "at": int(time.time())}
        plan["remote"] = await self._remotes.condemn(state, _conversations(plan))
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
        if key == await self._vault.standing_key(chat_id, mail_key(epoch)):
            key = await self._vault.key(chat_id, mail_key(epoch + 1))
        return replace(item, sealed=self._vault.seal(key, content, mail_bound(chat_id, item.update_id, epoch + 1)))

    async def go_on(self, state: ChatState, plan: dict[str, Any]) -> None:
        """Destroys the keys, removes the turns, and notes that only the receipt is left."""
        if plan.get("done"):
            return
        chat_id = state.ready.chat_id
        # By name, and not whatever there is now: who sleeps here meets the keys of what was written since.
        if plan["keys"]:
            await self._vault.destroy(chat_id, marks=[bytes.fromhex(mark) for mark in plan["keys"]])
        await self._journal.remove(state, [(topic, number) for topic, number in plan["turns"]])
        self._window.forget(chat_id)
        await self._notebook.remove(state.ready.chat_id, _conversations(plan))
        await self._remotes.drop(state, _conversations(plan))
        await self._journal.erased(state, {**plan, "done": True}, plan["gone"])

    async def _plan(self, state: ChatState, act: Act) -> dict[str, Any]:
        topics = set(state.last) | set(state.conversation) | {0} if act.argument == ALL else {act.topic}
        found = [(topic, state.conversation_of(topic), state.last.get(topic, 0)) for topic in sorted(topics)]
        fresh = str(max([state.newest, state.base, *(number for _, number, _ in found)]) + 1)
        drop = [f"{name}:{topic}" for topic in sorted(topics) for name in ("n", "s", "r")]
        drop.append("waits")  # what is left of the mail may wait, too, and is told of it then
        if act.argument == ALL:
            found += await self._journal.past(state.ready.chat_id)
            put = {"base": fresh, "newest": fresh}
            drop += [*(f"c:{topic}" for topic in sorted(topics)), "chosen", "language", "handed", "edits", "stopped"]
        else:
            put = {f"c:{act.topic}": fresh, "newest": fresh}
        # All there are, where everything goes: also those of topics in which nothing was answered yet. Whatever is
        # sealed from here on under a key that is not among them is refused, by the fence or by the epoch.
        put["tidy"] = ",".join(map(str, await self._own(state, None if act.argument == ALL else act.topic)))
        talks = [] if act.argument == ALL else [talk_key(topic, number) for topic, number, _ in found]
        names = [mail_key(state.epoch), *talks] if talks else []
        keys = await self._vault.marks(state.ready.chat_id, *names, but=mail_key(state.epoch + 1))
        return {
            "keys": [mark.hex() for mark in keys],
            "turns": [(topic, number) for topic, number, _ in found],
            "count": sum(turns for _, _, turns in found),
            "gone": "*" if act.argument == ALL else "",
            "set": put,
            "del": drop,
        }

    async def _own(self, state: ChatState, topic: int | None) -> list[int]:
        """Our messages that show what is forgotten: of one topic's conversation, or all."""
        owned = await self._journal.owned(state.ready.chat_id)
        if topic is None:
            return owned
        shown = set(await self._window.answers(state, topic))
        return [message_id for message_id in owned if message_id in shown]


def _conversations(plan: dict[str, Any]) -> list[tuple[int, int]] | None:
    """Those that are forgotten, None for all."""
    return None if plan["gone"] == "*" else [(topic, number) for topic, number in plan["turns"]]


def receipt(plan: dict[str, Any]) -> Outcome:
    """What was deleted and when, and what is out of reach."""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(plan["at"]))
    said = Sentence(texts.FORGOTTEN, {"when": when}, plural=texts.FORGOTTEN_MANY, count=plan["count"])
    buttons = (((texts.REMOVE_MINE, f"tidy:{plan['user']}"),),)
    change = Change(drop=["forget"])
    also = (texts.FORGOTTEN_REMOTE,) if plan.get("remote") else ()
    return Outcome(said, (*also, texts.FORGOTTEN_MORE), buttons, change, language=plan["language"])

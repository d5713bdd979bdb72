"""The customers of a crash test: they write, in bursts too, send stickers, edit, and wait for what they are owed."""

import asyncio
import random
from itertools import count
from typing import Final

from bot.sandbox import TelegramServer
from tests.crash.judge import Item, View
from tests.crash.model import BOLD, LONG, VERY_LONG, Model
from tests.crash.stage import until

SUPERGROUP: Final = -1_001_000_000_000
GROUP: Final = -7_000
_STICKER: Final = {
    "sticker": {
        "file_id": "s", "file_unique_id": "u", "type": "regular", "width": 1, "height": 1,
        "is_animated": False, "is_video": False,
    }
}  # fmt: skip
_PATIENCE_SECONDS: Final = 5.0
_markers = count(1)


class Crowd:
    """The customers of one bot, and the record of what they sent."""

    def __init__(self, telegram: TelegramServer, token: str, model: Model, seed: int) -> None:
        self._telegram = telegram
        self._token = token
        self._model = model
        self._random = random.Random(seed)
        self.items: dict[int, list[Item]] = {}
        self.leaving = False

    def ask(self, chat_id: int, words: str = "please") -> Item:
        """One question."""
        marker = f"Q{next(_markers)}Q"
        return self._write(chat_id, f"{marker} {words}", marker)

    def stick(self, chat_id: int) -> Item:
        """A sticker, which gets a notice."""
        return self._write(chat_id, None, "")

    def edit(self, chat_id: int, item: Item) -> None:
        """Other words to the same question."""
        text = f"{item.marker} please, in other words {self._random.randrange(1000)}"
        self._telegram.customer_edits(chat_id, item.message_id, text, bot=self._token)

    def _write(self, chat_id: int, text: str | None, marker: str) -> Item:
        kind = "private" if chat_id > 0 else "supergroup" if chat_id <= SUPERGROUP else "group"
        extra = None if marker else _STICKER
        message_id = self._telegram.customer_writes(chat_id, text, chat_type=kind, extra=extra, bot=self._token)
        item = Item(message_id, "question" if marker else "sticker", marker)
        self.items.setdefault(chat_id, []).append(item)
        return item

    async def live(self, chat_id: int) -> None:
        """A customer, until ``leaving``: mostly patient, sometimes not."""
        draw = self._random
        await asyncio.sleep(draw.random() * 0.5)
        while not self.leaving:
            kind = draw.random()
            if kind < 0.45:
                self.ask(chat_id, draw.choice(("please", "please", BOLD)))
            elif kind < 0.60:
                for _ in range(draw.randint(2, 4)):
                    self.ask(chat_id)
            elif kind < 0.72:
                self.ask(chat_id, draw.choice((LONG, LONG, VERY_LONG)))
            elif kind < 0.84:
                item = self.ask(chat_id)
                await asyncio.sleep(draw.random() * 0.4)
                self.edit(chat_id, item)
            else:
                self.stick(chat_id)
                if draw.random() < 0.5:
                    self.ask(chat_id)
            patience = _PATIENCE_SECONDS if draw.random() < 0.8 else draw.random()
            await until(lambda: self.leaving or self.answered(chat_id), patience, every=0.05)
            await asyncio.sleep(draw.random() * 0.3)

    def answered(self, chat_id: int) -> bool:
        """Whether the last message of the customer has its outcome, as far as the customer can tell."""
        last = self.items[chat_id][-1]
        for message in reversed(self._telegram.messages(chat_id, bot=self._token)):
            if message.message_id <= last.message_id:
                return False
            if not message.from_bot:
                continue
            made = self._model.pieces.get((message.text or "").strip())
            if made is None or last.marker in made[0].markers:
                return True
        return False

    def all_answered(self) -> bool:
        return all(map(self.answered, self.items))

    def views(self) -> list[View]:
        """What the customers saw, everything deleted included."""
        return [
            View(
                chat_id,
                list(items),
                self._telegram.messages(chat_id, deleted=True, bot=self._token),
                self._telegram.draft(chat_id, bot=self._token),
            )
            for chat_id, items in self.items.items()
        ]

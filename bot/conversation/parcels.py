"""An export on its way out: what is journaled of it, and the documents that are made of that."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

from bot import texts
from bot.conversation.record import Record
from bot.delivery.lane import Parcel
from bot.delivery.telegram import Upload
from bot.privacy.archive import archive, file_name
from bot.privacy.export import Exporter, about_part
from bot.texts import Sentence, Words, language_of
from storage.journal import ChatState

_PLAN: Final = "export"


class Parcels:
    """Documents of an export, one for each part. Raises StorageError."""

    def __init__(self, exporter: Exporter, words: Words, bot: str) -> None:
        self._exporter = exporter
        self._words = words
        self._bot = bot

    async def plan(self, state: ChatState, language: str) -> Record | None:
        """What an export made now will hold; None when nothing is kept."""
        parts = await self._exporter.plan(state)
        if not parts:
            return None
        plan = {"parts": parts, "made": int(time.time()), "language": language}
        return Record((), "", plain=True, more={_PLAN: plan})

    def of(self, state: ChatState, record: Record) -> list[Parcel]:
        """The documents of a planned export; none for any other record."""
        plan = record.more.get(_PLAN)
        return [self._parcel(state, plan, part) for part in range(1, len(plan["parts"]) + 1)] if plan else []

    def _parcel(self, state: ChatState, plan: dict[str, Any], part: int) -> Parcel:
        parts, language = plan["parts"], plan["language"]
        about = about_part(plan, part, bot=self._bot, chat_id=state.ready.chat_id, language=language_of(language))
        said = (
            Sentence(texts.EXPORT_PART, {"part": part, "parts": len(parts)}) if len(parts) > 1 else texts.EXPORT_CAPTION
        )
        extent = [tuple(run) for run in parts[part - 1]]

        def chunks() -> AsyncIterator[bytes]:
            return archive(about, partial(self._exporter.entries, state, extent), partial(self._say, language))

        return Parcel(self._words.say(said, language), Upload("document", file_name(about), chunks))

    def _say(self, language: str, text: str) -> str:
        return self._words.worded(text, language)

"""An export on its way out: what is journaled of it, and the documents that are made of that."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from bot import texts
from bot.conversation.record import Record
from bot.delivery.lane import Parcel
from bot.delivery.telegram import Upload
from bot.privacy.archive import archive, file_name
from bot.privacy.content import Account
from bot.privacy.export import Exporter, about_part
from bot.privacy.seal import Seal
from bot.texts import Sentence, Words, language_of
from storage.journal import ChatState

_PLAN: Final = "export"


@dataclass(frozen=True, slots=True)
class Maker:
    """Who makes an export: the bot by its name and id, and what this installation signs with."""

    name: str
    bot_id: int
    seal: Seal


class Parcels:
    """Documents of an export, one for each part. Raises StorageError."""

    def __init__(
        self, exporter: Exporter, words: Words, account: Callable[[ChatState], Awaitable[Account]], maker: Maker
    ) -> None:
        self._exporter = exporter
        self._words = words
        self._account = account
        self._maker = maker

    async def plan(self, state: ChatState, language: str) -> Record | None:
        """What an export made now will hold; None when nothing is kept."""
        parts = await self._exporter.plan(state)
        if not parts:
            account = await self._account(state)
            if not account.consents and not account.receipts:
                return None
            parts = [[]]  # no conversation, and yet something
        plan = {"parts": parts, "made": int(time.time()), "language": language}
        return Record((), "", plain=True, more={_PLAN: plan})

    @staticmethod
    def turns(record: Record) -> int:
        """How many turns a planned export holds."""
        return sum(last - first + 1 for part in record.more[_PLAN]["parts"] for _, _, first, last in part)

    def of(self, state: ChatState, record: Record) -> list[Parcel]:
        """The documents of a planned export; none for any other record."""
        plan = record.more.get(_PLAN)
        return [self._parcel(state, plan, part) for part in range(1, len(plan["parts"]) + 1)] if plan else []

    def _parcel(self, state: ChatState, plan: dict[str, Any], part: int) -> Parcel:
        parts, language = plan["parts"], plan["language"]
        chat_id, maker = state.ready.chat_id, self._maker
        about = about_part(plan, part, bot=maker.name, chat_id=chat_id, language=language_of(language))
        about = replace(about, bot_id=maker.bot_id)
        said = (
            Sentence(texts.EXPORT_PART, {"part": part, "parts": len(parts)}) if len(parts) > 1 else texts.EXPORT_CAPTION
        )
        extent = [tuple(run) for run in parts[part - 1]]

        async def chunks() -> AsyncIterator[bytes]:
            account = await self._account(state)
            entries, say = partial(self._exporter.entries, state, extent), partial(self._say, language)
            async with aclosing(archive(about, entries, say, account=account, seal=maker.seal)) as made:
                async for chunk in made:
                    yield chunk

        return Parcel(self._words.say(said, language), Upload("document", file_name(about), chunks))

    def _say(self, language: str, text: str) -> str:
        return self._words.worded(text, language)

"""/import: an archive comes back. First it is looked at, then the customer is asked, then it is fetched and taken in.

Between the two nothing of it is kept here but Telegram's name for the file.
"""

import base64
import hashlib
import time
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import orjson

from bot import texts
from bot.conversation.batch import Batch
from bot.conversation.calls import Calls
from bot.conversation.control import Watch
from bot.conversation.deeds import CONFIRM_SECONDS, Outcome, is_in_time
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Letter
from bot.conversation.speaker import Speaker
from bot.errors import TelegramError, TelegramRefusedError
from bot.logs import get_logger
from bot.privacy.erase import DUE_DAYS
from bot.privacy.importer import Taken, Weighed
from bot.privacy.intake import MOST_BYTES, IntakeError, Reason
from bot.texts import Sentence
from storage.errors import SealBrokenError
from storage.journal import DAY_MS, Change, ChatState
from storage.keynames import RIGHTS
from storage.receipts import Receipt

_COMMAND: Final = "/import"
_REFUSALS: Final = {
    Reason.NOT_WHOLE: texts.IMPORT_NOT_WHOLE,
    Reason.UNSAFE: texts.IMPORT_UNSAFE,
    Reason.DAMAGED: texts.IMPORT_DAMAGED,
    Reason.NEWER: texts.IMPORT_NEWER,
    Reason.FOREIGN: texts.IMPORT_FOREIGN,
    Reason.FORGED: texts.IMPORT_FORGED,
    Reason.NOT_YOURS: texts.IMPORT_NOT_YOURS,
}
_Result = TypeVar("_Result")
_log = get_logger(__name__)


class _RefusedError(Exception):
    """The file is not taken; the sentence says why."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class Imports:
    """Each step ends its turn. Raises StaleFenceError, LaterError, StorageError, CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker, calls: Calls) -> None:
        self._desk = desk
        self._speaker = speaker
        self._calls = calls

    def is_due(self, state: ChatState, batch: Batch) -> bool:
        """Whether what came is an archive to look at: a file after /import, or one with that as its caption."""
        question = batch.questions[0]
        asked = question.text.strip().lower().startswith(_COMMAND)
        return bool(question.file) and state.ready.chat_id > 0 and (asked or state.awaits_file)

    async def weigh(self, state: ChatState, batch: Batch, watch: Watch) -> None:
        """Looks at a file, says what is in it, and asks."""
        question = batch.questions[0]
        try:
            if question.file_bytes > MOST_BYTES:
                raise _RefusedError(texts.IMPORT_TOO_LARGE)
            content = await self._fetched(question.file)
            work = self._desk.importer.weigh(state, content)
            weighed = await self._shown_busy(state, batch, watch, work)
        except _RefusedError as refused:
            await self._speaker.tell(state, batch, Outcome(refused.sentence))
            return
        offer = {"file": question.file, "sha256": hashlib.sha256(content).hexdigest()}
        await self._speaker.tell(state, batch, await self._asked(state, weighed, offer))

    async def press(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> None:
        """/import itself, or a button under what it came to."""
        if not act.argument:
            awaits = Change({"awaits": str(state.now_ms)})
            asked = Outcome(texts.IMPORT_ASK, change=awaits) if act.private else Outcome(texts.IMPORT_PRIVATE)
            await self._speaker.tell(state, batch, asked)
            return
        name = f"{act.until}:{act.number}"
        offer = await self._offered(state, name)
        if act.by != act.user:
            await self._speaker.tell(state, batch, Outcome(texts.NOT_YOURS))
        elif offer is None or not is_in_time(act, batch.received_ms):
            await self._speaker.tell(state, batch, Outcome(texts.IMPORT_EXPIRED))
        elif act.argument not in {"fresh", "all"}:
            await self._speaker.tell(
                state, batch, Outcome(texts.IMPORT_CANCELLED, change=Change(drop=[f"offer:{name}"]))
            )
        else:
            await self._take(state, batch, act, watch, offer)

    async def carry_out(self, state: ChatState, batch: Batch, letter: Letter) -> None:
        """An archive that whoever runs the service handed in: what the customer had deleted stays out."""
        staging, chat_id = self._desk.staging, state.ready.chat_id
        content = await staging.read(chat_id, letter.name)
        if content is None:
            await self._desk.journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate)
            return
        try:
            taken = await self._desk.importer.take(state, content, forgotten=False)
        except IntakeError as error:
            _log.warning("import.refused", reason=error.reason.value)
            await self._desk.journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate)
            return
        standing = await self._desk.receipts.read(letter.name)
        asked_ms = standing.asked_ms if standing else state.now_ms
        await self._note(state, letter.name, "operator", asked_ms, taken.weighed.counts(forgotten=False))
        values = {"taken": taken.weighed.fresh, "id": letter.name}
        await self._speaker.tell(state, batch, Outcome(Sentence(texts.IMPORT_BY_TEAM, values), change=taken.change))
        await staging.drop(chat_id, letter.name)

    async def _take(self, state: ChatState, batch: Batch, act: Act, watch: Watch, offer: dict[str, Any]) -> None:
        forgotten = act.argument == "all"
        try:
            content = await self._fetched(offer["file"])
            if hashlib.sha256(content).hexdigest() != offer["sha256"]:
                raise _RefusedError(texts.IMPORT_EXPIRED)
            work = self._desk.importer.take(state, content, forgotten=forgotten)
            taken: Taken = await self._shown_busy(state, batch, watch, work)
        except _RefusedError as refused:
            await self._speaker.tell(state, batch, Outcome(refused.sentence))
            return
        receipt_id = self._desk.receipts.id_of(state.ready.chat_id, batch.last)
        counts = taken.weighed.counts(forgotten=forgotten)
        await self._note(state, receipt_id, "customer", batch.received_ms, counts)
        values = {"taken": counts["exchanges"], "id": receipt_id}
        taken.change.drop.append(f"offer:{act.until}:{act.number}")
        await self._speaker.tell(state, batch, Outcome(Sentence(texts.IMPORT_DONE, values), change=taken.change))

    async def _note(self, state: ChatState, receipt_id: str, by: str, asked_ms: int, counts: dict[str, int]) -> None:
        due_ms = asked_ms + DUE_DAYS * DAY_MS
        note = Receipt(receipt_id, "import", by, asked_ms, due_ms, done_ms=state.now_ms, counts=counts)
        await self._desk.receipts.put(state.ready.chat_id, note)

    # ---- the file
    async def _fetched(self, file_id: str) -> bytes:
        try:
            return await self._desk.telegram.download(file_id, MOST_BYTES)
        except TelegramRefusedError as error:
            large = error.code == 413 or "too big" in error.description
            raise _RefusedError(texts.IMPORT_TOO_LARGE if large else texts.IMPORT_UNFETCHED) from error
        except TelegramError as error:
            _log.info("import.unfetched", error=str(error))
            raise _RefusedError(texts.IMPORT_UNFETCHED) from error

    async def _shown_busy(self, state: ChatState, batch: Batch, watch: Watch, work: Awaitable[_Result]) -> _Result:
        """What the work comes to, which a confirmed deletion ends."""
        preview = self._speaker.preview(state, batch.topic)
        preview.start()
        try:
            return await self._calls.unless_called(state, watch, batch.take, batch.topic, work, only_erase=True)
        except IntakeError as error:
            _log.info("import.refused", reason=error.reason.value)
            raise _RefusedError(_REFUSALS[error.reason]) from error
        finally:
            await preview.close()

    # ---- asking
    async def _asked(self, state: ChatState, weighed: Weighed, offer: dict[str, str]) -> Outcome:
        values = {"here": weighed.here, "expired": weighed.expired}
        forgotten, fresh = weighed.forgotten, weighed.fresh
        if not fresh and not forgotten:
            return Outcome(Sentence(texts.IMPORT_NOTHING, values))
        values |= {"fresh": fresh, "total": fresh + forgotten + weighed.here + weighed.expired}
        dates = {"first": _date(weighed.earliest_s), "last": _date(weighed.latest_s)}
        now = int(time.time())
        name = f"{now + CONFIRM_SECONDS}:{state.fence}"
        bound = f"{state.ready.chat_id}:{name}"
        rows: list[tuple[tuple[Sentence | str, str], ...]] = []
        if fresh:
            rows.append(((Sentence(texts.IMPORT_TAKE, {"fresh": fresh}), f"import:fresh:{bound}"),))
        if forgotten:
            rows.append(((Sentence(texts.IMPORT_TAKE_ALL, {"all": fresh + forgotten}), f"import:all:{bound}"),))
        rows.append(((texts.FORGET_CANCEL, f"import:no:{bound}"),))
        also = (Sentence(texts.IMPORT_FORGOTTEN, {"forgotten": forgotten}),) if forgotten else ()
        over = [f"offer:{name}" for name in state.offers if int(name.partition(":")[0]) < now]
        change = Change({f"offer:{name}": await self._sealed(state, offer)}, over)
        return Outcome(Sentence(texts.IMPORT_OFFER, {**values, **dates}), also, tuple(rows), change)

    async def _sealed(self, state: ChatState, offer: dict[str, str]) -> str:
        chat_id, vault = state.ready.chat_id, self._desk.vault
        key = await vault.key(chat_id, RIGHTS)
        return base64.b64encode(vault.seal(key, orjson.dumps(offer), f"{chat_id}|offer")).decode()

    async def _offered(self, state: ChatState, name: str) -> dict[str, Any] | None:
        """The archive that was asked about; None where that was taken in, or forgotten, since."""
        try:
            sealed = base64.b64decode(state.offers.get(name, b""))
            offer: dict[str, Any] = orjson.loads(
                await self._desk.vault.open_any(sealed, f"{state.ready.chat_id}|offer")
            )
        except (SealBrokenError, ValueError):
            return None
        return offer


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds)) if seconds else "?"

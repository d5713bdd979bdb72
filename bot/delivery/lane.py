"""The protocol behind "one visible answer": the only way by which a turn's words reach a chat.

``sendMessage`` has no idempotency key, a process can die or freeze at any instruction, and a request that was cut off
may still be accepted seconds later. So every send is journaled before it is made and checked again in the moment of
the write; every reply is registered whatever the fence, the first one wins and a later one deletes its own message; and
where a send's fate is unknown, the chat is probed for the message before it is sent again, and swept for a late copy
afterwards.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bot.delivery.form import Piece
from bot.delivery.pace import Pace
from bot.delivery.probe import Probe
from bot.delivery.telegram import TelegramClient, Upload, checked_within
from bot.errors import (
    TelegramBlockedError,
    TelegramError,
    TelegramRefusedError,
    TelegramRetryAfterError,
    TelegramUncertainError,
    TelegramUnreachableError,
)
from bot.logs import get_logger
from bot.metrics import Metrics
from bot.timing import Timing
from storage.journal import ChatState, Fate, Journal, OpenTurn, Planned, StaleFenceError
from storage.marks import Marks

_LONGEST_WAIT_SECONDS: Final = 20.0
_SLOWEST_RETRY_SECONDS: Final = 10.0
_REVISIONS: Final = 3
_log = get_logger(__name__)


class LaterError(Exception):
    """The chat must wait ``seconds``; what is journaled stays journaled."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)


class UndeliverableError(Exception):
    """Telegram will not take this message into this chat, in any form."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A document with its caption."""

    caption: str
    file: Upload


@dataclass(frozen=True, slots=True)
class Copy:
    """A message of another chat, of whatever kind; ``instead`` is said where Telegram does not copy it."""

    chat_id: int
    message_id: int
    instead: str


@dataclass(frozen=True, slots=True)
class Say:
    """A turn on its way out: its journal, its messages, and how it ends.

    ``take``: items of the mailbox it covers; ``above``: the highest message id of the questions, 0 if there is none;
    ``markup``: the keyboard under the last message; ``undelivered``: told before the turn ends where Telegram takes it
    in no form or the chat cannot be reached.
    """

    turn: str
    planned: Planned | None
    pieces: Sequence[Piece | Parcel | Copy]
    take: int
    topic: int
    marker: bool
    first: int | None = None
    reply_to: int = 0
    above: int = 0
    fate: Fate = Fate.SAID
    markup: dict[str, Any] | None = None
    undelivered: Callable[[Fate], Awaitable[None]] | None = None


class Lane:
    """Sends turns into one chat at a time, in order. Raises StaleFenceError, LaterError."""

    def __init__(
        self,
        *,
        telegram: TelegramClient,
        journal: Journal,
        marks: Marks,
        pace: Pace,
        metrics: Metrics,
        timing: Timing,
        by_markup: bool = True,
    ) -> None:
        """``by_markup``: how a lost reply's message is looked for, see ``Probe``."""
        self._timing = timing
        self._telegram = telegram
        self._journal = journal
        self._marks = marks
        self._pace = pace
        self._metrics = metrics
        self._probe = Probe(telegram, marks, metrics, timing, by_markup=by_markup)

    async def say(self, state: ChatState, say: Say, opened: OpenTurn | None = None) -> Fate:
        """Sends what is not sent yet and finishes the turn; ``opened`` is what an earlier worker left of it."""
        known = dict(opened.message_ids) if opened else {}
        last = len(say.pieces) - 1
        fate = say.fate
        message_id = None
        if not say.pieces and opened is None:
            await self._journal.permit(state, say.turn, 0, say.above, say.planned)  # kept without a word
        try:
            for number in range(len(say.pieces)):
                if number in known:
                    message_id = known[number]
                    continue
                left = opened if opened and opened.piece == number else None
                message_id = await self._place(state, say, number, left)
                if number < last:
                    await self._register(state, say, number, message_id)
        except TelegramBlockedError:
            fate, message_id = Fate.BLOCKED, None
        except UndeliverableError:
            fate, message_id = Fate.UNDELIVERABLE, None
        if message_id is None and say.pieces and say.undelivered is not None:
            await say.undelivered(fate)
        return await self._finish(state, say, fate, last, message_id)

    async def sweep(self, state: ChatState, above: int) -> int:
        """Deletes messages of ours above a mark that no turn owns: late copies of cut-off sends. Returns how many."""
        found = 0
        for message_id in await self._probe.strays(state.ready.chat_id, above):
            # Registered under no turn, it can only lose: a reply that comes in later finds the tombstone.
            if not await self._journal.register(state, "-", 0, message_id):
                await self._lose(state, message_id)
                found += 1
        return found

    async def delete(self, chat_id: int, message_id: int) -> None:
        """Deletes a message that lost; on any doubt it stays on the list and the reaper tries again."""
        try:
            await self._telegram.call("deleteMessage", {"chat_id": chat_id, "message_id": message_id}, seconds=10)
        except TelegramRefusedError as error:
            if "not found" not in error.description:
                _log.warning("stray.kept", reason=str(error))
        except TelegramBlockedError:
            _log.info("stray.unreachable")
        except TelegramError:
            return
        await self._marks.discarded(chat_id, message_id)

    async def withdraw(self, chat_id: int, message_id: int) -> bool:
        """Deletes a message of ours that the customer wants gone; whether Telegram did (it does within 48 hours)."""
        for _ in range(3):
            try:
                await self._telegram.call("deleteMessage", {"chat_id": chat_id, "message_id": message_id}, seconds=10)
            except TelegramRetryAfterError as error:
                await asyncio.sleep(min(error.seconds, _LONGEST_WAIT_SECONDS))
            except TelegramError:
                return False
            else:
                return True
        return False

    async def revise(self, chat_id: int, message_id: int, piece: Piece | None, markup: dict[str, Any] | None) -> bool:
        """Changes a message of ours that stands: what it says and its buttons, or with None its buttons alone. Whether
        it shows that now. Harmless when it is done twice or late."""
        parameters: dict[str, Any] = {"chat_id": chat_id, "message_id": message_id}
        if piece is not None:
            parameters |= {"text": piece.text, "entities": piece.entities}
        if markup is not None:
            parameters["reply_markup"] = markup
        method = "editMessageReplyMarkup" if piece is None else "editMessageText"
        for _ in range(_REVISIONS):
            try:
                await self._telegram.call(method, parameters, seconds=10)
            except TelegramRetryAfterError as error:
                self._pace.mute(chat_id, error.seconds)
                await asyncio.sleep(min(error.seconds, _LONGEST_WAIT_SECONDS))
            except TelegramRefusedError as error:
                return "not modified" in error.description
            except TelegramError:
                continue
            else:
                return True
        return False

    async def _finish(self, state: ChatState, say: Say, fate: Fate, piece: int, message_id: int | None) -> Fate:
        owned = await self._journal.finish(
            state,
            take=say.take,
            turn=say.turn,
            topic=say.topic,
            piece=piece,
            message_id=message_id,
            first=say.first,
            marker=say.marker,
            fate=fate,
        )
        if message_id is not None:
            await self._settle_standing(state, message_id, owned=owned)
        return fate

    async def _register(self, state: ChatState, say: Say, number: int, message_id: int) -> None:
        owned = await self._journal.register(state, say.turn, number, message_id)
        await self._settle_standing(state, message_id, owned=owned)

    async def _settle_standing(self, state: ChatState, message_id: int, *, owned: bool) -> None:
        """A loser is deleted. An owner becomes known to all only now: known before it was registered, a message whose
        worker died in between would never be looked for."""
        if not owned:
            await self._lose(state, message_id)
            raise StaleFenceError
        self._marks.note(state.ready.chat_id, message_id)

    async def _lose(self, state: ChatState, message_id: int) -> None:
        """Deletes our own message: another copy of it won."""
        chat_id = state.ready.chat_id
        self._metrics.strays.inc()
        await self.delete(chat_id, message_id)

    async def _place(self, state: ChatState, say: Say, number: int, left: OpenTurn | None) -> int:
        """The id of the message that shows a piece, however many tries it takes."""
        chat_id = state.ready.chat_id
        if left is not None and left.sent_ms is not None:
            age = max(0.0, (state.now_ms - left.sent_ms) / 1000)
            found = await self._resolve(state, say, number, left.above, age, flight_over=False)
            if found is not None:
                return found
        attempt = _Attempt(say, number)
        while True:
            await self._pace.wait(chat_id, number)
            above = max(await self._marks.highest(chat_id), say.above)
            permit = await self._journal.permit(state, say.turn, number, above, say.planned)
            if permit.message_id is not None:
                return permit.message_id
            at = asyncio.get_running_loop().time()
            try:
                return await self._send(state, say, number, attempt)
            except TelegramUncertainError as error:
                self._metrics.uncertain_sends.inc()
                age = asyncio.get_running_loop().time() - at
                found = await self._resolve(state, say, number, permit.above, age, flight_over=error.flight_over)
                if found is not None:
                    return found
            except TelegramError as error:
                await self._journal.settle(state, say.turn)
                await self._after_refusal(chat_id, attempt, error)

    async def _send(self, state: ChatState, say: Say, number: int, attempt: "_Attempt") -> int:
        async def still_permitted() -> None:
            # A worker frozen between the journal and the write would send what another one has sent meanwhile.
            permit = await self._journal.permit(state, say.turn, number, 0, None, again=True)
            if permit.message_id is not None:
                raise _AlreadySentError(permit.message_id)

        now = asyncio.get_running_loop().time()
        guard = checked_within(self._timing.recheck, still_permitted, since=now)
        parameters, piece = attempt.parameters(state.ready.chat_id), attempt.piece
        try:
            if isinstance(piece, Parcel):
                reply = await self._telegram.upload("sendDocument", parameters, piece.file, guard=guard)
            else:
                reply = await self._telegram.call(attempt.method, parameters, guard=guard)
        except _AlreadySentError as error:
            return error.message_id
        if not isinstance(reply, dict) or "message_id" not in reply:
            raise TelegramUncertainError("a reply without a message", flight_over=True)
        return int(reply["message_id"])

    async def _after_refusal(self, chat_id: int, attempt: "_Attempt", error: TelegramError) -> None:
        """What a definite refusal means for the next try; raises where there is none."""
        attempt.refusals += 1
        if isinstance(error, TelegramRetryAfterError):
            self._metrics.flood_waits.inc()
            self._pace.close(chat_id, error.seconds)
            if error.seconds > _LONGEST_WAIT_SECONDS:
                raise LaterError(error.seconds) from error
            return
        if isinstance(error, TelegramUnreachableError):
            if attempt.refusals > 8:
                raise LaterError(_SLOWEST_RETRY_SECONDS) from error
            await asyncio.sleep(min(0.25 * 2**attempt.refusals, _SLOWEST_RETRY_SECONDS))
            return
        if isinstance(error, TelegramRefusedError):
            if attempt.simplify(error.description):
                return
            _log.warning("send.refused", reason=str(error))
            self._metrics.undeliverable.inc()
            raise UndeliverableError from error
        if isinstance(error, TelegramBlockedError):
            raise error
        raise LaterError(_SLOWEST_RETRY_SECONDS) from error

    async def _resolve(
        self, state: ChatState, say: Say, number: int, above: int, age: float, *, flight_over: bool
    ) -> int | None:
        """Looks for the message of a send whose fate is unknown; None when it has certainly not arrived so far."""
        attempt = _Attempt(say, number)

        async def ours() -> bool:
            permit = await self._journal.permit(state, say.turn, number, 0, None, again=True)
            return permit.message_id is None

        wait = None if flight_over else max(0.0, self._timing.flight - age)
        chat_id = state.ready.chat_id
        edit = partial(attempt.edit, chat_id)
        found = await self._probe.find(chat_id, above, edit, wait_seconds=wait, ours=ours)
        if found is not None:
            _log.info("send.adopted")
        return found


class _AlreadySentError(Exception):
    """Another worker registered the piece while we were about to write it."""

    def __init__(self, message_id: int) -> None:
        self.message_id = message_id
        super().__init__(message_id)


class _Attempt:
    """How a piece is sent, made simpler each time Telegram refuses the form."""

    def __init__(self, say: Say, number: int) -> None:
        self.piece = say.pieces[number]
        self._topic = say.topic
        self._reply_to = say.reply_to if number == 0 else 0
        self._markup = say.markup if number == len(say.pieces) - 1 else None
        self._plain = not isinstance(self.piece, Piece) or not self.piece.entities
        self._rich = self.piece.rich if isinstance(self.piece, Piece) else None
        self._copied = isinstance(self.piece, Copy)
        self.refusals = 0

    @property
    def method(self) -> str:
        if self._copied:
            return "copyMessage"
        return "sendRichMessage" if self._rich else "sendMessage"

    def parameters(self, chat_id: int) -> dict[str, Any]:
        parameters = {"chat_id": chat_id, **self._words()}
        if self._topic:
            parameters["message_thread_id"] = self._topic
        if self._reply_to:
            parameters["reply_parameters"] = {"message_id": self._reply_to, "allow_sending_without_reply": True}
        return parameters

    def edit(self, chat_id: int, message_id: int) -> tuple[str, dict[str, Any]]:
        """The call that leaves the message as it is, once it stands."""
        if self._copied:
            return "editMessageReplyMarkup", {"chat_id": chat_id, "message_id": message_id}
        method = "editMessageCaption" if isinstance(self.piece, Parcel) else "editMessageText"
        return method, {"chat_id": chat_id, "message_id": message_id, **self._words()}

    def simplify(self, description: str) -> bool:
        """Drops what the refusal names; False when nothing is left to drop."""
        lowered = description.lower()
        if self._topic and ("thread" in lowered or "topic" in lowered):
            self._topic = 0
        elif self._reply_to and "repl" in lowered:
            self._reply_to = 0
        elif self._copied:
            self._copied = False
        elif self._rich and "not found" not in lowered:
            self._rich = None
        elif not self._plain and "not found" not in lowered:
            self._plain = True
        else:
            return False
        return True

    def _words(self) -> dict[str, Any]:
        words: dict[str, Any]
        if isinstance(self.piece, Parcel):
            words = {"caption": self.piece.caption}
        elif isinstance(self.piece, Copy):
            words = {"text": self.piece.instead}
            if self._copied:
                words = {"from_chat_id": self.piece.chat_id, "message_id": self.piece.message_id}
        elif self._rich:
            words = {"rich_message": self._rich}
        else:
            words = {"text": self.piece.text, "link_preview_options": {"is_disabled": True}}
            if not self._plain:
                words["entities"] = self.piece.entities
        if self._markup is not None:
            words["reply_markup"] = self._markup
        return words

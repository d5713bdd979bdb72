"""What customers do with their own data: see it, take it home, bring it back, delete it, and say how long it stays.

What is shown and decided stands in ``bot.privacy``; here it becomes turns.
"""

import time
from typing import Final

from bot import texts
from bot.conversation import deeds
from bot.conversation.batch import MOST_MAIL, Batch
from bot.conversation.control import Watch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Deed, Notice
from bot.conversation.speaker import Plan, Speaker
from bot.privacy.erase import DUE_DAYS, receipt
from bot.privacy.screen import Facts, is_choice, receipts_told, screen
from bot.privacy.wishes import IMPROVEMENT, PROCESSING
from bot.texts import Sentence
from storage.journal import DAY_MS, Change, ChatState
from storage.receipts import Receipt

_DAY_SECONDS: Final = 86_400


class DataActs:
    """Each act ends its turn. Raises StaleFenceError, LaterError, StorageError, CalledAwayError."""

    def __init__(self, desk: Desk, speaker: Speaker) -> None:
        self._desk = desk
        self._journal = desk.journal
        self._speaker = speaker

    async def carry_out(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> bool:
        """Whether an act is one of these; then it is done."""
        match act.deed:
            case Deed.EXPORT:
                await self._export(state, batch, act, watch)
            case Deed.TIDY if act.by == act.user:
                await self._tidy(state, batch)
            case Deed.PRIVACY:
                await self._settings(state, batch, act)
            case Deed.FORGET if act.reply_to:
                await self._ask_about_one(state, batch, act)
            case Deed.ERASE if act.argument == deeds.ONE:
                await self._erase_one(state, batch, act)
            case Deed.AGED:
                await self._age(state, batch)
            case _:
                return False
        return True

    # ---- the settings
    async def _settings(self, state: ChatState, batch: Batch, act: Act) -> None:
        """/privacy, and the buttons under what it shows."""
        name, _, value = act.argument.partition(":")
        if name == "receipts":
            await self._speaker.tell(state, batch, receipts_told(await self._desk.receipts.of(state.ready.chat_id)))
            return
        if not await self._changed(state, name, value):
            await self._speaker.tell(state, batch, Outcome(texts.BUTTON_UNKNOWN))
            return
        shown = screen(await self._facts(state, private=act.private), await self._desk.consents.wishes(state))
        if name == "withdraw":
            await self._speaker.tell(state, batch, Outcome(texts.PRIVACY_WITHDRAWN))
        elif act.pressed and act.message_id:
            await self._speaker.revise(state, batch, act.message_id, shown)
        else:
            await self._speaker.tell(state, batch, shown)

    async def _changed(self, state: ChatState, name: str, value: str) -> bool:
        """Changes one setting at once, or none; False for what is no setting."""
        consents = self._desk.consents
        match name, value:
            case "", "":
                return True
            case "keep", days if days.isdecimal() and is_choice(int(days[:6]), self._journal.most_days):
                await self._keep(state, int(days))
            case "warn", "0" | "1":
                await self._journal.put(state, {"warn": "1"} if value == "1" else {}, [] if value == "1" else ["warn"])
                state.warns = value == "1"
                await self._journal.age(state, state.now_ms)
            case "improve", "0" | "1":
                await consents.note(state, await consents.wishes(state), IMPROVEMENT, given=value == "1")
            case "withdraw", "":
                await consents.note(state, await consents.wishes(state), PROCESSING, given=False)
            case _:
                return False
        return True

    async def _keep(self, state: ChatState, days: int) -> None:
        """How long things are kept from now on, and those that are there already."""
        most = self._journal.most_days
        await self._journal.put(state, {} if days == most else {"keep": str(days)}, ["keep"] if days == most else [])
        state.keep_days = 0 if days == most else days
        await self._journal.age(state, state.now_ms)  # what is too old now goes at once

    async def _facts(self, state: ChatState, *, private: bool) -> Facts:
        talks = [turns for _, _, turns in await self._journal.past(state.ready.chat_id)]
        talks += [last for last in state.last.values() if last]
        return Facts(
            exchanges=sum(talks),
            conversations=len(talks),
            receipts=await self._desk.receipts.count(state.ready.chat_id),
            days=self._journal.days_kept(state),
            most_days=self._journal.most_days,
            backup_days=self._desk.manner.key_backup_days,
            remote=self._desk.chat_api.keeps,
            required=self._desk.consents.required,
            private=private,
            warns=state.warns,
        )

    # ---- forgetting
    async def begin_forget(self, state: ChatState) -> bool:
        """Whether a confirmed forget is in the mail: it goes before everything that was written before it."""
        opened = state.open_turn
        if state.forgetting:
            return False  # one at a time: the receipt of the last one goes first
        mail = state.mail if len(state.mail) < MOST_MAIL else await self._journal.mail(state)
        for place, item, act in await self._desk.reader.urgent(state, mail):
            if not deeds.is_confirmed(state, act, item.received_ms):
                continue
            topic = None if act.argument == deeds.ALL else act.topic
            if opened is not None and (opened.kind == "relay" or topic not in {None, opened.topic}):
                return False  # what is being said is none of what is forgotten
            self._speaker.end_waiting_signs([act.pressed] if act.pressed else [])
            beside = await self._desk.reader.beside(state, mail[: place + 1], topic)
            language = state.chosen or act.language or state.language
            await self._desk.eraser.begin(
                state, act, source=item.update_id, read=place + 1, beside=beside, language=language
            )
            await self._journal.park(state, 0)
            return True
        return False

    async def go_on_forgetting(self, state: ChatState) -> None:
        """Carries out a forget that has begun, and tells what was deleted."""
        plan = state.forgetting
        await self._desk.eraser.go_on(state, plan)
        if plan["quiet"]:
            await self._journal.put(state, {}, ["forget"])
            await self._journal.finish(state, take=0, idle=True)
            return
        place = Batch(notice=Notice("", plan["topic"]))
        await self._speaker.tell(state, place, receipt(plan, self._desk.manner.key_backup_days))

    async def _ask_about_one(self, state: ChatState, batch: Batch, act: Act) -> None:
        """/forget in reply to a message: that exchange, or more."""
        found = await self._exchange(state, act.topic, act.reply_to)
        ask = (texts.ASK_AGAIN,) if batch.questions else ()
        if found is None:
            await self._speaker.tell(state, batch, deeds.forget(state, act, (texts.FORGET_ONE_UNKNOWN, *ask)))
        else:
            await self._speaker.tell(state, batch, deeds.forget(state, act, ask, one=found))

    async def _erase_one(self, state: ChatState, batch: Batch, act: Act) -> None:
        """One exchange, confirmed: in its turn, for it is none of what is being said."""
        there = await self._desk.eraser.exchange(state, act.topic, act.conversation, act.number)
        if not deeds.is_in_time(act, batch.received_ms) or there is None:
            await self._speaker.tell(state, batch, deeds.outcome(state, batch, act))
            return
        language = self._speaker.language(state, batch)
        await self._desk.eraser.begin(state, act, source=batch.last, read=batch.take, beside=(), language=language)
        await self._journal.park(state, 0)

    async def _exchange(self, state: ChatState, topic: int, message_id: int) -> tuple[int, int] | None:
        """Conversation and number of the turn that a message belongs to, among the last ones of the topic."""
        history = self._desk.history
        if (turn := await history.find(state, topic, message_id, answers=True)) is not None:
            return state.conversation_of(topic), turn.number
        for of, number, turns in reversed(await self._journal.past(state.ready.chat_id)):
            if of != topic:
                continue
            if (turn := await history.find(state, topic, message_id, ended=(number, turns), answers=True)) is not None:
                return number, turn.number
        return None

    async def _tidy(self, state: ChatState, batch: Batch) -> None:
        """Removes our own messages of what was forgotten, as far as Telegram lets us."""
        count = 0
        for message_id in state.tidy:
            count += await self._desk.lane.withdraw(state.ready.chat_id, message_id)
        sentence = Sentence(texts.REMOVED, plural=texts.REMOVED_MANY, count=count)
        await self._speaker.tell(state, batch, Outcome(sentence, change=Change(drop=["tidy"])))

    # ---- ageing
    async def _age(self, state: ChatState, batch: Batch) -> None:
        """What is too old goes; who wishes hears of it a week before."""
        aged = await self._desk.retention.apply(state)
        if aged.notice is not None and not state.blocked_ms:
            values = {
                "when": _date(aged.notice.day),
                "upto": _date(aged.notice.upto),
                "days": aged.notice.days,
            }
            await self._speaker.tell(state, batch, Outcome(Sentence(texts.AGING, values)))
            return
        await self._journal.finish(state, take=batch.take, marker=batch.marker, fate=batch.fate, idle=True)
        if aged.over:
            await self._journal.clear(state)

    # ---- taking home
    async def _export(self, state: ChatState, batch: Batch, act: Act, watch: Watch) -> None:
        if not act.private:
            await self._speaker.tell(state, batch, Outcome(texts.EXPORT_PRIVATE))
            return
        record = await self._desk.parcels.plan(state, self._speaker.language(state, batch))
        if record is None:
            await self._speaker.tell(state, batch, Outcome(texts.EXPORT_NOTHING))
            return
        receipts, chat_id, at_ms = self._desk.receipts, state.ready.chat_id, batch.received_ms
        receipt_id, due_ms = receipts.id_of(chat_id, batch.last), at_ms + DUE_DAYS * DAY_MS
        counts = {"exchanges": self._desk.parcels.turns(record)}
        note = Receipt(receipt_id, "export", "customer", at_ms, due_ms, done_ms=state.now_ms, counts=counts)
        await receipts.put(chat_id, note)
        await self._speaker.say(state, batch, Plan(record, "export"), watch)


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * _DAY_SECONDS))

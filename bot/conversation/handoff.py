"""A person takes over: customers' words go to the operators' chats as letters, and the operators' replies come back.

Each operator sees every message; whoever replies to one answers its customer. What a customer writes is sealed under
the customer's key in the operators' chats too, so that a forget reaches it there.
"""

from typing import Any, Final

from bot import texts
from bot.conversation.batch import Batch
from bot.conversation.context import Past
from bot.conversation.deeds import Outcome
from bot.conversation.intents import Act, Correction, Letter, Question, Sender
from bot.conversation.post import Post
from bot.texts import Sentence, Words
from storage.journal import Change, ChatState, Journal

_ANOTHER: Final = 2**48
"""Sets a second letter caused by one update apart from the first."""

_EDITED: Final = "✏️"


class HandOff:
    """``operators``: the chats of those who take over; without any, nothing is handed over. Raises StorageError."""

    def __init__(self, post: Post, journal: Journal, words: Words, operators: tuple[int, ...]) -> None:
        self._post = post
        self._journal = journal
        self._words = words
        self._operators = operators

    def is_held(self, state: ChatState) -> bool:
        """Whether a person answers in this chat, instead of the model."""
        return bool(state.handed_ms and self._others(state))

    def is_operator(self, chat_id: int) -> bool:
        return chat_id in self._operators

    def can_call(self, state: ChatState) -> bool:
        return bool(self._others(state))

    # ---- the customer's side
    async def call(self, state: ChatState, batch: Batch, past: list[Past], act: Act) -> Outcome:
        """/human: tells the operators, with the last exchange."""
        if not await self._anybody(state):
            return Outcome(texts.NO_PERSON)
        if state.handed_ms and not batch.questions:
            return Outcome(texts.HANDED_ALREADY)
        last = past[-1].record if past else None
        content = {
            "kind": "opening",
            "chat_id": state.ready.chat_id,
            "name": act.name,
            "text": "\n\n".join(question.text for question in batch.questions),
            "question": last.question if last else "",
            "answer": last.said if last else "",
            "about_topic": batch.topic,
        }
        await self._to_operators(state, batch.last, content)
        change = Change({"handed": str(state.now_ms), "language": batch.language})
        return Outcome(texts.HANDED, change=change)

    async def pass_on(self, state: ChatState, batch: Batch) -> None:
        """What the customer writes while a person answers, message by message: a death in between doubles none."""
        for question, source in zip(batch.questions, batch.sources, strict=True):
            content = self._relayed(state, question.name, question.topic)
            await self._to_operators(state, source, content | _words(question))

    async def correct(self, state: ChatState, correction: Correction, source: int) -> None:
        """What either side edits after it was passed on is passed on again, marked."""
        words = {"text": f"{_EDITED} {correction.text}"}
        if self.is_operator(state.ready.chat_id) and correction.reply_to:
            await self._answer(state, correction.reply_to, source, words)
        elif self.is_held(state):
            content = self._relayed(state, correction.name, correction.topic)
            await self._to_operators(state, source, content | words)

    @staticmethod
    def _relayed(state: ChatState, name: str, topic: int) -> dict[str, Any]:
        return {"kind": "relay", "chat_id": state.ready.chat_id, "name": name, "about_topic": topic}

    async def back(self, state: ChatState, batch: Batch, act: Act) -> Outcome:
        """/handback, by the customer; or by an operator, in reply to a customer's message."""
        if self.is_operator(state.ready.chat_id) and act.reply_to:
            back = await self._answer(state, act.reply_to, batch.last, {"kind": "back"})
            return Outcome(texts.RELAY_GIVEN_BACK if back else texts.RELAY_NOT_HANDED)
        if not state.handed_ms:
            return Outcome(texts.NOT_HANDED)
        await self._to_operators(state, batch.last, {"kind": "ended", "chat_id": state.ready.chat_id, "name": act.name})
        return Outcome(texts.HANDED_BACK, change=Change(drop=["handed"]))

    # ---- the operator's side
    async def replied(self, state: ChatState, batch: Batch) -> bool:
        """Whether the questions are an operator's reply to a customer; then it is on its way."""
        first = batch.questions[0]
        if not first.reply_to or not self.is_operator(state.ready.chat_id):
            return False
        for question, source in zip(batch.questions, batch.sources, strict=True):
            if not await self._answer(state, first.reply_to, source, _words(question)):
                return False
        return True

    async def _answer(self, state: ChatState, reply_to: int, cause: int, words: dict[str, Any]) -> bool:
        """Posts to the customer whom a message in an operator's chat is about; False where it is about none."""
        customer, topic = await self._journal.linked(state.ready.chat_id, reply_to)
        if customer:
            content = {"kind": "reply", "chat_id": state.ready.chat_id, "topic": topic, **words}
            await self._post.letter(customer, cause, content)
        return bool(customer)

    async def undelivered(self, state: ChatState, sender: Sender) -> None:
        """Tells who sent a letter that its reader cannot be reached."""
        chat_id = state.ready.chat_id
        kind, place = ("unread", self._operators.index(chat_id)) if self.is_operator(chat_id) else ("failed", -1)
        if kind == "unread":
            await self._journal.unreachable(state)  # before the customer's chat asks whether anybody can be reached
        content = {"kind": kind, "chat_id": 0, "topic": sender.topic}
        await self._post.letter(sender.chat_id, abs(sender.cause) + (place + 2) * _ANOTHER, content)

    async def is_alone(self, state: ChatState) -> bool:
        """Whether a customer waits for a person, and none can be reached."""
        return bool(state.handed_ms) and not await self._anybody(state)

    def told(self, letter: Letter, language: str) -> str:
        """What an operator reads."""

        def say(text: str) -> str:
            return self._words.say(Sentence(text, {"name": letter.name or "?"}), language)

        if letter.kind == "ended":
            return say(texts.RELAY_ENDED)
        if letter.kind == "failed":
            return say(texts.RELAY_FAILED)
        if letter.kind == "relay":
            return f"{say(texts.RELAY)}\n\n{letter.text}" if letter.text else say(texts.RELAY)
        parts = [say(texts.RELAY_OPENING)]
        for head, text in ((texts.RELAY_QUESTION, letter.question), (texts.RELAY_ANSWER, letter.answer)):
            parts += [f"{say(head)}\n{text}"] if text else []
        return "\n\n".join([*parts, letter.text] if letter.text else parts)

    async def _to_operators(self, state: ChatState, cause: int, content: dict[str, Any]) -> None:
        for operator in self._others(state):
            await self._post.letter(operator, cause, content, about=(state.ready.chat_id, state.epoch))

    async def _anybody(self, state: ChatState) -> bool:
        """Whether an operator can be reached, as far as is known: a bot cannot write first to whoever never did."""
        return any([await self._journal.reachable(operator) for operator in self._others(state)])

    def _others(self, state: ChatState) -> tuple[int, ...]:
        return tuple(operator for operator in self._operators if operator != state.ready.chat_id)


def _words(question: Question) -> dict[str, Any]:
    """What a letter says of a message: its text, or which message to copy."""
    return {"copy": question.message_id} if question.other else {"text": question.text}

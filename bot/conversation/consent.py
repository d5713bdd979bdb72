"""Where consent is required: no text leaves before the customer agreed.

A question waits, sealed, in its mailbox until then, so that nobody has to write it twice; the button wakes it.
"""

from typing import Final

from bot import texts
from bot.conversation.batch import Batch
from bot.conversation.deeds import Outcome
from bot.conversation.desk import Desk
from bot.conversation.intents import Act, Notice
from bot.conversation.speaker import Speaker
from bot.conversation.waiting import waits_since
from bot.privacy.wishes import PROCESSING
from storage.journal import Change, ChatState

_WAITS: Final = "consent"
_GIVEN_UP_MS: Final = 24 * 3_600_000


class Consenting:
    """Raises StorageError, StaleFenceError, LaterError."""

    def __init__(self, desk: Desk, speaker: Speaker) -> None:
        self._desk = desk
        self._consents = desk.consents
        self._speaker = speaker

    async def settled(self, state: ChatState, batch: Batch) -> bool:
        """Whether the questions of a batch may be answered; if not, it has ended its turn."""
        if not self._consents.required:
            return True
        if state.ready.chat_id < 0:
            # In a group everybody would have to agree to what anybody writes.
            await self._speaker.tell(state, batch, Outcome(texts.CONSENT_PRIVATE))
            return False
        wishes = await self._consents.wishes(state)
        if wishes.agreed(PROCESSING, self._consents.version):
            return True
        said = [act for act in batch.consents if self._fits(act)]
        if said:
            given = said[-1].argument == "yes"
            await self._consents.note(state, wishes, PROCESSING, given=given)
            if not given:
                await self._speaker.tell(state, batch, Outcome(texts.CONSENT_REFUSED))
            return given
        await self._wait(state, batch)
        return False

    async def pressed(self, state: ChatState, batch: Batch, act: Act) -> None:
        """A press while no question waits."""
        if not self._fits(act):
            await self._speaker.tell(state, batch, Outcome(texts.BUTTON_UNKNOWN))
            return
        given = act.argument == "yes"
        await self._consents.note(state, await self._consents.wishes(state), PROCESSING, given=given)
        await self._speaker.tell(state, batch, Outcome(texts.CONSENT_GIVEN if given else texts.CONSENT_REFUSED))

    def _fits(self, act: Act) -> bool:
        """Whether a press is about the text that holds now."""
        return self._consents.required and act.name == self._consents.version and act.argument in {"yes", "no"}

    async def _wait(self, state: ChatState, batch: Batch) -> None:
        asked_ms = waits_since(state, _WAITS)
        if not asked_ms:
            waits = Change({"waits": f"{state.now_ms}:{_WAITS}"})
            beside = Batch(notice=Notice("", batch.topic, batch.newest, batch.language), fate=batch.fate)
            version = self._consents.version
            buttons = (((texts.CONSENT_YES, f"consent:yes:{version}"), (texts.CONSENT_NO, f"consent:no:{version}")),)
            await self._speaker.tell(state, beside, Outcome(texts.CONSENT_ASK, buttons=buttons, change=waits))
        elif state.now_ms - asked_ms >= _GIVEN_UP_MS:
            await self._speaker.tell(state, batch, Outcome(texts.CONSENT_LAPSED))
        else:
            await self._desk.journal.park(state, asked_ms + _GIVEN_UP_MS - state.now_ms)

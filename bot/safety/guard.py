"""What stands between a model and a person: what may be asked, what may be said, and how what is said is shown.

A model's words are untrusted text: whoever wrote into its context may have written them. So they lose what nobody can
see, pictures that would load by themselves, and links that are not allowed, before anybody reads them, in previews too.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bot.logs import get_logger
from bot.safety.grounding import ungrounded
from bot.safety.links import LinkRules
from bot.safety.moderation import Action, Moderation

Grounding = Literal["off", "hedge", "hold"]

LINK_REMOVED: Final = "[🔗✕]"
"""What stands for an address that is not allowed: in any language."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Judged:
    """``action``: what is done about an answer; ``unfounded``: it states prices, deadlines or refunds that nobody told
    the model."""

    action: Action
    unfounded: bool = False


GOOD: Final = Judged(Action.ANSWER)


class Guard:
    """``moderation``: None where nothing is moderated; ``grounding``: what is done about unfounded claims."""

    def __init__(self, links: LinkRules, moderation: Moderation | None, grounding: Grounding) -> None:
        self._links = links
        self._moderation = moderation
        self._grounding = grounding

    @property
    def holds_back(self) -> bool:
        """Whether an answer may not be shown before it is whole: it could be refused then."""
        return self._moderation is not None or self._grounding == "hold"

    def shown(self, text: str, *, growing: bool = False) -> str:
        """A model's words as they may be read."""
        return self._links.kept(text, growing=growing)

    async def question(self, text: str) -> Action:
        """What is done about a question. Raises ModerationUnavailableError."""
        return await self._looked_at(text, "question")

    async def answer(self, text: str, known: Sequence[str]) -> Judged:
        """What is done about an answer to what was ``known``. Raises ModerationUnavailableError."""
        action = await self._looked_at(text, "answer")
        if self._grounding == "off":
            return Judged(action)
        # A long context takes a tenth of a second to look through: off the event loop.
        claims = await asyncio.to_thread(ungrounded, text, known)
        if not claims:
            return Judged(action)
        _log.info("answer.unfounded", claims=len(claims))
        return Judged(max(action, Action.PERSON) if self._grounding == "hold" else action, unfounded=True)

    async def _looked_at(self, text: str, what: str) -> Action:
        if self._moderation is None:
            return Action.ANSWER
        verdict = await self._moderation.look(text)
        if verdict.action is not Action.ANSWER:
            _log.info("moderation.found", what=what, action=verdict.action.name.lower())
        return verdict.action

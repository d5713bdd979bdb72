"""What /privacy shows: what is stored, for how long, who processes it, and the buttons that serve each right.

One message, changed in place when a button is pressed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot import texts
from bot.conversation.deeds import Outcome
from bot.conversation.shown import Buttons
from bot.privacy.wishes import IMPROVEMENT, PROCESSING, Wishes
from bot.texts import Sentence
from storage.receipts import Receipt

_CHOICES: Final = (7, 30, 90, 180, 365)
_RECEIPTS_SHOWN: Final = 10
_SCOPES: Final = {
    "exchange": texts.SCOPE_EXCHANGE,
    "conversation": texts.SCOPE_CONVERSATION,
    "everything": texts.SCOPE_EVERYTHING,
}
_KINDS: Final = {
    "erasure": texts.RECEIPT_ERASED,
    "export": texts.RECEIPT_EXPORTED,
    "import": texts.RECEIPT_IMPORTED,
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one chat and this installation: ``most_days``: how long the operator keeps things, ``days``: how long they are
    kept here; ``backup_days``: until copies of keys are gone; ``remote``: whether the chat API keeps conversations;
    ``required``: whether consent is asked for."""

    exchanges: int
    conversations: int
    receipts: int
    days: int
    most_days: int
    backup_days: int
    remote: bool
    required: bool
    private: bool
    warns: bool


def screen(facts: Facts, wishes: Wishes) -> Outcome:
    """The whole screen."""
    also: list[Sentence | str] = [
        Sentence(texts.PRIVACY_KEPT, {"backups": facts.backup_days}, plural=texts.PRIVACY_KEPT_DAYS, count=facts.days),
        Sentence(
            texts.PRIVACY_STORED,
            {"exchanges": facts.exchanges, "conversations": facts.conversations, "receipts": facts.receipts},
        ),
    ]
    if facts.remote:
        also.append(texts.PRIVACY_REMOTE)
    improving = wishes.standing(IMPROVEMENT) is not None
    also.append(texts.PRIVACY_IMPROVES if improving else texts.PRIVACY_IMPROVES_NOT)
    if facts.required:
        agreed = wishes.standing(PROCESSING)
        if agreed is None:
            also.append(texts.PRIVACY_NOT_AGREED)
        else:
            values = {"when": _when(agreed.at_s), "processor": Sentence(agreed.processors), "version": agreed.version}
            also.append(Sentence(texts.PRIVACY_AGREED, values))
    return Outcome(texts.PRIVACY, tuple(also), _buttons(facts, wishes) if facts.private else ())


def _buttons(facts: Facts, wishes: Wishes) -> Buttons:
    rows: list[tuple[tuple[Sentence | str, str], ...]] = [
        ((texts.PRIVACY_EXPORT, "export"), (texts.PRIVACY_IMPORT, "import")),
        ((texts.PRIVACY_FORGET, "forget"), (texts.PRIVACY_RECEIPTS, "privacy:receipts")),
    ]
    days = [*(days for days in _CHOICES if days < facts.most_days), facts.most_days][-3:]
    rows.append(tuple(_choice(day, chosen=day == facts.days) for day in days))
    rows.append(((texts.PRIVACY_WARNS if facts.warns else texts.PRIVACY_WARN, f"privacy:warn:{int(not facts.warns)}"),))
    improving = wishes.standing(IMPROVEMENT) is not None
    label = texts.PRIVACY_IMPROVING if improving else texts.PRIVACY_IMPROVE
    rows.append(((label, f"privacy:improve:{int(not improving)}"),))
    if facts.required and wishes.standing(PROCESSING) is not None:
        rows.append(((texts.PRIVACY_WITHDRAW, "privacy:withdraw"),))
    return tuple(rows)


def _choice(days: int, *, chosen: bool) -> tuple[Sentence | str, str]:
    label = texts.PRIVACY_DAYS_CHOSEN if chosen else texts.PRIVACY_DAYS
    return Sentence(label, {"days": days}), f"privacy:keep:{days}"


def is_choice(days: int, most_days: int) -> bool:
    """Whether so many days are among what may be chosen."""
    return days == most_days or (days in _CHOICES and days < most_days)


def receipts_told(receipts: Sequence[Receipt]) -> Outcome:
    """The last receipts of a chat, newest first."""
    if not receipts:
        return Outcome(texts.RECEIPTS_NONE)
    return Outcome(texts.RECEIPTS, tuple(_told(receipt) for receipt in receipts[: -_RECEIPTS_SHOWN - 1 : -1]))


def _told(receipt: Receipt) -> Sentence:
    state = Sentence(texts.RECEIPT_DONE if receipt.done_ms else texts.RECEIPT_OPEN)
    if receipt.done_ms and receipt.asked:
        state = Sentence(
            texts.RECEIPT_REMOTE, {"confirmed": min(receipt.confirmed, receipt.asked), "asked": receipt.asked}
        )
    values = {
        "id": receipt.id,
        "when": _when(receipt.asked_ms // 1000),
        "what": Sentence(_SCOPES.get(receipt.scope, texts.SCOPE_EVERYTHING)),
        "exchanges": receipt.counts.get("exchanges", 0),
        "state": state,
    }
    return Sentence(_KINDS[receipt.kind], values)


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))

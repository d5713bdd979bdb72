"""What commands and buttons come to: the sentence, its buttons, and what changes in the chat.

Only decisions stand here; the turn carries them out. Buttons that delete are bound to who asked, the conversation and
five minutes; their data is checked against the chat's state, since a client can send any data it likes.
"""

import time
from dataclasses import dataclass
from typing import Final

from bot import texts
from bot.conversation.batch import ALL, Batch
from bot.conversation.control import CONFIRMED, PERSON
from bot.conversation.intents import Act, Deed
from bot.conversation.shown import Buttons
from bot.texts import LANGUAGES, Sentence
from storage.journal import Change, ChatState

__all__ = ["ALL", "CONFIRM_SECONDS", "ONE", "PERSON_BUTTON", "THIS", "Outcome", "forget", "goes_on", "is_confirmed"]
__all__ += ["is_in_time", "outcome"]

CONFIRM_SECONDS: Final = 300
THIS: Final = "this"
ONE: Final = "one"
PERSON_BUTTON: Final[Buttons] = (((texts.TALK_TO_A_PERSON, PERSON),),)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is said, and what changes with it. Labels of buttons are not translated yet; ``also``: sentences
    that follow, each after a blank line; ``language``: said in this one, whatever the chat's is."""

    text: Sentence | str
    also: tuple[Sentence | str, ...] = ()
    buttons: Buttons = ()
    change: Change | None = None
    language: str = ""


def outcome(state: ChatState, batch: Batch, act: Act) -> Outcome:
    """Of a command or a button that needs nothing but the chat's state."""
    match act.deed:
        case Deed.STOP:
            found = Outcome(texts.STOPPED if batch.questions else texts.NOTHING_TO_STOP)
        case Deed.ANEW:
            found = _anew(state, act.topic)
        case Deed.LANGUAGE:
            found = _language(act)
        case Deed.FORGET:
            found = forget(state, act, (texts.ASK_AGAIN,) if batch.questions else ())
        case Deed.ERASE:  # one that is not confirmed
            found = Outcome(texts.NOT_YOURS if act.by != act.user else texts.FORGET_EXPIRED)
        case Deed.KEEP:
            found = Outcome(texts.NOT_YOURS if act.by != act.user else texts.FORGET_KEPT)
        case Deed.TIDY:
            found = Outcome(texts.NOT_YOURS)
        case _:
            found = Outcome(texts.BUTTON_UNKNOWN)
    return found


def _anew(state: ChatState, topic: int) -> Outcome:
    """A fresh context; the old conversation is listed, for export and forget."""
    last, number = state.last.get(topic, 0), state.conversation_of(topic)
    if not last:
        return Outcome(texts.ANEW)
    fresh = str(max(state.newest, number) + 1)
    put = {f"c:{topic}": fresh, "newest": fresh}
    drop = [f"{name}:{topic}" for name in ("n", "s", "r")]
    return Outcome(texts.ANEW, change=Change(put, drop, [f"{topic}:{number}:{last}"]))


def _language(act: Act) -> Outcome:
    if not act.argument:
        return Outcome(
            texts.WHICH_LANGUAGE, buttons=tuple(((name, f"language:{code}"),) for code, name in LANGUAGES.items())
        )
    if act.argument not in LANGUAGES:
        return Outcome(texts.LANGUAGE_UNKNOWN)
    return Outcome(texts.LANGUAGE_CHOSEN, change=Change({"chosen": act.argument}), language=act.argument)


def forget(state: ChatState, act: Act, also: tuple[str, ...], *, one: tuple[int, int] | None = None) -> Outcome:
    """Asks which, by buttons that are good for five minutes. Everything can always go: besides what was answered there
    may be questions that were not. ``one``: conversation and number of the exchange that is meant."""
    until = int(time.time()) + CONFIRM_SECONDS
    bound = f"{act.topic}:{state.conversation_of(act.topic)}:{act.user}:{until}"
    rows = [((texts.FORGET_EXPORT, "export"),)] if act.private else []
    if one is not None:
        data = f"{CONFIRMED}:{ONE}:{act.topic}:{one[0]}:{act.user}:{until}:{one[1]}"
        rows.append(((texts.FORGET_ONE, data),))
    if state.last.get(act.topic):
        rows.append(((texts.FORGET_THIS, f"{CONFIRMED}:{THIS}:{bound}"),))
    rows.append(((texts.FORGET_ALL, f"{CONFIRMED}:{ALL}:{bound}"),))
    rows.append(((texts.FORGET_CANCEL, f"keep:{act.user}"),))
    return Outcome(texts.FORGET_ONE_ASK if one else texts.FORGET_ASK, also, tuple(rows))


def goes_on(state: ChatState, act: Act) -> bool:
    """Whether a press goes on with an answer that was cut: as long as nothing was said after it."""
    return act.deed is Deed.MORE and act.number > 0 and act.number == state.last.get(act.topic)


def is_confirmed(state: ChatState, act: Act, received_ms: int) -> bool:
    """Whether a press deletes at once: by who asked, in time, and while what was asked about still stands; or whoever
    runs the service orders it."""
    if act.deed is not Deed.ERASE or act.argument == ONE:
        return False
    return bool(act.receipt) or (
        is_in_time(act, received_ms)
        and act.conversation == state.conversation_of(act.topic)
        and bool(act.argument == ALL or state.last.get(act.topic))
    )


def is_in_time(act: Act, received_ms: int) -> bool:
    """Whether a button that deletes was pressed by who asked, before it ended."""
    return act.by == act.user and received_ms / 1000 <= act.until

"""The judge: from what the customers saw, and what the store remembers, to a list of violations.

It knows nothing of the service. For each chat it reads the bot's visible messages as outcomes (an answer of one or more
messages, a sentence that no answer could be had, a notice to a sticker) and asks whether they cover the customer's
messages, each exactly once, in order. Then it holds the stored turns against the same answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from bot import texts
from bot.sandbox.world import SeenMessage
from tests.crash.model import Made, Model

Kind = Literal["question", "sticker"]
MOST_NOTES: Final = 40
LONG_SECONDS: Final = 5.0
"""A second copy that stood longer is told of, for whoever wants to know why; it is no violation."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something a customer sent that needs an outcome."""

    message_id: int
    kind: Kind
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One turn as the store holds it, opened."""

    number: int
    question_ids: tuple[int, ...]
    questions: tuple[str, ...]
    said: str
    answer_ids: tuple[int, ...]


@dataclass(slots=True)
class View:
    """One chat at the end: what was sent, everything that was ever shown, the draft that stands, the history."""

    chat_id: int
    items: list[Item]
    seen: list[SeenMessage]
    draft: str | None = None
    stored: list[Stored] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What the customer reads as one reply."""

    kind: Literal["answer", "error", "notice", "aside"]
    message_ids: list[int]
    made: Made | None = None


@dataclass(slots=True)
class Verdict:
    """Counts of violations, and of what was healed.

    ``healed``: second copies that were removed, ``longest``: seconds one of them stood beside the first; ``vanished``:
    words that were removed while nothing else said the same.
    """

    questions: int = 0
    answers: int = 0
    errors: int = 0
    waits: int = 0
    lost: int = 0
    double: int = 0
    inversions: int = 0
    strays: int = 0
    broken: int = 0
    history: int = 0
    ghosts: int = 0
    asides: int = 0
    healed: int = 0
    longest: float = 0.0
    vanished: int = 0
    rewritten: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not any(getattr(self, name) for name in VIOLATIONS)

    def note(self, view: View, what: str) -> None:
        if len(self.notes) < MOST_NOTES:
            self.notes.append(f"chat {view.chat_id}: {what}")

    def add(self, other: "Verdict") -> None:
        """Sums; of ``longest`` the greater."""
        for part in fields(self):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            setattr(self, part.name, max(mine, theirs) if part.name == "longest" else mine + theirs)


Left = tuple[int, tuple[Item, ...], tuple[Outcome, ...]]
"""After some items and outcomes were read: how many fit nowhere, and which."""

VIOLATIONS: Final = ("lost", "double", "inversions", "strays", "broken", "history", "ghosts", "asides", "vanished")
_SENTENCES: Final = (
    (texts.NOT_TAKEN, "error"),
    (texts.ONLY_TEXT, "notice"),
    (texts.SET_ASIDE, "aside"),
)


def judge(views: Iterable[View], model: Model, *, with_history: bool = True) -> Verdict:
    """The verdict over all chats."""
    verdict = Verdict()
    for view in views:
        verdict.questions += len(view.items)
        outcomes = _outcomes(view, model, verdict)
        _cover(view, outcomes, verdict)
        _count_standing(view, model, verdict)
        if with_history:
            _compare_history(view, outcomes, verdict)
        if view.draft is not None:
            verdict.ghosts += 1
            verdict.note(view, "a draft stands after the end")
    return verdict


# ---- reading
def _outcomes(view: View, model: Model, verdict: Verdict) -> list[Outcome]:
    """That a question waits covers none, and is told once before something does."""
    found: list[Outcome] = []
    told_at = -1
    for message in view.seen:
        if not message.from_bot or message.deleted:
            continue
        verdict.rewritten += message.edits > 0
        text = (message.text or "").strip()
        if text in model.pieces:
            fault = _add_piece(found, message, *model.pieces[text])
            if fault is not None:
                setattr(verdict, fault, getattr(verdict, fault) + 1)
                verdict.note(view, f"{fault}: message {message.message_id}, {text[:40]!r}")
        elif text.startswith(texts.WAITING):
            verdict.waits += 1
            if told_at == len(found):
                verdict.double += 1
                verdict.note(view, f"message {message.message_id} tells again to wait")
            told_at = len(found)
        elif (kind := _sentence(text)) is not None:
            found.append(Outcome(kind, [message.message_id]))
        else:
            verdict.strays += 1
            verdict.note(view, f"message {message.message_id} belongs to nothing: {text[:60]!r}")
    for outcome in found:
        if outcome.made is not None and len(outcome.message_ids) < len(outcome.made.pieces):
            verdict.broken += 1
            shown, whole = len(outcome.message_ids), len(outcome.made.pieces)
            verdict.note(view, f"{outcome.made.tag} has {shown} of {whole} pieces")
    return found


def _sentence(text: str) -> Literal["error", "notice", "aside"] | None:
    for sentence, kind in _SENTENCES:
        if text.startswith(sentence):
            return kind  # type: ignore[return-value]
    return None


def _add_piece(found: list[Outcome], message: SeenMessage, made: Made, number: int) -> str | None:
    """Adds a message to the outcome it belongs to; the violation it is, where it belongs nowhere."""
    if number == 0:
        found.append(Outcome("answer", [message.message_id], made))
        return None
    last = found[-1] if found else None
    if last is not None and last.made is made and len(last.message_ids) == number:
        last.message_ids.append(message.message_id)
        return None
    again = any(outcome.made is made and len(outcome.message_ids) > number for outcome in found)
    return "double" if again else "broken"


# ---- coverage
def _cover(view: View, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
    """Counts what is left when outcomes and items are laid side by side as well as their order allows."""
    verdict.answers += sum(outcome.kind == "answer" for outcome in outcomes)
    verdict.errors += sum(outcome.kind == "error" for outcome in outcomes)
    asides = sum(outcome.kind == "aside" for outcome in outcomes)
    if asides:
        verdict.asides += asides
        verdict.note(view, f"{asides} turns were set aside")
    missed, extra = _aligned(view.items, outcomes)
    left = list(missed)
    for outcome in extra:
        owed = [item for item in left if _could_cover(outcome, item)]
        if owed:
            verdict.inversions += 1
            verdict.note(view, f"{_named(outcome)} stands in the wrong place")
            left = [item for item in left if item not in owed]
        else:
            _blame_extra(view, outcome, verdict)
    if left:
        verdict.lost += len(left)
        verdict.note(view, f"no outcome for {' '.join(item.marker or 'a sticker' for item in left)}")


def _aligned(items: Sequence[Item], outcomes: Sequence[Outcome]) -> tuple[list[Item], list[Outcome]]:
    """The items without an outcome and the outcomes without an item, as few as possible (dynamic programming)."""
    wide = len(items) + 1
    cheapest: dict[int, Left] = {0: (0, (), ())}
    for outcome in [*outcomes, None]:
        for at in range(wide - 1):
            if at in cheapest:
                price, missed, extra = cheapest[at]
                _offer(cheapest, at + 1, (price + 1, (*missed, items[at]), extra))
        if outcome is None:
            break
        following: dict[int, Left] = {}
        for at, (price, missed, extra) in cheapest.items():
            # An answer says what it belongs to: where something is too much, it is rather the sentence beside it.
            _offer(following, at, (price + (2 if outcome.made else 1), missed, (*extra, outcome)))
            for after in _after(items, at, outcome):
                _offer(following, after, (price, missed, extra))
        cheapest = following
    _, missed, extra = cheapest[wide - 1]
    return list(missed), list(extra)


def _offer(cheapest: dict[int, Left], at: int, offer: Left) -> None:
    if at not in cheapest or offer[0] < cheapest[at][0]:
        cheapest[at] = offer


def _after(items: Sequence[Item], at: int, outcome: Outcome) -> Iterable[int]:
    """How many items are read when the outcome covers the next ones. How many questions an error covers is open, and
    so is how many stickers a notice does: what gathers behind a question that waits is taken together."""
    if outcome.made is not None:
        markers = outcome.made.markers
        covered = items[at : at + len(markers)]
        if markers and tuple(item.marker for item in covered) == markers:
            yield at + len(markers)
        return
    sent = outcome.message_ids[0]
    if outcome.kind == "aside":
        if at < len(items) and items[at].message_id < sent:
            yield at + 1
        return
    kind = "question" if outcome.kind == "error" else "sticker"
    while at < len(items) and items[at].kind == kind and items[at].message_id < sent:
        at += 1
        yield at


def _could_cover(outcome: Outcome, item: Item) -> bool:
    if outcome.made is not None:
        return item.marker in outcome.made.markers
    return (item.kind == "sticker") == (outcome.kind == "notice")


def _blame_extra(view: View, outcome: Outcome, verdict: Verdict) -> None:
    asked = {item.marker for item in view.items if item.marker}
    again = outcome.kind == "notice" or (outcome.made is not None and bool(asked & set(outcome.made.markers)))
    if again:
        verdict.double += 1
    else:
        verdict.strays += 1
    verdict.note(view, f"{_named(outcome)} is {'a second one' if again else 'owed to nobody'}")


def _named(outcome: Outcome) -> str:
    what = f"the answer {outcome.made.tag} to {' '.join(outcome.made.markers)}" if outcome.made else outcome.kind
    return f"{what} (message {outcome.message_ids[0]})"


# ---- what was healed
def _count_standing(view: View, model: Model, verdict: Verdict) -> None:
    """Copies that were deleted later, and how long they stood beside what stays."""
    bots = [message for message in view.seen if message.from_bot]
    for copy in bots:
        if not copy.deleted or copy.t_deleted is None:
            continue
        others = [other for other in bots if other is not copy and not other.deleted and _same(copy, other, model)]
        if not any(other.t <= copy.t_deleted for other in others):
            verdict.vanished += 1
            verdict.note(view, f"message {copy.message_id} was removed while nothing else said the same")
        stood = max((copy.t_deleted - max(copy.t, other.t) for other in others), default=0.0)
        if stood > 0:
            verdict.healed += 1
            verdict.longest = max(verdict.longest, stood)
            if stood > LONG_SECONDS:
                verdict.note(view, f"a second copy, {copy.message_id}, stood from {copy.t:.1f} for {stood:.1f} s")


def _same(copy: SeenMessage, other: SeenMessage, model: Model) -> bool:
    if copy.text == other.text:
        return True
    first, second = (model.pieces.get((message.text or "").strip()) for message in (copy, other))
    return first is not None and second is not None and bool(set(first[0].markers) & set(second[0].markers))


# ---- history
def _compare_history(view: View, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
    answers = [outcome for outcome in outcomes if outcome.made is not None]
    if len(answers) != len(view.stored):
        verdict.history += 1
        verdict.note(view, f"{len(view.stored)} stored turns, {len(answers)} visible answers")
    shown = {message.message_id: message.text or "" for message in view.seen if not message.from_bot}
    ids = {item.marker: item.message_id for item in view.items if item.marker}
    for place, (answer, stored) in enumerate(zip(answers, view.stored, strict=False)):
        faults = list(_faults(place, answer, stored, ids, shown))
        for fault in faults:
            verdict.history += 1
            verdict.note(view, f"stored turn {stored.number}: {fault}")
        if faults and len(answers) != len(view.stored):
            return  # what follows is shifted


def _faults(place: int, answer: Outcome, stored: Stored, ids: dict[str, int], shown: dict[int, str]) -> Iterable[str]:
    assert answer.made is not None
    if stored.number != place + 1:
        yield f"stands at place {place + 1}"
    if stored.said != answer.made.text:
        yield f"does not say what {answer.made.tag} says"
    if stored.answer_ids != tuple(answer.message_ids):
        yield f"names messages {stored.answer_ids}, visible are {answer.message_ids}"
    if stored.question_ids != tuple(ids.get(marker, 0) for marker in answer.made.markers):
        yield "holds other questions than the answer covers"
    if any(shown.get(number) != text for number, text in zip(stored.question_ids, stored.questions, strict=True)):
        yield "holds another text than the customer's message shows"
    if answer.made.before != place:
        yield f"was made with {answer.made.before} turns in mind, {place} were visible"

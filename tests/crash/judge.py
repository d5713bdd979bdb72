"""The judge: from what the customers saw, and what the store remembers, to a list of violations.

It knows nothing of the service. For each chat it reads the bot's visible messages as outcomes (an answer of one or more
messages, a sentence that no answer could be had, a notice to a sticker) and asks whether they cover the customer's
messages, each exactly once, in order. Then it holds the stored turns against the same answers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Literal

from bot import texts
from bot.sandbox.world import SeenMessage
from tests.crash.model import Made, Model

Kind = Literal["question", "sticker"]
MOST_NOTES: Final = 40


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
    """Counts of violations, and of what was healed. ``longest``: seconds a second copy stood beside the first."""

    questions: int = 0
    answers: int = 0
    errors: int = 0
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


VIOLATIONS: Final = ("lost", "double", "inversions", "strays", "broken", "history", "ghosts", "asides")
_SENTENCES: Final = (
    (texts.NO_ANSWER, "error"),
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
    found: list[Outcome] = []
    for message in view.seen:
        if not message.from_bot or message.deleted:
            continue
        verdict.rewritten += message.edits > 0
        text = message.text or ""
        if text in model.pieces:
            _add_piece(view, found, message, *model.pieces[text], verdict)
        elif (kind := _sentence(text)) is not None:
            found.append(Outcome(kind, [message.message_id]))
        else:
            verdict.strays += 1
            verdict.note(view, f"message {message.message_id} belongs to nothing: {text[:60]!r}")
    for outcome in found:
        if outcome.made is not None and len(outcome.message_ids) < len(outcome.made.pieces):
            verdict.broken += 1
            verdict.note(view, f"{outcome.made.tag} has {len(outcome.message_ids)} of {len(outcome.made.pieces)} pieces")
    return found


def _sentence(text: str) -> Literal["error", "notice", "aside"] | None:
    for sentence, kind in _SENTENCES:
        if text.startswith(sentence):
            return kind  # type: ignore[return-value]
    return None


def _add_piece(
    view: View, found: list[Outcome], message: SeenMessage, made: Made, number: int, verdict: Verdict
) -> None:
    if number == 0:
        found.append(Outcome("answer", [message.message_id], made))
        return
    last = found[-1] if found else None
    if last is not None and last.made is made and len(last.message_ids) == number:
        last.message_ids.append(message.message_id)
    elif any(outcome.made is made and len(outcome.message_ids) > number for outcome in found):
        verdict.double += 1
        verdict.note(view, f"piece {number} of {made.tag} stands twice")
    else:
        verdict.broken += 1
        verdict.note(view, f"piece {number} of {made.tag} stands out of place")


# ---- coverage
def _cover(view: View, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
    verdict.answers += sum(outcome.kind == "answer" for outcome in outcomes)
    verdict.errors += sum(outcome.kind == "error" for outcome in outcomes)
    asides = sum(outcome.kind == "aside" for outcome in outcomes)
    verdict.asides += asides
    if not _fit(view.items, outcomes):
        _blame(view, outcomes, verdict)


def _fit(items: Sequence[Item], outcomes: Sequence[Outcome]) -> bool:
    """Whether the outcomes cover the items, each once, in order. Where an error covers how many is open: all are tried."""
    reached = {0}
    for outcome in outcomes:
        reached = {after for at in reached for after in _after(items, at, outcome)}
    return len(items) in reached


def _after(items: Sequence[Item], at: int, outcome: Outcome) -> Iterable[int]:
    if outcome.made is not None:
        markers = outcome.made.markers
        covered = items[at : at + len(markers)]
        if markers and tuple(item.marker for item in covered) == markers:
            yield at + len(markers)
    elif outcome.kind == "error":
        while at < len(items) and items[at].kind == "question":
            at += 1
            yield at
    elif at < len(items) and (outcome.kind == "aside" or items[at].kind == "sticker"):
        yield at + 1


def _blame(view: View, outcomes: Sequence[Outcome], verdict: Verdict) -> None:
    """Says in which way the outcomes do not fit."""
    blamed = 0
    times = Counter(marker for outcome in outcomes if outcome.made for marker in outcome.made.markers)
    places = {item.marker: place for place, item in enumerate(view.items) if item.marker}
    for marker, number in times.items():
        if number > 1:
            verdict.double += number - 1
            blamed += verdict.note(view, f"{marker} is answered {number} times") or 1
        if marker not in places:
            verdict.strays += 1
            blamed += verdict.note(view, f"{marker} was not asked here") or 1
    errors = sum(outcome.kind in {"error", "aside"} for outcome in outcomes)
    open_items = [item for item in view.items if item.kind == "question" and not times[item.marker]]
    if open_items and not errors:
        verdict.lost += len(open_items)
        blamed += verdict.note(view, f"no outcome for {' '.join(item.marker for item in open_items)}") or 1
    if errors > len(open_items):
        verdict.strays += errors - len(open_items)
        blamed += verdict.note(view, f"{errors} sentences of failure for {len(open_items)} questions") or 1
    blamed += _blame_notices(view, outcomes, verdict)
    firsts = [places.get(o.made.markers[0], -1) for o in outcomes if o.made and o.made.markers]
    turned = sum(later < earlier for earlier, later in zip(firsts, firsts[1:], strict=False))
    if turned or not blamed:
        verdict.inversions += max(turned, 1)
        verdict.note(view, f"out of order: {[o.made.markers if o.made else o.kind for o in outcomes]}")


def _blame_notices(view: View, outcomes: Sequence[Outcome], verdict: Verdict) -> int:
    stickers = sum(item.kind == "sticker" for item in view.items)
    notices = sum(outcome.kind == "notice" for outcome in outcomes)
    verdict.lost += max(0, stickers - notices)
    verdict.double += max(0, notices - stickers)
    if stickers != notices:
        verdict.note(view, f"{notices} notices for {stickers} stickers")
    return int(stickers != notices)


# ---- what was healed
def _count_standing(view: View, model: Model, verdict: Verdict) -> None:
    """Copies that were deleted later, and how long they stood beside what stays."""
    bots = [message for message in view.seen if message.from_bot]
    for copy in bots:
        if not copy.deleted or copy.t_deleted is None:
            continue
        others = [other for other in bots if other is not copy and not other.deleted and _same(copy, other, model)]
        stood = max((copy.t_deleted - max(copy.t, other.t) for other in others), default=0.0)
        if stood > 0:
            verdict.healed += 1
            verdict.longest = max(verdict.longest, stood)


def _same(copy: SeenMessage, other: SeenMessage, model: Model) -> bool:
    if copy.text == other.text:
        return True
    first, second = model.pieces.get(copy.text or ""), model.pieces.get(other.text or "")
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
        for fault in _faults(place, answer, stored, ids, shown):
            verdict.history += 1
            verdict.note(view, f"stored turn {stored.number}: {fault}")


def _faults(
    place: int, answer: Outcome, stored: Stored, ids: dict[str, int], shown: dict[int, str]
) -> Iterable[str]:
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

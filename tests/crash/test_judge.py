"""The judge is not blind: it passes what is right, and names each kind of violation that is planted."""

from collections.abc import Callable

import pytest

from bot import texts
from bot.sandbox.world import SeenMessage
from tests.crash.judge import VIOLATIONS, Item, Stored, Verdict, View, judge
from tests.crash.model import LONG, Made, Model

CHAT = 5


class Scene:
    """A chat that is put together message by message, with a history that fits."""

    def __init__(self) -> None:
        self.model = Model()
        self.view = View(CHAT, [], [])
        self._clock = 0.0

    def show(self, text: str | None, *, from_bot: bool = True) -> SeenMessage:
        self._clock += 1
        message = SeenMessage(
            message_id=len(self.view.seen) + 1, chat_id=CHAT, text=text, from_bot=from_bot, t=self._clock
        )
        self.view.seen.append(message)
        return message

    def ask(self, marker: str) -> Item:
        item = Item(self.show(f"{marker} please", from_bot=False).message_id, "question", marker)
        self.view.items.append(item)
        return item

    def stick(self) -> None:
        self.view.items.append(Item(self.show(None, from_bot=False).message_id, "sticker"))

    def made(self, *markers: str, words: str = "") -> Made:
        return self.model.say(markers, len(self.view.stored), words)

    def answer(self, *markers: str, words: str = "") -> Made:
        """An answer as it should be: all pieces, and the turn in the history."""
        made = self.made(*markers, words=words)
        ids = tuple(self.show(piece).message_id for piece in made.pieces)
        asked = [item for item in self.view.items if item.marker in markers]
        self.view.stored.append(
            Stored(
                number=len(self.view.stored) + 1,
                question_ids=tuple(item.message_id for item in asked),
                questions=tuple(f"{item.marker} please" for item in asked),
                said=made.text,
                answer_ids=ids,
            )
        )
        return made

    def verdict(self) -> Verdict:
        return judge([self.view], self.model)


def good() -> Scene:
    """Questions alone and together, a long answer, a notice, an error, in order."""
    scene = Scene()
    scene.ask("Q1Q")
    scene.answer("Q1Q")
    scene.ask("Q2Q")
    scene.ask("Q3Q")
    scene.stick()
    scene.answer("Q2Q", "Q3Q", words=LONG)
    scene.show(texts.ONLY_TEXT)
    scene.ask("Q4Q")
    scene.ask("Q5Q")
    scene.show(f"{texts.NOT_TAKEN}\n\n{texts.CONTACT}")
    scene.ask("Q6Q")
    scene.show(texts.WAITING)
    scene.answer("Q6Q")
    return scene


def test_a_conversation_as_it_should_be_passes() -> None:
    """The judge accuses nobody without reason."""
    verdict = good().verdict()
    assert verdict.clean, verdict.notes
    assert (verdict.questions, verdict.answers, verdict.errors) == (7, 3, 1)


def test_stickers_that_gathered_may_be_told_of_together() -> None:
    """As they are behind a question that waits."""
    scene = good()
    scene.ask("Q7Q")
    scene.stick()
    scene.stick()
    scene.answer("Q7Q")
    scene.show(texts.ONLY_TEXT)
    assert scene.verdict().clean


def _lose_the_last(scene: Scene) -> None:
    scene.ask("Q7Q")


def _lose_between(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.ask("Q8Q")
    scene.answer("Q8Q")


def _lose_a_notice(scene: Scene) -> None:
    scene.stick()


def _double_the_same(scene: Scene) -> None:
    scene.show(scene.view.seen[1].text)


def _double_in_other_words(scene: Scene) -> None:
    scene.show(scene.made("Q6Q").pieces[0])


def _double_a_notice(scene: Scene) -> None:
    scene.show(texts.ONLY_TEXT)


def _double_a_piece(scene: Scene) -> None:
    scene.show(scene.made("Q2Q", words=LONG).pieces[0])


def _turn_around(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.ask("Q8Q")
    scene.answer("Q8Q")
    scene.answer("Q7Q")


def _turn_a_batch_around(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.ask("Q8Q")
    scene.answer("Q8Q", "Q7Q")


def _overtake_a_sticker(scene: Scene) -> None:
    scene.stick()
    scene.ask("Q7Q")
    scene.answer("Q7Q")
    scene.show(texts.ONLY_TEXT)


def _say_what_belongs_to_nothing(scene: Scene) -> None:
    scene.show("What nobody made")


def _tell_twice_to_wait(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.show(texts.WAITING)
    scene.show(texts.WAITING)
    scene.answer("Q7Q")


def _fail_without_a_question(scene: Scene) -> None:
    scene.show(texts.NOT_TAKEN)


def _answer_what_was_asked_elsewhere(scene: Scene) -> None:
    scene.show(scene.made("Q99Q").pieces[0])


def _leave_a_piece_out(scene: Scene) -> None:
    scene.ask("Q7Q")
    made = scene.answer("Q7Q", words=LONG)
    scene.view.seen[-1].deleted = True
    assert len(made.pieces) == 2


def _swap_pieces(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.answer("Q7Q", words=LONG)
    last, before = scene.view.seen[-1], scene.view.seen[-2]
    last.text, before.text = before.text, last.text


def _repeat_a_piece(scene: Scene) -> None:
    scene.ask("Q7Q")
    made = scene.answer("Q7Q", words=LONG)
    scene.show(made.pieces[1])


def _forget_a_turn(scene: Scene) -> None:
    scene.view.stored.pop()


def _store_a_turn_twice(scene: Scene) -> None:
    scene.view.stored.append(scene.view.stored[-1])


def _store_other_words(scene: Scene) -> None:
    last = scene.view.stored.pop()
    scene.view.stored.append(Stored(last.number, last.question_ids, last.questions, "other words", last.answer_ids))


def _store_the_deleted_copy(scene: Scene) -> None:
    last = scene.view.stored.pop()
    scene.view.stored.append(Stored(last.number, last.question_ids, last.questions, last.said, (99,)))


def _store_the_text_before_the_edit(scene: Scene) -> None:
    scene.view.seen[0].text = "Q1Q in other words"


def _tell_the_model_less(scene: Scene) -> None:
    scene.ask("Q7Q")
    held, scene.view.stored = scene.view.stored, scene.view.stored[:1]
    made = scene.made("Q7Q")
    message = scene.show(made.pieces[0])
    asked = scene.view.items[-1].message_id
    scene.view.stored = [*held, Stored(len(held) + 1, (asked,), ("Q7Q please",), made.text, (message.message_id,))]


def _leave_a_draft(scene: Scene) -> None:
    scene.view.draft = "an answer that was given already"


def _put_a_turn_aside(scene: Scene) -> None:
    scene.ask("Q7Q")
    scene.show(texts.SET_ASIDE)


def _take_the_only_copy_away_for_a_while(scene: Scene) -> None:
    scene.ask("Q7Q")
    made = scene.made("Q7Q")
    first = scene.show(made.pieces[0])
    scene.answer("Q7Q")
    scene.view.seen[-1].text = made.pieces[0]
    first.deleted, first.t_deleted = True, first.t + 0.5


PLANTED: list[tuple[Callable[[Scene], None], str]] = [
    (_lose_the_last, "lost"),
    (_lose_between, "lost"),
    (_lose_a_notice, "lost"),
    (_double_the_same, "double"),
    (_double_in_other_words, "double"),
    (_double_a_notice, "double"),
    (_double_a_piece, "double"),
    (_repeat_a_piece, "double"),
    (_turn_around, "inversions"),
    (_turn_a_batch_around, "inversions"),
    (_overtake_a_sticker, "inversions"),
    (_say_what_belongs_to_nothing, "strays"),
    (_fail_without_a_question, "strays"),
    (_tell_twice_to_wait, "double"),
    (_answer_what_was_asked_elsewhere, "strays"),
    (_leave_a_piece_out, "broken"),
    (_swap_pieces, "broken"),
    (_forget_a_turn, "history"),
    (_store_a_turn_twice, "history"),
    (_store_other_words, "history"),
    (_store_the_deleted_copy, "history"),
    (_store_the_text_before_the_edit, "history"),
    (_tell_the_model_less, "history"),
    (_leave_a_draft, "ghosts"),
    (_put_a_turn_aside, "asides"),
    (_take_the_only_copy_away_for_a_while, "vanished"),
]


@pytest.mark.parametrize(("plant", "kind"), PLANTED, ids=[plant.__name__.strip("_") for plant, _ in PLANTED])
def test_a_planted_violation_is_found_and_named(plant: Callable[[Scene], None], kind: str) -> None:
    """Each kind of violation turns its own count from zero."""
    scene = good()
    plant(scene)
    verdict = scene.verdict()
    assert getattr(verdict, kind) > 0, verdict.notes
    assert not verdict.clean
    assert verdict.notes


def test_every_kind_of_violation_is_planted() -> None:
    """No count of the verdict goes untested."""
    assert {kind for _, kind in PLANTED} == set(VIOLATIONS)


def test_a_copy_that_was_removed_is_no_violation_but_is_counted_with_its_time() -> None:
    """A healed duplicate is told with how long the customer saw both."""
    scene = good()
    copy = scene.show(scene.view.seen[1].text)
    copy.deleted, copy.t_deleted = True, copy.t + 3.5
    verdict = scene.verdict()
    assert verdict.clean, verdict.notes
    assert verdict.healed == 1
    assert verdict.longest == pytest.approx(3.5)


def test_a_copy_that_came_first_counts_from_the_second_on() -> None:
    """Standing alone, a message that is removed later doubled nothing."""
    scene = Scene()
    scene.ask("Q1Q")
    made = scene.made("Q1Q")
    first = scene.show(made.pieces[0])
    first.deleted, first.t_deleted = True, first.t + 1.25
    second = scene.show(made.pieces[0])
    scene.view.stored = [Stored(1, (1,), ("Q1Q please",), made.text, (second.message_id,))]
    verdict = scene.verdict()
    assert verdict.clean, verdict.notes
    assert verdict.longest == pytest.approx(0.25)

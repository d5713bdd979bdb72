"""When an endpoint that fails is left alone, and when it is tried again. Time is a number that the test moves."""

import pytest

from bot.chat_api.breaker import Breaker


class Clock:
    """Seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(2.0, clock)


def fails(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.failed()


def test_it_opens_after_five_failures_in_a_row(breaker: Breaker, clock: Clock) -> None:
    """Four are bad luck; an answer between them begins the count anew."""
    fails(breaker, 4)
    assert (breaker.pause(), breaker.since) == (0.0, 0.0)
    breaker.succeeded()
    fails(breaker, 4)
    assert breaker.pause() == 0.0
    fails(breaker)
    assert 1.5 <= breaker.pause() <= 2.0
    assert breaker.since == clock.now


def test_what_fails_for_certain_opens_it_at_once(breaker: Breaker) -> None:
    """A refused key refuses the next question, too."""
    breaker.begin()
    breaker.failed(for_certain=True)
    assert breaker.pause() > 0


def test_one_question_at_a_time_tries_an_open_one(breaker: Breaker, clock: Clock) -> None:
    """The others wait for what becomes of it, also of one that was called away."""
    fails(breaker, 5)
    clock.now += 2.0
    assert breaker.pause() == 0.0
    breaker.begin()
    assert breaker.pause() > 0
    breaker.leave()
    assert breaker.pause() == 0.0
    breaker.begin()
    breaker.failed()
    assert breaker.pause() > 2.0


def test_a_try_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    """As if nothing had been: the next outage begins with the short pause again."""
    fails(breaker, 9)
    clock.now += 100
    breaker.begin()
    breaker.succeeded()
    assert (breaker.pause(), breaker.since) == (0.0, 0.0)
    fails(breaker, 5)
    assert breaker.pause() <= 2.0


def test_pauses_double_up_to_half_a_minute(breaker: Breaker, clock: Clock) -> None:
    """And since when it is open stays the same."""
    fails(breaker, 5)
    since, longest = breaker.since, 0.0
    for _ in range(20):
        pause = breaker.pause()
        assert longest * 0.7 <= pause <= 30
        longest = max(longest, pause)
        clock.now += pause
        fails(breaker)
    assert longest >= 22
    assert breaker.since == since


@pytest.mark.parametrize(("named", "least", "most"), [(9.0, 9.0, 9.0), (0.1, 1.5, 2.0), (9999.0, 30.0, 30.0)])
def test_a_time_that_the_server_names_is_kept(breaker: Breaker, named: float, least: float, most: float) -> None:
    """Not less than its own pause, and not beyond half of one."""
    fails(breaker, 4)
    breaker.failed(seconds=named)
    assert least <= breaker.pause() <= most


def test_what_fails_while_it_is_open_counts_for_nothing(breaker: Breaker, clock: Clock) -> None:
    """A dozen that were under way when it opened: the pause stays short, and the next try is not kept from anybody."""
    fails(breaker, 5)
    for _ in range(12):
        breaker.begin()
        breaker.failed()
    assert breaker.pause() <= 2.0
    clock.now += 2.0
    assert breaker.pause() == 0.0

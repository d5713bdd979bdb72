"""What data keys are called: a group, and the week whose content they seal.

A group is what is forgotten together: a conversation, or the mail of one epoch. Within it each week has a key of its
own, so that what is too old can be made unreadable everywhere while what is newer stays. ``GROUP/DAY``: the last day of
that week, in UTC days since 1970; ``GROUP/DAY.N``: a second key for it, where the first one had to be destroyed.
"""

from collections.abc import Mapping
from typing import Final

DAY_SECONDS: Final = 86_400
WEEK_DAYS: Final = 7
"""How long a key seals: copies in backups stay readable at most so much longer than what they are copies of."""

SERVICE: Final = 0
"""Stands for no chat: the owner of the keys that are the service's own."""

SIGNING: Final = "signing"
"""What signs exports."""

RIGHTS: Final = "rights"
"""Of what a customer agreed to and wished for."""


def day_of(seconds: float) -> int:
    """UTC days since 1970."""
    return int(seconds) // DAY_SECONDS


def last_day(day: int) -> int:
    """Of the week of a day."""
    return day - day % WEEK_DAYS + WEEK_DAYS - 1


def mail_group(epoch: int) -> str:
    """Of what a chat was sent, from one forget to the next."""
    return f"mail.{epoch}"


def mail_key(epoch: int, seconds: float) -> str:
    """``seconds``: when it arrived."""
    return f"{mail_group(epoch)}/{last_day(day_of(seconds))}"


def talk_groups(topic: int, conversation: int) -> tuple[str, ...]:
    """All that a conversation's keys may go by: schema 1 had one for all of it, with another name."""
    return talk_group(topic, conversation), f"talk.{topic}.{conversation}.0"


def talk_group(topic: int, conversation: int) -> str:
    """Of a conversation."""
    return f"talk.{topic}.{conversation}"


def talk_key(topic: int, conversation: int, day: int, fresh: Mapping[tuple[int, int, int], int]) -> str:
    """``day``: of writing (UTC days since 1970); ``fresh``: by topic, conversation and last day of a week, the number
    of the key that took the place of the first one."""
    last = last_day(day)
    number = fresh.get((topic, conversation, last))
    return f"{talk_group(topic, conversation)}/{last}" + (f".{number}" if number else "")

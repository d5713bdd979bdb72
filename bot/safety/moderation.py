"""What is done about a text that should not be asked or answered, by the operator's rules and a moderation endpoint.

A rule is a regular expression, and Python cannot interrupt one. So each is tried at load on texts built to make it
slow, and at work it sees windows of bounded length: the worst text costs a bounded time, while `refund.*lawyer` stays
allowed, which a limit on the whole text would forbid. An endpoint that fails is an error of its own and no verdict:
whether to answer then is the caller's decision.
"""

import re
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import permutations
from time import thread_time
from typing import Any, Final

from bot.errors import BotError
from bot.safety.unseen import visible

MOST_CHARACTERS: Final = 20_000
"""Of a text, how much is looked at. A Telegram message has at most 4,096 UTF-16 units."""
_WINDOW: Final = 2000
_STEP: Final = 1000
"""Windows overlap by half, so whatever matches within 1,000 characters is found."""
_MOST_SECONDS: Final = 0.05
_GROWTH: Final = 8
"""Each probe is an eighth longer than the one before. A pattern that doubles its time with every repetition passes the
limit at about its twentieth, so the probe that passes it takes no more than a few times the limit."""
_PROBE_SIGNS: Final = ("a", "A", "0", " ", "_", "-", ".", "é", "я", "中")
_MOST_LITERALS: Final = 24
_MOST_PAIRED: Final = 12
_WORD: Final = re.compile(r"\w{2,}")
_REPEATED_GROUP: Final = re.compile(r"\)[*+{]")
_LINE: Final = re.compile(r"\s*([A-Za-z]+)\s*:\s*(\S.*)")


class Action(IntEnum):
    """What is done about a text, the mildest first."""

    ANSWER = 0
    WARN = 1
    REFUSE = 2
    PERSON = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rule``: the pattern as it was written, or "moderation: " and categories; None where nothing was found."""

    action: Action
    rule: str | None = None


NOTHING_FOUND: Final = Verdict(Action.ANSWER)


class ModerationUnavailableError(BotError):
    """The endpoint gave no verdict; ``verdict`` is what the rules alone say."""

    def __init__(self, reason: str, verdict: Verdict = NOTHING_FOUND) -> None:
        self.reason = reason
        self.verdict = verdict
        super().__init__(f"no verdict of the moderation endpoint: {reason}")


class Rules:
    """One rule a line, `action: pattern`, with `#` for comments; case does not matter.

    Raises ValueError with a sentence that names the line, where one cannot be read or can be made slow. The probes for
    the latter repeat signs and words of the pattern, common signs, and pairs, and end in a sign that fits nothing: a
    net, no proof.
    """

    def __init__(self, text: str) -> None:
        self._rules = [_rule(number, line) for number, line in _lines(text)]

    def __len__(self) -> int:
        return len(self._rules)

    def verdict(self, text: str) -> Verdict:
        """The strictest rule that matches anywhere in the first 20,000 visible characters; among equals the first."""
        windows = list(_windows(_folded(text))) if self._rules else []
        best = NOTHING_FOUND
        for action, pattern, written in self._rules:
            if action > best.action and any(pattern.search(window) for window in windows):
                best = Verdict(action, written)
        return best


class ModerationApi:
    """Reads the replies of an endpoint that answers as OpenAI's `/moderations` does.

    ``post`` sends the JSON and returns the reply's; it raises a BotError, OSError or TimeoutError where that fails.
    ``categories``: those that count, with what lies below them ("harassment" covers "harassment/threatening"); none
    means all that the endpoint flags.
    """

    def __init__(
        self,
        post: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
        action: Action,
        categories: frozenset[str] = frozenset(),
        model: str | None = None,
    ) -> None:
        self.action = action
        self._post = post
        self._categories = categories
        self._model = {"model": model} if model else {}

    async def look(self, text: str) -> Verdict:
        """Raises ModerationUnavailableError where the endpoint fails or replies with something else than a verdict."""
        try:
            reply = await self._post({"input": visible(text)[:MOST_CHARACTERS], **self._model})
        except (BotError, OSError, TimeoutError) as error:
            raise ModerationUnavailableError(type(error).__name__) from error
        found = sorted(name for name in _flagged(reply) if self._counts(name))
        return Verdict(self.action, f"moderation: {', '.join(found)}") if found else NOTHING_FOUND

    def _counts(self, name: str) -> bool:
        return not self._categories or any(name == one or name.startswith(f"{one}/") for one in self._categories)


class Moderation:
    """The operator's rules, then the endpoint where it can still make the verdict stricter."""

    def __init__(self, rules: Rules, api: ModerationApi | None = None) -> None:
        self._rules = rules
        self._api = api

    async def look(self, text: str) -> Verdict:
        """Raises ModerationUnavailableError, which carries the rules' own verdict."""
        own = self._rules.verdict(text)
        if self._api is None or self._api.action <= own.action or not text.strip():
            return own
        try:
            other = await self._api.look(text)
        except ModerationUnavailableError as error:
            raise ModerationUnavailableError(error.reason, own) from error
        return other if other.action > own.action else own


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _rule(number: int, line: str) -> tuple[Action, re.Pattern[str], str]:
    parts = _LINE.fullmatch(line.rstrip())
    if parts is None or parts[1].upper() not in Action.__members__:
        actions = ", ".join(action.name.lower() for action in Action)
        raise ValueError(f"Line {number} of the moderation rules is not `action: pattern`, with one of {actions}.")
    written = parts[2]
    try:
        pattern = re.compile(unicodedata.normalize("NFKC", written), re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"Line {number} of the moderation rules is no regular expression: {error}.") from error
    if pattern.search(""):
        raise ValueError(f"Line {number} of the moderation rules matches every text.")
    if _can_be_slow(pattern):
        raise ValueError(
            f"Line {number} of the moderation rules can take too long on a hostile text; "
            "avoid repeating a group that repeats something itself."
        )
    return Action[parts[1].upper()], pattern, written


def _folded(text: str) -> str:
    """Full-width and styled letters become ordinary ones. Cut twice: one sign can become eighteen."""
    return unicodedata.normalize("NFKC", visible(text[: 2 * MOST_CHARACTERS])[:MOST_CHARACTERS])[:MOST_CHARACTERS]


def _windows(text: str) -> Iterator[str]:
    for start in range(0, max(len(text) - _STEP, 1), _STEP):
        yield text[start : start + _WINDOW]


def _can_be_slow(pattern: re.Pattern[str]) -> bool:
    return any(_takes_long(pattern, unit) for unit in _units(pattern.pattern))


def _units(written: str) -> list[str]:
    """What is repeated in probes. Pairs matter only where a group is repeated, and cost most."""
    literals = sorted({sign for sign in written if not sign.isspace()})[:_MOST_LITERALS]
    signs = list(dict.fromkeys([*_PROBE_SIGNS, *literals]))
    words = list(dict.fromkeys(_WORD.findall(written)))[:_MOST_LITERALS]
    if not _REPEATED_GROUP.search(written):
        return signs + words
    own = [sign for sign in literals if sign not in "()[]{}*+?|\\^$"][:_MOST_PAIRED]
    return signs + words + ["".join(pair) for pair in permutations(["a", "0", " ", *own], 2)]


def _takes_long(pattern: re.Pattern[str], unit: str) -> bool:
    """The processor's time of this thread counts: a machine that is busy with other things refuses no rule."""
    length = _GROWTH
    while length < _WINDOW:
        length += length // _GROWTH
        probe = (unit * length)[: length - 1] + "\x00"
        for _ in range(3):
            begin = thread_time()
            pattern.search(probe)
            if thread_time() - begin <= _MOST_SECONDS:
                break
        else:
            return True
    return False


def _flagged(reply: Any) -> list[str]:
    """Categories flagged in the first result; "flagged" itself where the endpoint names none."""
    try:
        result = reply["results"][0]
        flagged, categories = result["flagged"], result.get("categories") or {}
        names = [str(name) for name, value in categories.items() if value is True]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModerationUnavailableError("the reply holds no verdict") from error
    if not isinstance(flagged, bool):
        raise ModerationUnavailableError("the reply holds no verdict")
    return names or (["flagged"] if flagged else [])

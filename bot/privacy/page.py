"""The archive's page for people: one HTML file that needs nothing else, runs nothing and fetches nothing.

Every text goes through ``shown``; the page's own policy, which allows its one style and nothing more, stands behind
that as a second wall. Links are not made clickable: what the model or a stranger wrote is not ours to recommend.
"""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bot.privacy.content import NO_REASON, About, Account, Gap, Message, Noted, Role, clock_of
from bot.texts import N_

TITLE: Final = N_("Your conversations with {bot}")
MADE: Final = N_("Saved on {day} at {time}. All times are UTC.")
PART: Final = N_("This is part {part} of {parts}.")
CONVERSATION: Final = N_("Conversation {number}")
TOPIC: Final = N_("Topic {topic}, conversation {number}")
ONE_MISSING: Final = N_("Question {first} and its answer are missing.")
SOME_MISSING: Final = N_("Questions {first} to {last} and their answers are missing.")
NOTHING: Final = N_("There are no messages.")
SKIPPED: Final = N_("Not included")
NOTED: Final = N_("What the assistant keeps in mind of questions 1 to {upto}, which it no longer reads itself:")
SUMMED_UP: Final = N_("In summary:")
SETTINGS: Final = N_("Your settings")
CONSENTS: Final = N_("What you agreed to")
RECEIPTS: Final = N_("Your requests")

ROLES: Final = {Role.CUSTOMER: N_("You"), Role.ASSISTANT: N_("AI assistant"), Role.OPERATOR: N_("Support team")}
STATES: Final = {
    "stopped": N_("You stopped this answer."),
    "handed": N_("Passed on to a person."),
    "notice": N_("Automatic message"),
}

_UNITS: Final = {"_ms": 1000, "_s": 1}
_STYLE: Final = """
:root {
  color-scheme: light dark;
  --back: #e9eef3; --text: #17212b; --quiet: #55616d; --line: #cfd8e0; --mine: #d9f4c8; --theirs: #fff; --team: #fdf0d5;
  font: 16px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back);
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0e1621; --text: #f0f3f6; --quiet: #b6c2cd; --line: #2c3a47; --mine: #274a6d; --theirs: #1e2c3a;
    --team: #453a1f;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 46rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.05rem; margin: 2.5rem 0 0; padding-top: 1rem; border-top: 1px solid var(--line); }
p { margin: 0; }
.quiet, .day, .gap, small, time { color: var(--quiet); font-size: .85rem; }
.day { text-align: center; margin: 1.2rem 0 .6rem; }
.day time { font-weight: 600; }
.gap, .notes { margin: .6rem 0; padding: .5rem .75rem; border: 1px dashed var(--quiet); border-radius: .6rem; }
.notes { margin-top: 1.2rem; }
.notes ul { margin: .3rem 0; padding-inline-start: 1.2rem; }
article {
  width: fit-content; max-width: 85%; margin: .5rem 0; padding: .5rem .8rem .6rem; border-radius: .9rem;
  border-start-start-radius: .25rem; background: var(--theirs); border: 1px solid transparent;
}
article.customer {
  margin-inline-start: auto; background: var(--mine); border-radius: .9rem; border-start-end-radius: .25rem;
}
article.operator { background: var(--team); }
article header { display: flex; gap: .6rem; align-items: baseline; justify-content: space-between; }
article b { font-size: .85rem; }
.said { white-space: pre-wrap; unicode-bidi: plaintext; text-align: start; tab-size: 4; }
small { display: block; margin-top: .25rem; font-style: italic; }
.skipped ul, .account ul { margin: .6rem 0 0; padding-inline-start: 1.2rem; }
@page { margin: 15mm; }
@media print {
  :root {
    color-scheme: light;
    --back: #fff; --text: #000; --quiet: #444; --line: #999; --mine: #fff; --theirs: #fff; --team: #fff;
    font-size: 11pt;
  }
  body { max-width: none; padding: 0; }
  article { border-color: var(--line); break-inside: avoid; orphans: 3; widows: 3; }
  article.customer { border-width: 2px; }
  .gap, li { break-inside: avoid; }
  h1, h2, .day { break-after: avoid; }
}
"""
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"

_SIGNS: Final = {
    # Control characters have signs of their own; a browser would drop them, or end the text at them.
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    # Half of a pair and the second set of control characters have none.
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd"),
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    ord("'"): "&#39;",
}


_PLAIN: Final = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff&<>\"']*")


def shown(text: str) -> str:
    """A text as HTML that shows exactly it, in an element or an attribute. What cannot be seen is made a sign."""
    if _PLAIN.fullmatch(text):
        return text  # most texts are; to translate one costs more than all else that is done with it
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_SIGNS)


class Page:
    """``chat.html``, piece by piece: head, conversations with their messages in order, foot."""

    name: Final = "chat.html"

    def __init__(self, about: About, account: Account, say: Callable[[str], str]) -> None:
        self._about = about
        self._account = account
        self._say = say
        self._heads = {
            role: f'<article class="{role}"><header><b>{shown(say(words))}</b>' for role, words in ROLES.items()
        }
        self._states = {state: shown(say(words)) for state, words in STATES.items()}
        self._is_empty = True
        self._day = ""

    def head(self) -> bytes:
        about, made = self._about, clock_of(self._about.made_s)
        facts = [self._text(MADE, day=made.day, time=made.minute)] if made else []
        if about.parts > 1:
            facts.append(self._text(PART, part=about.part, parts=about.parts))
        head = (
            f'<!DOCTYPE html>\n<html lang="{shown(about.language)}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n'
            # Phones make links of what looks like a number or an address.
            '<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">\n'
            f"<title>{self._text(TITLE, bot=shown(about.bot))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{self._text(TITLE, bot=f'<bdi>{shown(about.bot)}</bdi>')}</h1>\n"
            f'<p class="quiet">{" ".join(facts)}</p>\n<main>\n'
        )
        return head.encode()

    def begin(self, topic: int, conversation: int) -> bytes:
        self._is_empty = False
        self._day = ""
        return f'<section id="c{topic}-{conversation}">\n<h2>{self._heading(topic, conversation)}</h2>\n'.encode()

    def message(self, message: Message) -> bytes:
        clock = clock_of(message.time_s)
        day = time = state = ""
        if clock:
            time = f' <time datetime="{clock.iso}">{clock.minute}</time>'
            if clock.day != self._day:
                self._day = clock.day
                day = f'<p class="day"><time datetime="{self._day}">{self._day}</time></p>\n'
        if message.state:
            state = f"<small>{self._states.get(message.state) or shown(message.state)}</small>"
        # Whatever language it is in: the page's own would have it read aloud, and its signs drawn, as that.
        said = f'<p class="said" lang="" dir="auto">{shown(message.text)}</p>'
        return f"{day}{self._heads[message.role]}{time}</header>{said}{state}</article>\n".encode()

    def gap(self, gap: Gap) -> bytes:
        return f'<p class="gap">{self._missing(gap)}</p>\n'.encode()

    def notes(self, noted: Noted) -> bytes:
        stated = "".join(f'<li lang="" dir="auto">{shown(statement)}</li>\n' for statement in noted.statements)
        parts = [f'<section class="notes">\n<p class="quiet">{self._text(NOTED, upto=noted.upto)}</p>\n']
        if stated:
            parts.append(f"<ul>\n{stated}</ul>\n")
        if noted.summary:
            parts.append(f'<p class="quiet">{self._text(SUMMED_UP)}</p>\n')
            parts.append(f'<p class="said" lang="" dir="auto">{shown(noted.summary)}</p>\n')
        return "".join([*parts, "</section>\n"]).encode()

    def end(self) -> bytes:
        return b"</section>\n"

    def foot(self, gaps: Sequence[Gap]) -> Iterator[bytes]:
        if self._is_empty:
            yield f'<p class="gap">{self._text(NOTHING)}</p>\n'.encode()
        if self._about.skipped or gaps:
            yield f'<section class="skipped">\n<h2>{self._text(SKIPPED)}</h2>\n<ul>\n'.encode()
            for skipped in self._about.skipped:
                yield f"<li><bdi>{shown(skipped.what)}</bdi>: {self._reason(skipped.reason)}</li>\n".encode()
            for gap in gaps:
                yield f"<li>{self._heading(gap.topic, gap.conversation)}: {self._missing(gap)}</li>\n".encode()
            yield b"</ul>\n</section>\n"
        yield from self._kept()
        yield b"</main>\n</body>\n</html>\n"

    def _kept(self) -> Iterator[bytes]:
        """What is kept beside the conversations, under the names that programs see in ``account.json``."""
        account = self._account
        for heading, items in (
            (SETTINGS, [{name: value} for name, value in account.settings.items()]),
            (CONSENTS, account.consents),
            (RECEIPTS, account.receipts),
        ):
            if items:
                yield f'<section class="account">\n<h2>{self._text(heading)}</h2>\n<ul>\n'.encode()
                for item in items:
                    yield f"<li>{', '.join(_fact(name, value) for name, value in item.items())}</li>\n".encode()
                yield b"</ul>\n</section>\n"

    def _heading(self, topic: int, conversation: int) -> str:
        """People count from 1; the store, and with it the section's id, from 0."""
        return self._text(TOPIC if topic else CONVERSATION, topic=topic, number=conversation + 1)

    def _missing(self, gap: Gap) -> str:
        sentence = ONE_MISSING if gap.first == gap.last else SOME_MISSING
        return f"{self._text(sentence, first=gap.first, last=gap.last)} {self._reason(gap.reason)}"

    def _reason(self, reason: str) -> str:
        """Translated where it is a sentence of ours. (To gettext the empty one means the catalogue's own head.)"""
        return f"<bdi>{shown(self._say(reason or NO_REASON))}</bdi>"

    def _text(self, sentence: str, **values: object) -> str:
        """A sentence as HTML; the values are HTML already."""
        return shown(self._say(sentence)).format(**values)


def _fact(name: str, value: Any) -> str:
    """A name and its value as HTML. Times are told as such, whatever unit they are kept in."""
    for unit, divisor in _UNITS.items():
        if name.endswith(unit) and isinstance(value, int) and (clock := clock_of(value // divisor)):
            return f'<bdi>{shown(name.removesuffix(unit))}</bdi>: <time datetime="{clock.iso}">{clock.iso}</time>'
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<bdi>{shown(name)}</bdi>: <bdi>{shown(told)}</bdi>"

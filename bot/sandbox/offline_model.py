"""What the offline model says: honest about being one, and proof that it was given the conversation.

No model runs here. The answer is made from the messages alone, so the same conversation gets the same answer: it
counts the customer's turns, names what was asked before and repeats what the customer said of themselves, also where
that stands only in the notes at the end of the system message. Asked for a summary, it quotes the customer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Words of earlier questions that are quoted.
QUOTED_WORDS = 12
QUOTED_QUESTIONS = 3
#: How the service's notes and its request for a summary begin. Written down again here, since nothing of the service is
#: known in the sandbox; a test compares both.
NOTES_HEADING = "[Notes on the earlier part of this conversation]"
SUMMARY_OPENING = "Summarise the earlier part of a customer's conversation"
SUMMARY_WORDS = 120

_CLAUSE = re.compile(r"\s+(?:and|but|so|because|which|y|pero|и|а|но)\s", re.IGNORECASE)
_GREETING = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|evening|day)|/start)\b", re.IGNORECASE)
_LONG = re.compile(r"\b(?:long|story|essay|poem|details?)\b", re.IGNORECASE)
_VALUE = r"((?:[^.!?,;\n。！？，；]|\.(?=\w)){1,60})"
_THING = r"((?:[^\W\d_]+\s+){0,2}?[^\W\d_]+)"


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Tongue:
    """How facts are stated and asked for in a language, and what is said of them."""

    fact: re.Pattern[str]
    name: re.Pattern[str]
    asked: re.Pattern[str]
    asked_name: re.Pattern[str]
    name_word: str
    known: str
    unknown: str
    noted: str


_ENGLISH = _Tongue(
    fact=_compiled(rf"\bmy\s+(\w[\w-]*(?:\s\w+)?)\s+is\s+{_VALUE}"),
    name=_compiled(rf"\b(?:i am called|call me|my name's)\s+{_VALUE}"),
    asked=_compiled(r"\b(?:what(?:'s| is| was)|do you (?:know|remember))\s+my\s+(\w[\w-]*(?:\s\w+)?)"),
    asked_name=_compiled(r"\bwho am i\b"),
    name_word="name",
    known="You told me that your {thing} is **{value}**.",
    unknown="You have not told me your {thing} yet.",
    noted="your {thing} is **{value}**",
)
_TONGUES = (
    _ENGLISH,
    _Tongue(
        fact=_compiled(rf"\b(?:мо[йяёеию])\s+{_THING}\s*(?:[—–:-]|\bэто\b|\bтеперь\b|(?=\s\d))\s*{_VALUE}"),
        name=_compiled(rf"\bменя зовут\s+{_VALUE}"),
        asked=_compiled(rf"\b(?:как\w+|помн\w+|зна\w+)\b[^.!]*?\b(?:мо[йяёеию]|у меня)\s+{_THING}\s*\??$"),
        asked_name=_compiled(r"\bкак меня зовут\b"),
        name_word="имя",
        known="Вы говорили: {thing} — **{value}**.",
        unknown="Вы ещё не говорили мне: {thing}.",
        noted="{thing} — **{value}**",
    ),
    _Tongue(
        fact=_compiled(rf"\bmi\s+{_THING}\s+es\s+{_VALUE}"),
        name=_compiled(rf"\bme llamo\s+{_VALUE}"),
        asked=_compiled(rf"\b(?:cu[áa]l|recuerdas?|sabes?)\b[^.!]*?\bmi\s+{_THING}\s*\??$"),
        asked_name=_compiled(r"\bc[óo]mo me llamo\b"),
        name_word="nombre",
        known="Me dijiste que tu {thing} es **{value}**.",
        unknown="Todavía no me has dicho tu {thing}.",
        noted="tu {thing} es **{value}**",
    ),
    _Tongue(
        fact=_compiled(rf"我的([^\s是为：:，。？]{{1,10}})[是为：:]\s*(?![什多几哪谁不否]){_VALUE}"),
        name=_compiled(rf"我叫(?!什么){_VALUE}"),
        asked=_compiled(r"我的([^\s是为：:，。？]{1,10}?)(?:是|叫)?(?:什么|多少|几|哪)"),
        asked_name=_compiled(r"我叫什么"),
        name_word="名字",
        known="你告诉过我，你的{thing}是 **{value}**。",
        unknown="你还没有告诉我你的{thing}。",
        noted="你的{thing}是 **{value}**",
    ),
)

NOTICE = "*Written by the offline model: no language model is running.*"
_TALE = (
    "Once upon a time a message set out for an answer. It was stored before it was read, read before it was "
    "understood, and understood about as well as a program without a language model can manage. On its way it met a "
    "queue, which it respected, and a lease, which it renewed. Nothing was lost, nothing came twice. "
)


def text_of(content: Any) -> str:
    """The text of a message's content, which may be a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return ""


def offline_answer(messages: list[dict[str, Any]]) -> str:
    """The answer to the last user message of a chat completion request, in Markdown."""
    asked = [text_of(message.get("content")).strip() for message in messages if message.get("role") == "user"]
    told = [text_of(message.get("content")) for message in messages if message.get("role") in ("system", "developer")]
    if told and told[0].startswith(SUMMARY_OPENING):
        return _summary("\n".join(asked))
    noted = list(_noted(told[0])) if told else []
    question, earlier = (asked[-1], asked[:-1]) if asked else ("", [])
    parts = [_opening(question, remembered([*noted, *asked])), _continuity(earlier, trimmed=bool(noted))]
    if _LONG.search(question):
        parts.append(_TALE * 2)
    parts.append(NOTICE)
    return "\n\n".join(part.strip() for part in parts if part)


def remembered(asked: list[str]) -> dict[str, str]:
    """What the customer said of themselves ("my name is …", "my order number is …"); later words win."""
    facts: dict[str, str] = {}
    for text in asked:
        for tongue in _TONGUES:
            for found in tongue.fact.finditer(text):
                facts[_key(found.group(1), tongue)] = _CLAUSE.split(found.group(2))[0].strip()
            for found in tongue.name.finditer(text):
                facts["name"] = _CLAUSE.split(found.group(1))[0].strip()
    return facts


def _noted(text: str) -> Iterator[str]:
    """The lines of summary and statements below the last heading; nothing of the prompt above it. The summary comes
    first, for it may be older."""
    _, heading, below = f"\n{text}".rpartition(f"\n{NOTES_HEADING}\n")
    lines = below.splitlines() if heading else []
    for sign in ("> ", "- "):
        yield from (line.removeprefix(sign) for line in lines if line.startswith(sign))


def _summary(data: str) -> str:
    """The customer's own statements, once each: those of the notes, and those in the turns quoted below."""
    quoted = (line.removeprefix("Customer: ") for line in data.splitlines() if line.startswith("Customer: "))
    stated = dict.fromkeys([*_noted(data), *(text for text in quoted if remembered([text]))])
    words = " ".join(stated).split()
    return " ".join(words[:SUMMARY_WORDS])


def _key(thing: str, tongue: _Tongue) -> str:
    thing = " ".join(thing.lower().split())
    return "name" if thing == tongue.name_word else thing


def _opening(question: str, facts: dict[str, str]) -> str:
    name = f", {facts['name']}" if "name" in facts else ""
    if not question:
        return f"I received nothing that I could read{name}."
    for tongue in _TONGUES:
        if tongue.asked_name.search(question):
            return _recalled(tongue.name_word, facts, tongue)
        if wanted := tongue.asked.search(question):
            return _recalled(wanted.group(1), facts, tongue)
    noted = "; ".join(_just_noted(question))
    if _GREETING.search(question):
        hint = f"I have noted that {noted}." if noted else "Ask me something, or tell me a thing to remember."
        return f"Hello{name}! {hint}"
    if noted:
        return f"Thank you{name}, I have noted that {noted}."
    return f"You wrote: “{_short(question)}”"


def _just_noted(question: str) -> Iterator[str]:
    for thing, value in remembered([question]).items():
        spoken = (tongue for tongue in _TONGUES if tongue.fact.search(question) or tongue.name.search(question))
        tongue = next(spoken, _ENGLISH)
        yield tongue.noted.format(thing=tongue.name_word if thing == "name" else thing, value=value)


def _recalled(thing: str, facts: dict[str, str], tongue: _Tongue) -> str:
    words = thing.split()
    tried = [_key(" ".join(words[:count]), tongue) for count in range(len(words), 0, -1)]
    value = next((facts[key] for key in tried if key in facts), "")
    return (tongue.known if value else tongue.unknown).format(thing=thing.lower(), value=value)


def _continuity(earlier: list[str], *, trimmed: bool) -> str:
    if not earlier:
        return "Of our conversation I have my notes." if trimmed else "This is the first message of our conversation."
    last = [f"- {_short(text)}" for text in earlier[-QUOTED_QUESTIONS:]]
    place = f"message **{len(earlier) + 1}** of {'what I still see of ' if trimmed else ''}our conversation"
    return "\n".join([f"This is {place}. Before it you wrote:", *last])


def _short(text: str) -> str:
    words = text.split()
    shown = " ".join(words[:QUOTED_WORDS])[:160]
    return f"{shown} …" if len(words) > QUOTED_WORDS or len(shown) < len(" ".join(words)) else shown

"""What the offline model says: honest about being one, and proof that it was given the conversation.

No model runs here. The answer is made from the messages alone, so the same conversation gets the same answer: it
counts the customer's turns, names what was asked before and repeats what the customer said of themselves.
"""

from __future__ import annotations

import re
from typing import Any

#: Words of earlier questions that are quoted.
QUOTED_WORDS = 12
QUOTED_QUESTIONS = 3

_FACT = re.compile(r"\bmy\s+(\w+(?:\s\w+)?)\s+is\s+([^.!?,;\n]{1,60})", re.IGNORECASE)
_NAME = re.compile(r"\b(?:i am called|call me|my name's)\s+([^.!?,;\n]{1,40})", re.IGNORECASE)
_ASKED = re.compile(r"\b(?:what(?:'s| is| was)|do you (?:know|remember))\s+my\s+(\w+(?:\s\w+)?)", re.IGNORECASE)
_CLAUSE = re.compile(r"\s+(?:and|but|so|because|which)\s", re.IGNORECASE)
_GREETING = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|evening|day)|/start)\b", re.IGNORECASE)
_LONG = re.compile(r"\b(?:long|story|essay|poem|details?)\b", re.IGNORECASE)

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
    question, earlier = (asked[-1], asked[:-1]) if asked else ("", [])
    facts = remembered(asked)
    parts = [_opening(question, facts), _continuity(earlier)]
    if _LONG.search(question):
        parts.append(_TALE * 2)
    parts.append(NOTICE)
    return "\n\n".join(part.strip() for part in parts if part)


def remembered(asked: list[str]) -> dict[str, str]:
    """What the customer said of themselves ("my name is …", "my order number is …"); later words win."""
    facts: dict[str, str] = {}
    for text in asked:
        for found in _FACT.finditer(text):
            facts[found.group(1).lower()] = _CLAUSE.split(found.group(2))[0].strip()
        for found in _NAME.finditer(text):
            facts["name"] = found.group(1).strip()
    return facts


def _opening(question: str, facts: dict[str, str]) -> str:
    name = f", {facts['name']}" if "name" in facts else ""
    if not question:
        return f"I received nothing that I could read{name}."
    if wanted := _ASKED.search(question):
        return _recalled(wanted.group(1).lower(), facts)
    noted = "; ".join(f"your {thing} is **{known}**" for thing, known in remembered([question]).items())
    if _GREETING.search(question):
        hint = f"I have noted that {noted}." if noted else "Ask me something, or tell me a thing to remember."
        return f"Hello{name}! {hint}"
    if noted:
        return f"Thank you{name}, I have noted that {noted}."
    return f"You wrote: “{_short(question)}”"


def _recalled(thing: str, facts: dict[str, str]) -> str:
    known = facts.get(thing) or facts.get(thing.split(maxsplit=1)[0])
    return f"You told me that your {thing} is **{known}**." if known else f"You have not told me your {thing} yet."


def _continuity(earlier: list[str]) -> str:
    if not earlier:
        return "This is the first message of our conversation."
    last = [f"- {_short(text)}" for text in earlier[-QUOTED_QUESTIONS:]]
    return "\n".join([f"This is message **{len(earlier) + 1}** of our conversation. Before it you wrote:", *last])


def _short(text: str) -> str:
    words = text.split()
    shown = " ".join(words[:QUOTED_WORDS])[:160]
    return f"{shown} …" if len(words) > QUOTED_WORDS or len(shown) < len(" ".join(words)) else shown

"""Finds keys and passwords in a system prompt before it is published.

Whatever stands in a prompt, a patient customer gets out of the model, and it goes to the provider with every request.
Known shapes are told by their prefix and alphabet. For `password: …` only a value that looks random counts, since
prompts speak of passwords all the time ("never ask for passwords", "password: at least eight characters").
"""

import re
from collections import Counter
from collections.abc import Iterable
from math import log2
from typing import Final

from bot.safety.unseen import visible

_SHORTEST_HELD: Final = 8
"""A held value below this length could be an ordinary word."""
_LEAST_BITS: Final = 2.8
"""Shannon entropy of a value, bits a character: random letters and digits from a length of eight on have more."""

_ALONE: Final = r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"
_SHAPES: Final = tuple(
    (name, re.compile(_ALONE.format(shape)))
    for name, shape in (
        ("a Telegram bot token", r"\d{6,12}:[A-Za-z0-9_-]{35}(?!_|-)"),
        ("an Anthropic key", r"sk-ant-[A-Za-z0-9_-]{16,}"),
        ("a chat API key", r"sk-(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}"),
        ("an AWS access key", r"(?:AKIA|ASIA)[A-Z0-9]{16}"),
        ("a GitHub token", r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"),
        ("a GitLab token", r"glpat-[A-Za-z0-9_-]{16,}"),
        ("a Slack token", r"xox[abeprs]-[A-Za-z0-9-]{10,}"),
        ("a Google API key", r"AIza[A-Za-z0-9_-]{30,}"),
        ("a Hugging Face token", r"hf_[A-Za-z0-9]{20,}"),
        ("a Groq key", r"gsk_[A-Za-z0-9]{20,}"),
        ("a JSON web token", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    )
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@<>\"']{0,80}:([^\s/@<>\"']{1,200})@[^\s/@]", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_ -]?key|access[_ -]?key|private[_ -]?key|auth[_ -]?key"
    r"|пароль|ключ|токен|contraseña|clave|密码|密钥|令牌)[\"'`*]{0,3}\s{0,3}(?:[:=：]|\bis\b|\bes\b)\s{0,3}[\"'`*]{0,3}"
    r"([^\s\"'`,;<>(){}\[\]]{8,200})",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(r"x{4,}|\*{3,}|\.{3}|…|your|example|placeholder|changeme", re.IGNORECASE)
_NO_PASSWORD: Final = re.compile(r"pass(?:word|wd)?|pwd|secret|token|key|\$\{?\w+\}?", re.IGNORECASE)
_PART: Final = re.compile(r"[-_./:@]+")
_WORDLIKE: Final = re.compile(r"[^\W\d_]*|\d{1,4}")


def secret_in(text: str, held: Iterable[str]) -> str | None:
    """What kind of secret ``text`` holds, in words for a sentence ("a Telegram bot token"), never its value.

    ``held``: values this service itself keeps secret; shorter ones than 8 characters are not looked for.
    """
    text = visible(text)
    if any(len(value) >= _SHORTEST_HELD and value in text for value in held):
        return "a secret of this service"
    if _PRIVATE_KEY.search(text):
        return "a private key"
    for name, shape in _SHAPES:
        if any(not _is_placeholder(found[0]) for found in shape.finditer(text)):
            return name
    if any(not _PLACEHOLDER.search(found[1]) and not _NO_PASSWORD.fullmatch(found[1]) for found in _URL.finditer(text)):
        return "an address with a password"
    if any(_looks_random(found[1]) for found in _NAMED.finditer(text)):
        return "a password or key"
    return None


def _is_placeholder(value: str) -> bool:
    return _PLACEHOLDER.search(value) is not None or _bits(value) < 2


def _looks_random(value: str) -> bool:
    """Letters with digits in one piece: `at-least-8-signs` and `2026/03/12` are made of words and numbers."""
    value = value.rstrip(".!?:")
    if _PLACEHOLDER.search(value) or len(value) < _SHORTEST_HELD or _bits(value) < min(_LEAST_BITS, log2(len(value))):
        return False
    if all(_WORDLIKE.fullmatch(part) for part in _PART.split(value)):
        return False
    return any(sign.isdigit() for sign in value) and any(sign.isalpha() for sign in value)


def _bits(value: str) -> float:
    """Shannon entropy, bits a character."""
    return -sum(count / len(value) * log2(count / len(value)) for count in Counter(value).values())

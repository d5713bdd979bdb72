"""Finds in words what Telegram, or an app, makes a link of, and says what stands there instead.

The expression follows how Telegram's apps look for addresses (any letter of any script can be part of a host, a path
ends at a blank, a quote or a bracket) and takes more rather than less: an address with a scheme needs no known domain.
Two things are kept as words that Telegram would link: a name of a file or a version becomes code, which it leaves
alone; and an allowed host written right behind a letter of a script without blanks is set apart with one, for Telegram
would take the letters for a part of the name.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bot.safety.domains import ends_in_domain, host_of, is_number, reads_as_words

ALWAYS_REMOVED: Final = frozenset({"javascript", "vbscript", "data", "blob", "filesystem", "intent", "file"})
"""Schemes that run something, carry a page in themselves, or open what is on the device."""

_LETTER: Final = (
    r"[^\x00-,./:-@\[-^`{-\xbf\s\u2000-\u200b\u200e-\u206f\u3000-\u303f"
    r"\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
_IN_PATH: Final = (
    r"[^\s<>\"«»`()\[\]{}|*\u2018-\u201f\u2026\u3000-\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]"
)
_REST: Final = rf"(?:{_IN_PATH}|\((?:{_IN_PATH}|\*)*\))*"
_ADDRESS: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+-]{1,30}):(?:[/\\]{2,}|(?<=http:)[/\\]|(?<=https:)[/\\])"
    rf"(?P<rest>{_REST})"
    rf"|(?P<script>(?:javascript|vbscript):|data:[a-z]+/[a-z0-9.+-]+[;,]){_REST}"
    r"|(?:(?P<user>[^\s/\[\]{}()'`<>\"@«»\u2000-\u200b\u200e-\u206f]{1,64})@)?"
    rf"(?P<host>(?:{_LETTER}{{1,63}}\.)+{_LETTER}{{1,63}})",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(rf"(?::\d{{1,5}})?(?:[/?#]{_REST})?", re.IGNORECASE)
TRAILING: Final = ".,;:!?'_~\\"
_FURTHER: Final = re.compile(r":[/\\]{2,}([^\s/?#\\]*)")
_USER: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_PORT: Final = re.compile(r":\d{0,5}$")
_LOCAL: Final = re.compile(r"(?:[A-Za-z0-9_-]{0,26}[.+]){0,10}[A-Za-z0-9_-]{1,35}$")
_MAIL_HOST: Final = re.compile(r"(?:[a-z0-9][a-z0-9_-]{0,29}\.){1,6}[a-z]{2,8}", re.IGNORECASE)
"""What Telegram takes as an e-mail address (TDLib, is_email_address); anything else with an @ in it is a link."""
_DROPPED: Final = re.compile("[\u030a\u0333\u033f\ufdd0-\ufdef]")
"""What is taken out of a message before it is sent (`bot.delivery.form.clean`): a name split by it becomes whole."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_BLANKLESS: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2190-\u2bff\u2e80-\u2fff\u3040-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe0f"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff]"
)
"""Scripts written without blanks or with endings right behind a name, and pictures."""


class Edit(NamedTuple):
    """Characters ``start`` to ``end`` are to become ``words``."""

    start: int
    end: int
    words: str


class Allowed:
    """Hosts that may be linked, each with what lies below it. Raises ValueError for a name that is no host."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self._hosts = frozenset(_checked(host) for host in hosts)

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def host(self, name: str) -> bool:
        """Whether the host is allowed; never for what is no host."""
        host = host_of(name)
        while host:
            if host in self._hosts:
                return True
            host = host.partition(".")[2]
        return False

    def rest(self, rest: str) -> bool:
        """What follows the slashes of an address; with another address inside, both must be allowed.

        A user in front of the host must be a plain word: `good.example@evil.example` is made to be misread.
        """
        authority = re.split(r"[/?#]", rest.lstrip("/\\"), maxsplit=1)[0].rstrip(TRAILING)
        user, at, place = authority.rpartition("@")
        if at and not _USER.fullmatch(user):
            return False
        further = (_PORT.sub("", found[1].rpartition("@")[2]) for found in _FURTHER.finditer(rest))
        return self.host(_PORT.sub("", place)) and all(self.host(name.rstrip(TRAILING)) for name in further)

    def begins_one(self, name: str) -> bool:
        """Whether a host that is still being written can become an allowed one, and is no host yet."""
        name = name.lower()
        return "." not in name and any(host.startswith(name) for host in self._hosts)


def edits_in(text: str, allowed: Allowed, removed: Callable[[int, int], str], start: int, end: int) -> Iterator[Edit]:
    """What is to change between ``start`` and ``end``, in order; ``removed(start, end)`` stands for an address."""
    while found := _ADDRESS.search(text, start, end):
        edits = list(_read(found, allowed, removed))
        yield from edits
        if not edits and found["user"] is not None and not ends_in_domain(found["host"].lower()):
            yield from edits_in(text, allowed, removed, found.start("user"), found.end("user"))
        # What follows words that are no address is no path of one.
        has_tail = found["host"] is not None and (edits or allowed.host(found["host"]))
        start = _end(found) if has_tail else found.end()


def _read(found: re.Match[str], allowed: Allowed, removed: Callable[[int, int], str]) -> Iterator[Edit]:
    if found["scheme"] is not None:
        return _with_scheme(found, allowed, removed)
    if found["script"] is not None:
        return _gone(found, removed)
    return (_bare if found["user"] is None else _with_user)(found, allowed, removed)


def is_mail(words: str) -> bool:
    """A plain e-mail address and nothing else."""
    local, _, host = words.partition("@")
    return bool(_LOCAL.fullmatch(local) and _MAIL_HOST.fullmatch(host))


def _checked(host: str) -> str:
    known = host_of(host.strip())
    if known is None:
        raise ValueError(f"{host!r} is not the name of a host, such as example.com.")
    return known


def _end(found: re.Match[str]) -> int:
    """With the port and path behind a bare host. Were they read at every word, a long path would be again and again."""
    tail = _TAIL.match(found.string, found.end(), found.endpos) if found["host"] is not None else None
    return tail.end() if tail else found.end()


def _gone(found: re.Match[str], removed: Callable[[int, int], str]) -> Iterator[Edit]:
    words = found.string[found.start() : _end(found)].rstrip(TRAILING)
    end = found.start() + len(words)
    start = end - len(words.lstrip("_"))  # signs of emphasis around it
    yield Edit(start, end, removed(start, end))


def _with_scheme(found: re.Match[str], allowed: Allowed, removed: Callable[[int, int], str]) -> Iterator[Edit]:
    rest = found["rest"].rstrip(TRAILING)
    if not rest:
        return  # "it begins with https://" links nothing
    if found["scheme"].lower() not in ALWAYS_REMOVED:
        if allowed.rest(rest):
            return
        if found.end() == len(found.string) and allowed.begins_one(rest):
            return
        host = _PLAIN.match(rest)
        if host and allowed.rest(host[0]) and _BLANKLESS.match(rest, host.end()):
            yield Edit(found.start("rest") + host.end(), found.start("rest") + host.end(), " ")
            return
    yield from _gone(found, removed)


def _with_user(found: re.Match[str], allowed: Allowed, removed: Callable[[int, int], str]) -> Iterator[Edit]:
    """An e-mail address stays. One with words right in front is set apart, for Telegram reads a link with a user."""
    host = found["host"]
    local = _LOCAL.search(found["user"])
    if not ends_in_domain(host.lower()):
        return
    if _end(found) > found.end() or local is None or not _MAIL_HOST.fullmatch(host):
        if not (allowed.host(host) and _USER.fullmatch(found["user"])):
            yield from _gone(found, removed)
    elif local.start() and not found["user"].lower().endswith("mailto:" + local[0].lower()):
        place = found.start("user") + local.start()
        yield Edit(place, place, " ")


def _bare(found: re.Match[str], allowed: Allowed, removed: Callable[[int, int], str]) -> Iterator[Edit]:
    host = found["host"]
    if _DROPPED.search(host):
        whole = _DROPPED.sub("", host).lower()
        if any(ends_in_domain(name) for name in (whole, *_PLAIN.findall(whole))):
            yield from _gone(found, removed)
        return
    if not host.isascii():
        yield from _bare_in_words(found, allowed, removed)
        return
    name = host.strip("._-")
    has_tail = found.string[found.end() : found.end() + 1] in {":", "/", "?", "#"}
    known = ends_in_domain(name.lower() if has_tail else name) or is_number(name) or name.lower().startswith("www.")
    if not known or allowed.host(name):
        return
    if reads_as_words(name) and _end(found) == found.end():
        yield from _as_code(found)
    else:
        yield from _gone(found, removed)


def _as_code(found: re.Match[str]) -> Iterator[Edit]:
    """Behind a slash it is part of a path, which Telegram links as little as we would; an escape is read later."""
    before = found.string[max(0, found.start() - 1) : found.start()]
    name = found["host"]
    if before in {"/", "\\"}:
        return
    lead = len(name) - len(name.lstrip("_-")) if name[-1] in "_-" else 0
    inner = name[lead:].rstrip("_-") if lead or name[-1] in "_-" else name
    yield Edit(found.start() + lead, found.start() + lead + len(inner), f"`{inner}`")


def _bare_in_words(found: re.Match[str], allowed: Allowed, removed: Callable[[int, int], str]) -> Iterator[Edit]:
    """Letters of other scripts belong to the name, unless their script sets no blanks between words."""
    run, begin = found["host"], found.start("host")
    plain = [core for core in _PLAIN.finditer(run) if ends_in_domain(core[0])]
    if plain and all(_stands_apart(run, core) for core in plain):
        for core in plain:
            start, end = begin + core.start(), begin + core.end()
            if not allowed.host(core[0].strip("._-")):
                end = (
                    found.start() + len(found.string[found.start() : _end(found)].rstrip(TRAILING))
                    if core.end() == len(run)
                    else end
                )
                yield Edit(start, end, removed(start, end))
                continue
            if core.start():
                yield Edit(start, start, " ")
            if core.end() < len(run):
                yield Edit(end, end, " ")
    elif plain or (ends_in_domain(run) and not allowed.host(run)):
        yield from _gone(found, removed)


def _stands_apart(run: str, core: re.Match[str]) -> bool:
    before, behind = run[: core.start()][-1:], run[core.end() :][:1]
    return all(not sign or _BLANKLESS.fullmatch(sign) is not None for sign in (before, behind))

"""What one server takes: known for some by their address, learned from refusals for all.

Servers differ in a handful of fields. What is sent at first is what most take; a 400 or 422 that names a field takes
that field out (or changes its name), for as long as the process lives. See the README's table of providers.
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from bot.chat_api.asking import Message

_ROLES: Final = ("system", "developer", "user")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(slots=True)
class Profile:
    """``limit``: the field that bounds an answer; ``role``: of the prompt (user where a model knows no other);
    ``cache_key``: whether a key that keeps a conversation's prefix in one cache is worth sending."""

    limit: str = "max_tokens"
    role: str = "system"
    cache_key: bool = False
    dropped: set[str] = field(default_factory=set)
    proven: bool = False
    lessons: int = 0

    def fitted(self, body: dict[str, object]) -> dict[str, object]:
        """The body without what the server does not take."""
        return {name: value for name, value in body.items() if name not in self.dropped}

    def told(self, messages: list[Message]) -> list[Message]:
        """The messages with the prompt in the role that the server takes."""
        if self.role == "system" or not messages or messages[0]["role"] != "system":
            return messages
        prompt, rest = messages[0]["content"], messages[1:]
        if self.role == "developer":
            return [{"role": "developer", "content": prompt}, *rest]
        if rest and rest[0]["role"] == "user":
            return [{"role": "user", "content": f"{prompt}\n\n{rest[0]['content']}"}, *rest[1:]]
        return [{"role": "user", "content": prompt}, *rest]

    def learn(self, name: str) -> bool:
        """The server does not take a field; whether there is something else to try."""
        if name in {"role", *_ROLES}:
            place = _ROLES.index(self.role) + 1
            if place == len(_ROLES):
                return False
            self.role = _ROLES[place]
            self.lessons += 1
            return True
        if name in self.dropped:
            return False
        self.dropped.add(name)
        self.lessons += 1
        if name == self.limit and name in _LIMITS[:2]:
            other = _LIMITS[1 - _LIMITS.index(name)]
            if other not in self.dropped:
                self.limit = other
        return True

    def bare(self, names: set[str]) -> None:
        """Nothing is sent that a server could do without."""
        self.dropped |= names
        self.lessons += 1

    def unlearn(self, dropped: frozenset[str]) -> None:
        """Sending less did not help, so it was not for the fields."""
        if not self.proven:
            self.dropped.intersection_update(dropped)


_HOSTS: Final[dict[str, dict[str, object]]] = {
    "api.openai.com": {"limit": "max_completion_tokens", "cache_key": True},
    "openai.azure.com": {"limit": "max_completion_tokens"},
    "api.mistral.ai": {"dropped": {"stream_options"}},
}
"""By the end of the host. Everything that is not here begins with what most servers take."""


def profile_of(url: str) -> Profile:
    """What is known of the server at an address before it was asked anything."""
    host = urlsplit(url).hostname or ""
    for end, known in _HOSTS.items():
        if host == end or host.endswith(f".{end}"):
            given = {name: set(value) if isinstance(value, set) else value for name, value in known.items()}
            return Profile(**given)  # type: ignore[arg-type]
    return Profile()

"""Where the chat APIs are, by the settings: the first one, then the fallbacks in their order."""

from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from bot.chat_api.endpoint import Place
from bot.settings import OFFLINE, Settings


def places_of(settings: Settings) -> list[Place]:
    """The built-in model's address is the word OFFLINE."""
    key = settings.chat_api_key.get_secret_value() if settings.chat_api_key else ""
    first = Place(
        settings.chat_api_url, settings.chat_model, key, settings.chat_api_dialect, settings.chat_conversation_field
    )
    return [first, *(_fallback(first, address) for address in settings.chat_fallbacks)]


def _fallback(first: Place, address: str) -> Place:
    """A further chat API. The key of the first goes nowhere but to its own host; whatever else is not given is the
    same, but for the dialect's field, which belongs to a server."""
    if address.partition("#")[0] == OFFLINE:
        return Place(OFFLINE)
    parts, own = urlsplit(address), urlsplit(first.url)
    options = dict(parse_qsl(parts.fragment))
    host = parts.netloc.rpartition("@")[2]
    same = (parts.scheme, host) == (own.scheme, own.netloc)
    return Place(
        urlunsplit((parts.scheme, host, parts.path, parts.query, "")).rstrip("/"),
        options.get("model", first.model),
        unquote(parts.password or parts.username or "") or (first.key if same else ""),
        options.get("dialect", first.dialect),
        options.get("field", first.conversation_field if same else ""),
    )

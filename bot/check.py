"""`python -m bot check`: what is configured, what can be reached, what is wrong and how to mend it.

It only looks. No key, folder or data is made and nothing is polled, so it may be run beside a service at work, whose
embedded store it then uses. With none running, that store is started only where DATA_DIR already holds data, and ended
again. Everything is looked at at once, each thing under a limit of its own, so that one silent server hides no other.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from bot.chat_api.endpoint import Place
from bot.chat_api.places import places_of
from bot.check_store import look_at_store
from bot.delivery.telegram import TelegramClient
from bot.errors import (
    SettingsError,
    TelegramBlockedError,
    TelegramError,
    TelegramRefusedError,
    TelegramUnauthorizedError,
    TelegramUncertainError,
    TelegramUnreachableError,
)
from bot.findings import FAULT, WARNING, Finding, as_sentence, fault, note, ok, print_end, print_section, warning
from bot.logs import Redactor
from bot.settings import OFFLINE, SUPPORT_PROMPT, TELEGRAM_URL, Settings

HEALTHY: Final = 0
FAULTY: Final = 1

LIMIT_SECONDS: Final = 5.0
_NO_MODEL_LIST: Final = frozenset({400, 404, 405, 501})
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)


async def check(settings: Settings, console: Console | None = None) -> int:
    """Prints what was found; 0 when the service can run on it, 1 when something must be mended first."""
    out = console or Console(highlight=False, markup=False, emoji=False)
    parts: dict[str, Coroutine[Any, Any, list[Finding]]] = {
        "Telegram": _telegram(settings),
        "Chat API": _chat_apis(settings),
        "Store and keys": look_at_store(settings),
        "HTTP": _http(settings),
    }
    looked = await asyncio.gather(*(_bounded(name, work) for name, work in parts.items()))
    sections = {"Configured": list(_configured(settings)), **dict(zip(parts, looked, strict=True))}
    redact = Redactor(settings.secret_values())
    for title, findings in sections.items():
        print_section(out, title, findings, redact)
    grades = [finding.grade for findings in sections.values() for finding in findings]
    print_end(out, grades.count(FAULT), grades.count(WARNING))
    return FAULTY if FAULT in grades else HEALTHY


async def _bounded(name: str, work: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    """What a part found; a part that fails in a way nobody foresaw must not hide the others."""
    try:
        return await work
    except TimeoutError:
        return [fault(f"{name}: no answer within {LIMIT_SECONDS:g} s.", "Look whether it is up and not overloaded.")]
    except Exception as error:  # noqa: BLE001 (the top of a part: named by its kind, the others are still told)
        return [fault(f"{name} could not be looked at ({type(error).__name__}).", "Look at its settings above.")]


# ---- what is configured
def _configured(settings: Settings) -> Iterator[Finding]:
    for name, value in _values(settings):
        yield note(f"{name}: {value}")
    try:
        settings.require_for_run()
    except SettingsError as error:
        for problem in error.problems:
            sentence, _, cure = problem.partition(": ")
            yield fault(f"{sentence}.", as_sentence(cure))
    for hint in settings.hints():
        sentence, _, cure = hint.partition(": ")
        yield warning(sentence if sentence.endswith(".") else f"{sentence}.", as_sentence(cure))


def _values(settings: Settings) -> Iterator[tuple[str, str]]:
    own = settings.telegram_api_url != TELEGRAM_URL
    yield "bot token", "set" if settings.bot_token else "not set"
    yield "Telegram", f"{settings.telegram_mode}{f' at {_shown(settings.telegram_api_url)}' if own else ''}"
    if settings.telegram_mode == "webhook":
        yield "webhook", f"{_shown(settings.webhook_address)}, secret {'set' if settings.webhook_secret else 'not set'}"
    yield "chat API", _shown(settings.chat_api_url) or "not set"
    if settings.chat_api_url not in {"", OFFLINE}:
        yield "model", f"{settings.chat_model or 'not set'}, key {'set' if settings.chat_api_key else 'not set'}"
    if settings.chat_fallbacks:
        yield "fallbacks", ", ".join(_shown(place.url) for place in places_of(settings)[1:])
    prompt = "the built-in one" if settings.system_prompt == SUPPORT_PROMPT else "your own"
    yield "system prompt", f"{prompt}, {len(settings.system_prompt)} characters"
    yield "store", _shown(settings.redis_url) or f"embedded, in {settings.data_dir}"
    yield "keys", f"{settings.master_key_file}, keyring {_shown(settings.keyring_url)}"


def _shown(address: str) -> str:
    """An address without user, password and parameters."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


# ---- Telegram
async def _telegram(settings: Settings) -> list[Finding]:
    if settings.bot_token is None:
        return [note("Not asked: there is no token. The sandbox works without one: make run.")]
    token, proxy = settings.bot_token.get_secret_value(), settings.telegram_proxy or None
    try:
        client = TelegramClient(token, settings.telegram_api_url, proxy=proxy, ca_file=settings.ca_file)
    except (ssl.SSLError, OSError):
        return [_bad_certificates()]
    try:
        async with asyncio.timeout(LIMIT_SECONDS), client:
            me, webhook = await asyncio.gather(client.call("getMe", {}), client.call("getWebhookInfo", {}))
            strangers = [person for person in settings.operator_ids if not await _is_known(client, person)]
    except TelegramError as error:
        return [_telegram_fault(error)]
    if not isinstance(me, dict) or not isinstance(webhook, dict):
        return [fault("TELEGRAM_API_URL does not speak as a Bot API server.", "Correct or remove TELEGRAM_API_URL.")]
    return [*_about_bot(me), *_about_webhook(settings, webhook), *_about_operators(settings, strangers)]


async def _is_known(client: TelegramClient, person: int) -> bool:
    """Whether the bot may write to somebody: Telegram knows only chats of those who wrote to it."""
    try:
        await client.call("getChat", {"chat_id": person})
    except (TelegramBlockedError, TelegramRefusedError):
        return False
    return True


def _about_operators(settings: Settings, strangers: list[int]) -> Iterator[Finding]:
    for person in strangers:
        yield warning(
            f"Operator {person} cannot be reached: a bot cannot write first.",
            "Let them send /start to the bot, or correct OPERATOR_IDS.",
        )
    if settings.operator_ids and not strangers:
        yield ok(f"{len(settings.operator_ids)} operators can be reached.")
    elif not settings.operator_ids and not settings.support_contact:
        yield note("Customers have no way to a person: set OPERATOR_IDS or SUPPORT_CONTACT.")


def _telegram_fault(error: TelegramError) -> Finding:
    reach = "Look at the network, TELEGRAM_API_URL and TELEGRAM_PROXY."
    # A server without the bot's address answers 404: a token of a wrong form, or no Bot API server at all.
    if isinstance(error, TelegramUnauthorizedError) or (isinstance(error, TelegramRefusedError) and error.code == 404):
        return fault("Telegram does not know BOT_TOKEN.", "Get the current token from @BotFather and write it there.")
    if isinstance(error, TelegramUnreachableError):
        return fault("Telegram cannot be reached.", reach)
    if isinstance(error, TelegramUncertainError):
        return fault(f"Telegram gave no answer that can be used ({error}).", reach)
    return fault(f"{error}.", "Wait and try again.")


def _about_bot(me: dict[str, Any]) -> Iterator[Finding]:
    yield ok(f"The bot @{me.get('username')} answers (id {me.get('id')}).")
    if not me.get("can_join_groups"):
        yield note("It cannot be added to groups.")
    elif me.get("can_read_all_group_messages"):
        yield note("Privacy mode is off: in groups it reads every message.")
    else:
        yield note("Privacy mode is on: in groups it reads only commands and replies to it, unless it is an admin.")


def _about_webhook(settings: Settings, info: dict[str, Any]) -> Iterator[Finding]:
    url, waiting = str(info.get("url") or ""), info.get("pending_update_count") or 0
    if settings.telegram_mode == "polling" and url:
        yield warning(
            f"A webhook is set at {_shown(url)}, so nothing can be polled.",
            "The service removes it when it starts; if another installation uses this token, end that one first.",
        )
    elif settings.telegram_mode == "webhook" and url != settings.webhook_address:
        told = f"points to {_shown(url)}" if url else "is not set"
        yield warning(f"The webhook {told}.", "The service sets it when it starts: start it.")
    else:
        yield ok("The webhook is set as configured." if url else "No webhook is set, as polling needs it.")
    if waiting:
        yield note(f"{waiting} updates wait at Telegram.")
    if url and (said := info.get("last_error_message")):
        yield warning(
            f"Telegram's last delivery failed: {said}.", "Look whether WEBHOOK_URL leads to this service from outside."
        )


# ---- chat API
async def _chat_apis(settings: Settings) -> list[Finding]:
    """The first one, whose faults are to be mended, and the fallbacks, which are only warned of."""
    if not settings.chat_api_url:
        return [note("Not asked: there is no address.")]
    first, *others = places_of(settings)
    parts = {_shown(place.url): _chat_api(settings, place) for place in others}
    looked = await asyncio.gather(_chat_api(settings, first), *(_bounded(name, work) for name, work in parts.items()))
    found = looked[0]
    for name, findings in zip(parts, looked[1:], strict=True):
        for one in findings:
            grade = WARNING if one.grade == FAULT else one.grade
            found.append(replace(one, grade=grade, sentence=f"{name}: {one.sentence}"))
    return found


async def _chat_api(settings: Settings, place: Place) -> list[Finding]:
    if place.url == OFFLINE:
        return [ok("The built-in model needs nothing. It only repeats and remembers.")]
    try:
        client = httpx.AsyncClient(
            base_url=place.url,
            headers={"Authorization": f"Bearer {place.key}"} if place.key else {},
            verify=ssl.create_default_context(cafile=settings.ca_file),
            proxy=settings.chat_api_proxy or None,
            timeout=LIMIT_SECONDS,
            trust_env=False,
        )
    except (ssl.SSLError, OSError):
        return [_bad_certificates()]
    try:
        async with asyncio.timeout(LIMIT_SECONDS), client:
            return await (_ask_dify(client) if place.dialect == "dify" else _ask_chat_api(client, place))
    except (httpx.TimeoutException, TimeoutError):
        raise TimeoutError from None
    except (httpx.HTTPError, OSError) as error:
        cure = "Look at the network, CHAT_API_URL, CHAT_API_PROXY and CA_FILE."
        return [fault(f"The chat API cannot be reached ({type(error).__name__}).", cure)]


async def _ask_dify(client: httpx.AsyncClient) -> list[Finding]:
    """An application's parameters cost nothing, and need its key."""
    reply = await client.get("parameters", params={"user": "check"})
    if reply.status_code == 200 and _fields(reply):
        return [ok("The application answers (its parameters were read, no answer was asked for).")]
    return [_chat_fault(reply.status_code)]


async def _ask_chat_api(client: httpx.AsyncClient, place: Place) -> list[Finding]:
    """The list of models costs nothing; servers without one are asked for an answer of one token."""
    reply = await client.get("models")
    listed = _models(reply)
    if listed is not None:
        found = [ok(f"It answers and lists {len(listed)} models (models call, no answer was asked for).")]
        if place.model and place.model not in listed:
            found.append(warning(f"CHAT_MODEL {place.model} is not among them.", "Compare its name with the list."))
        return found
    if place.dialect == "completions" and (reply.status_code == 200 or reply.status_code in _NO_MODEL_LIST):
        body = {"model": place.model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        reply = await client.post("chat/completions", json=body)
        if reply.status_code == 200 and "choices" in _fields(reply):
            return [ok("It answers (a completion of one token; it has no list of models).")]
    return [_chat_fault(reply.status_code)]


def _models(reply: httpx.Response) -> list[str] | None:
    data = _fields(reply).get("data") if reply.status_code == 200 else None
    return [str(entry.get("id")) for entry in data if isinstance(entry, dict)] if isinstance(data, list) else None


def _fields(reply: httpx.Response) -> dict[str, Any]:
    try:
        fields = reply.json()
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _chat_fault(status: int) -> Finding:
    if status in {401, 403}:
        return fault(f"The chat API refuses CHAT_API_KEY ({status}).", "Write a valid key that may use this API.")
    if status in {200, 404, 405}:
        return fault(
            f"CHAT_API_URL does not speak as a chat API (status {status}).", "Correct it; such addresses end in /v1."
        )
    if status == 429:
        return fault("The chat API says that too much was asked (429).", "Look at the limits and the credit there.")
    if status >= 500:
        return fault(f"The chat API fails (status {status}).", "Try again later, or look at its own status page.")
    cure = "Correct CHAT_MODEL and CHAT_API_KEY."
    return fault(f"The chat API refused a smallest question (status {status}).", cure)


def _bad_certificates() -> Finding:
    return fault("CA_FILE cannot be read as certificates.", "Let it name a PEM file with the certificates to trust.")


# ---- our own port
async def _http(settings: Settings) -> list[Finding]:
    host, port = settings.http_host, settings.http_port
    if port == 0:
        return [ok("HTTP_PORT is 0: any free port is taken.")]
    near = _ANY_ADDRESS.get(host, host)
    root = f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"
    try:
        async with asyncio.timeout(LIMIT_SECONDS), httpx.AsyncClient(base_url=root, trust_env=False) as client:
            alive, ready = [await client.get(path) for path in ("/healthz", "/readyz")]
    except (httpx.HTTPError, OSError):
        return [_port(host, port)]
    if alive.status_code != 200 or alive.text != "ok\n":
        return [fault(f"Another program answers on {host} port {port}.", "Set a free HTTP_PORT, or end that program.")]
    found = [ok(f"The service is running on {host} port {port}.")]
    troubles = _fields(ready).get("troubles")
    for part, trouble in (troubles if isinstance(troubles, dict) else {}).items():
        found.append(warning(f"It is not ready: {part} {trouble}.", "Look at its log, or wait if it has just begun."))
    return found


def _port(host: str, port: int) -> Finding:
    """Bound for a moment and never listened on, so a service that starts meanwhile is not in its way."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address[4])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return fault(f"Port {port} is taken by another program.", "Set a free HTTP_PORT, or end that program.")
        cure = "Correct HTTP_HOST or HTTP_PORT."
        return fault(f"Nothing can listen on {host} port {port} ({error.strerror}).", cure)
    return ok(f"Port {port} on {host} is free; the service is not running there.")

"""What a person can do on the page, each as one JSON object `{"do": …, "chat_id": …}`, and attaching a file.

Whatever does not fit is an error of the caller: KeyError, TypeError, ValueError and LookupError all mean so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bot.sandbox.customers import Customers
from bot.sandbox.people import add_customer

#: Telegram's apps cut a longer text into messages of so many UTF-16 units.
MESSAGE_UNITS: Final = 4096
#: Longest caption that Telegram's apps let anybody write without Premium, in UTF-16 units.
CAPTION_UNITS: Final = 1024

#: What the page sends without asking for a file; the bytes only have to be there.
_PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f00050001ff56c72fd00000000049454e44ae426082"
)
_SAMPLES: Final = {"sticker": (_PIXEL, "sticker.webp"), "voice": (b"OggS", "voice.ogg")}
_ATTACHED: Final = ("document", "photo")


def carry_out(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    """Do what `given` says; the answer says what came of it."""
    return _ACTS[given["do"]](server, given)


def attach(server: Customers, asked: dict[str, str], content: bytes) -> dict[str, Any]:
    """Send a file as a document or a photo; `asked` holds chat_id, kind, name, and perhaps type and caption."""
    kind, name, caption = asked["kind"], asked["name"].strip(), asked.get("caption", "")
    if kind not in _ATTACHED or not name or not content:
        raise ValueError("a document or a photo is needed, with a name and something in it")
    if len(caption.encode("utf-16-le", "surrogatepass")) > 2 * CAPTION_UNITS:
        raise ValueError(f"a caption has at most {CAPTION_UNITS} characters")
    message_id = server.customer_sends_file(
        _person(server, asked), kind, content, name=name, caption=caption.strip() or None,
        content_type=asked.get("type", ""),
    )  # fmt: skip
    return {"message_id": message_id}


def pieces(text: str) -> list[str]:
    """The messages that Telegram's apps make of a pasted text; no character is cut in two, blank ones are left out."""
    units = text.encode("utf-16-le", "surrogatepass")
    cuts, begin = list[str](), 0
    while begin < len(units):
        end = begin + 2 * MESSAGE_UNITS
        if end < len(units) and 0xDC <= units[end + 1] <= 0xDF:
            end -= 2  # the second half of a pair goes with its first
        cuts.append(units[begin:end].decode("utf-16-le", "surrogatepass"))
        begin = end
    return [cut for cut in cuts if cut.strip()]


def _write(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    chat_id, reply_to = int(given["chat_id"]), int(given.get("reply_to", 0)) or None
    texts = pieces(_text(given))
    first = server.customer_writes(chat_id, texts[0], reply_to=reply_to)
    return {"message_id": [first, *(server.customer_writes(chat_id, text) for text in texts[1:])][-1]}


def _edit(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    server.customer_edits(int(given["chat_id"]), int(given["message_id"]), _text(given))
    return {}


def _text(given: dict[str, Any]) -> str:
    text = given["text"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("a text is needed")
    return text


def _person(server: Customers, given: dict[str, Any]) -> int:
    """A chat that exists: a file is too large to make one by mistake."""
    chat_id = int(given["chat_id"])
    if chat_id not in server.account().world.chats:
        raise LookupError(f"there is no chat {chat_id}")
    return chat_id


def _press(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    query_id = server.customer_presses(int(given["chat_id"]), int(given["message_id"]), str(given["data"]))
    return {"callback_query_id": query_id}


def _stop(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    server.customer_stops(int(given["chat_id"]))
    return {}


def _block(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    change = server.customer_blocks if given["blocked"] else server.customer_returns
    change(int(given["chat_id"]))
    return {}


def _send(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    kind = str(given["kind"])
    content, name = _SAMPLES[kind]
    return {"message_id": server.customer_sends_file(int(given["chat_id"]), kind, content, name=name)}


def _add(server: Customers, given: dict[str, Any]) -> dict[str, Any]:
    return {"chat_id": add_customer(server, str(given.get("language", "en")))}


_ACTS: Final[dict[str, Callable[[Customers, dict[str, Any]], dict[str, Any]]]] = {
    "write": _write, "edit": _edit, "press": _press, "stop": _stop, "block": _block, "send": _send, "add": _add,
}  # fmt: skip

"""Reply markup: the shapes the Bot API knows, checked with the server's own complaints."""

from __future__ import annotations

from typing import Any

from bot.sandbox.refusal import BadRequestError

#: What an inline button may do; exactly one must be given (Bot API, InlineKeyboardButton).
ACTIONS = (
    "url", "callback_data", "web_app", "login_url", "switch_inline_query", "switch_inline_query_current_chat",
    "switch_inline_query_chosen_chat", "copy_text", "callback_game", "pay",
)  # fmt: skip
#: 1–64 bytes (Bot API, InlineKeyboardButton).
MAX_CALLBACK_BYTES = 64
MAX_COPY_TEXT = 256
MAX_BUTTONS = 100


def checked_markup(given: object) -> dict[str, Any] | None:
    """The markup as it is kept, or None. Raises `BadRequestError`."""
    if given is None or given == "":
        return None
    if not isinstance(given, dict):
        raise BadRequestError("object expected as reply markup")
    if "inline_keyboard" in given:
        rows = [row for row in _rows(given["inline_keyboard"], "inline keyboard") if row]
        keyboard = [[_inline_button(button) for button in row] for row in rows]
        if sum(map(len, keyboard)) > MAX_BUTTONS:
            raise BadRequestError("reply markup is too long")
        return {"inline_keyboard": keyboard} if keyboard else None
    if "keyboard" in given:
        keyboard = [[_reply_button(button) for button in row] for row in _rows(given["keyboard"], "keyboard")]
        return {**given, "keyboard": keyboard}
    return given if given.get("remove_keyboard") or given.get("force_reply") else None


def _rows(given: object, what: str) -> list[list[Any]]:
    if not isinstance(given, list):
        raise BadRequestError(f'field "{what.replace(" ", "_")}" must be of type Array')
    for row in given:
        if not isinstance(row, list):
            raise BadRequestError(f"can't parse {what} button: expected an Array of Array of buttons")
    return given


def _inline_button(button: object) -> dict[str, Any]:
    if not isinstance(button, dict):
        raise BadRequestError("can't parse inline keyboard button: expected an Object")
    text = button.get("text")
    if not isinstance(text, str):
        raise BadRequestError("can't parse inline keyboard button: Can't find field \"text\"")
    actions = [name for name in ACTIONS if button.get(name) not in (None, False)]
    if not actions:
        raise BadRequestError("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    if not text.strip():
        raise BadRequestError("can't parse inline keyboard button: Text must be non-empty")
    kept = {key: value for key, value in button.items() if value is not None}
    data = button.get("callback_data")
    if data is not None and not (isinstance(data, str) and 1 <= len(data.encode()) <= MAX_CALLBACK_BYTES):
        raise BadRequestError("BUTTON_DATA_INVALID")
    if "url" in kept:
        _check_url(kept["url"])
    if "copy_text" in kept:
        _check_copy_text(kept["copy_text"])
    return kept


def _check_url(url: object) -> None:
    known = ("http://", "https://", "tg://", "ton://")
    if not isinstance(url, str) or not (url.lower().startswith(known) or ("." in url and " " not in url)):
        raise BadRequestError(f"inline keyboard button URL '{url}' is invalid: Wrong HTTP URL")


def _check_copy_text(given: object) -> None:
    text = given.get("text") if isinstance(given, dict) else None
    if not isinstance(text, str) or not 1 <= len(text) <= MAX_COPY_TEXT:
        raise BadRequestError("BUTTON_COPY_TEXT_INVALID")


def _reply_button(button: object) -> dict[str, Any]:
    if isinstance(button, str):
        return {"text": button}
    if not isinstance(button, dict):
        raise BadRequestError("can't parse keyboard button: KeyboardButton must be an Object")
    if not isinstance(button.get("text"), str) or not button["text"]:
        raise BadRequestError("can't parse keyboard button: Can't find field \"text\"")
    return button

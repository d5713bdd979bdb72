"""Methods about the bot itself: who it is, its texts, its webhook."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from bot.sandbox.account import Webhook
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import BadRequestError

#: Method ending → longest text in characters (Bot API, setMyName and its sisters).
TEXTS = {"Name": 64, "Description": 512, "ShortDescription": 120}
_FIELDS = {"Name": "name", "Description": "description", "ShortDescription": "short_description"}
#: Bot API, setWebhook.
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
MAX_CONNECTIONS = 100
DEFAULT_CONNECTIONS = 40


def get_me(call: MethodCall) -> dict[str, Any]:
    return {
        **call.world.me, "can_join_groups": True, "can_read_all_group_messages": True,
        "supports_inline_queries": False, "can_connect_to_business": False, "has_main_web_app": False,
        "has_topics_enabled": False, "allows_users_to_create_topics": False, "can_manage_bots": False,
    }  # fmt: skip


# --- texts ------------------------------------------------------------------------------------------------
def _text_setter(ending: str) -> Handler:
    def change(call: MethodCall) -> bool:
        text = call.params.text(_FIELDS[ending])
        if len(text) > TEXTS[ending]:
            raise BadRequestError(f"{_FIELDS[ending].replace('_', ' ')} is too long")
        call.account.keep_profile(f"{ending}:{call.params.text('language_code')}", text)
        return True

    return change


def _text_getter(ending: str) -> Handler:
    def read(call: MethodCall) -> dict[str, str]:
        default = call.world.me["first_name"] if ending == "Name" else ""
        key = f"{ending}:{call.params.text('language_code')}"
        return {_FIELDS[ending]: call.account.profile.get(key, default)}

    return read


def set_chat_menu_button(call: MethodCall) -> bool:
    button = call.params.nested("menu_button")
    call.account.keep_profile("menu_button", button if isinstance(button, dict) else {"type": "default"})
    return True


def get_chat_menu_button(call: MethodCall) -> dict[str, Any]:
    button: dict[str, Any] = call.account.profile.get("menu_button", {"type": "default"})
    return button


def log_out(call: MethodCall) -> bool:
    """Also `close`: both end the session at a server; the sandbox has nothing to end but the poll."""
    call.account.updates.end_poll("Conflict: terminated by close request")
    return True


# --- webhook ----------------------------------------------------------------------------------------------
def set_webhook(call: MethodCall) -> bool:
    url = call.params.text("url").strip()
    if not url:
        return delete_webhook(call)
    secret = call.params.text("secret_token")
    if secret and not _SECRET.fullmatch(secret):
        long = len(secret) > 256  # the limit of the pattern above
        raise BadRequestError("secret token is too long" if long else "secret token contains unallowed characters")
    # As a server of one's own in local mode: plain HTTP and any port are allowed.
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequestError("bad webhook: An HTTPS URL must be provided for webhook")
    connections = call.params.number("max_connections", DEFAULT_CONNECTIONS)
    _take_kinds(call)
    _drop_pending(call)
    account = call.account
    account.updates.end_poll("Conflict: terminated by setWebhook request")
    account.keep_webhook(Webhook(url, secret, min(max(connections, 1), MAX_CONNECTIONS)))
    account.webhook_changed()
    return True


def delete_webhook(call: MethodCall) -> bool:
    _drop_pending(call)
    call.account.keep_webhook(None)
    call.account.webhook_changed()
    return True


def _take_kinds(call: MethodCall) -> None:
    try:
        call.account.updates.allow(call.params.nested("allowed_updates"))
    except orjson.JSONDecodeError as error:
        raise BadRequestError("can't parse allowed updates JSON object") from error


def _drop_pending(call: MethodCall) -> None:
    if call.params.flag("drop_pending_updates"):
        call.account.updates.clear()


def get_webhook_info(call: MethodCall) -> dict[str, Any]:
    account = call.account
    info: dict[str, Any] = {
        "url": account.webhook.url if account.webhook else "", "has_custom_certificate": False,
        "pending_update_count": len(account.updates),
    }  # fmt: skip
    if account.webhook is not None:
        info["max_connections"] = account.webhook.max_connections
    if account.updates.allowed:
        info["allowed_updates"] = account.updates.allowed
    if account.webhook_error is not None:
        info["last_error_date"], info["last_error_message"] = account.webhook_error
    return info


PROFILE_METHODS: dict[str, Handler] = {
    "getMe": get_me,
    **{f"setMy{ending}": _text_setter(ending) for ending in TEXTS},
    **{f"getMy{ending}": _text_getter(ending) for ending in TEXTS},
    "setChatMenuButton": set_chat_menu_button,
    "getChatMenuButton": get_chat_menu_button,
    "close": log_out,
    "logOut": log_out,
    "setWebhook": set_webhook,
    "deleteWebhook": delete_webhook,
    "getWebhookInfo": get_webhook_info,
}

"""Who is there in `python -m bot sandbox`: the bot, an operator, and customers with a letter of their own."""

from __future__ import annotations

from typing import Final

from bot.sandbox.customers import Customers

#: The token of the sandbox's one bot; it opens nothing but the local stand-in.
BOT_TOKEN: Final = "4242:sandbox-needs-no-real-token"  # noqa: S105 (see above)
#: The Telegram id of the sandbox's operator: what OPERATOR_IDS has to name there.
OPERATOR_ID: Final = 1000
OPERATOR_NAME: Final = "Operator"
FIRST_CUSTOMER: Final = 1001
#: What a new customer's app may be set to; Telegram sends it as `language_code`.
LANGUAGES: Final = ("en", "zh", "ru", "es")


def customer_name(number: int) -> str:
    """Customer A for 0, then B … Z, AA, AB …: nobody's name."""
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return f"Customer {letters}"


def add_customer(server: Customers, language: str = LANGUAGES[0]) -> int:
    """A new person with an empty chat; returns the chat's id. Raises ValueError for a language not offered."""
    if language not in LANGUAGES:
        raise ValueError(f"the languages are {', '.join(LANGUAGES)}")
    world = server.account().world
    chat_id = max((chat_id + 1 for chat_id in world.chats if chat_id >= FIRST_CUSTOMER), default=FIRST_CUSTOMER)
    name = customer_name(chat_id - FIRST_CUSTOMER)
    server.add_customer(chat_id, first_name=name, language_code=language)
    server.add_chat(chat_id)
    return chat_id


def seat(server: Customers) -> None:
    """Whoever opens the page finds an operator, and somebody to write as."""
    chats = server.account().world.chats
    if OPERATOR_ID not in chats:
        server.add_customer(OPERATOR_ID, first_name=OPERATOR_NAME, language_code=LANGUAGES[0])
        server.add_chat(OPERATOR_ID)
    if not any(chat_id >= FIRST_CUSTOMER for chat_id in chats):
        add_customer(server)

"""Every sentence that the service itself says to a customer."""

from typing import Final

WELCOME: Final = (
    "Hello! I am an AI assistant and answer your questions here, with our whole conversation in mind. "
    "Just write what you need. I can make mistakes."
)
HELP: Final = (
    "Write your question as a message. Several messages in a row are answered together, and an edited message "
    "corrects what I remember."
)
UNKNOWN_COMMAND: Final = "I do not know this command. Write your question as a plain message, or see /help."
ONLY_TEXT: Final = "I can read text only so far. Please write what you need in words."
EMPTY: Final = "This message has no text that I can read. Please write what you need in words."
TOO_LONG: Final = (
    "This text is too long for me to read at once. Please send the part that matters most, or split it over "
    "several questions."
)
TOO_MANY: Final = (
    "You sent more messages than I can keep waiting, so I did not read the last ones. Please send them again, "
    "a few at a time."
)
NO_ANSWER: Final = (
    "I cannot reach the service that writes my answers at the moment. Your message has arrived; please ask again "
    "in a few minutes."
)
EMPTY_ANSWER: Final = "I could not find an answer to this. Please ask again in other words."
UNREADABLE: Final = "I could not read your last message because of a fault on our side. Please send it again."
SET_ASIDE: Final = (
    "Something on our side went wrong with your last message, and it was put aside for our team. You can go on writing."
)


def contact(support_contact: str) -> str:
    """The way to a person, for the end of a sentence that tells of a fault."""
    return f"\n\nTo reach a person: {support_contact}" if support_contact else ""

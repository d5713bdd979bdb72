"""Every sentence that the service itself says, and the catalogues that say it in other languages.

English stands here and is what the gettext catalogues in ``bot/locales`` translate. Those are kept as text (``.po``) and
compiled in memory when a language is first spoken, so that no compiled file can fall behind.
"""

import gettext
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

LOCALES: Final = Path(__file__).parent / "locales"


def N_(text: str) -> str:  # noqa: N802 (gettext's own mark)
    """Marks a sentence for the catalogues; it is translated where it is said."""
    return text


def NN_(one: str, many: str) -> tuple[str, str]:  # noqa: N802 (the same with a plural)
    """Marks a sentence that counts, for one and for several; other languages have their own number of forms."""
    return one, many


LANGUAGES: Final = {"en": "English", "zh": "简体中文", "ru": "Русский", "es": "Español"}

WELCOME: Final = N_(
    "Hello! I am an AI assistant and answer your questions here, with our whole conversation in mind. Just write what you "
    "need. I can make mistakes.\n\nWhat you write is processed by {processor}. /privacy tells more, /human brings a "
    "person, /help shows what else I can do."
)
HELP: Final = N_(
    "Write your question as a message. Several messages in a row are answered together, and an edited message corrects "
    "what I remember.\n\n/new – begin a new conversation\n/stop – stop the answer being written\n/human – talk to a person\n"
    "/export – get all your conversations as files\n/import – bring an export back\n/forget – delete what I remember; in reply "
    "to a message: that exchange\n/privacy – what I keep of you, how long, and your choices\n"
    "/language – choose the language"
)
PRIVACY: Final = N_(
    "What I keep: your messages and my answers, encrypted, so that I can follow our conversation.\n"
    "Who processes it: {processor} writes my answers from our conversation. The team that runs this bot can read it.\n"
    "Your rights: /export gives you a copy of everything, /forget deletes it. Telegram keeps its own copy of this chat; "
    "you can delete that in Telegram."
)
PRIVACY_KEPT, PRIVACY_KEPT_DAYS = NN_(
    "How long: what is older than {count} day deletes itself. What you delete can be read in no backup any more after "
    "{backups} days at the latest. Pictures and files are never kept here, only passed on to the team.",
    "How long: what is older than {count} days deletes itself. What you delete can be read in no backup any more after "
    "{backups} days at the latest. Pictures and files are never kept here, only passed on to the team.",
)
PRIVACY_STORED: Final = N_(
    "Stored of this chat now: questions with answers: {exchanges}, in conversations: {conversations}; receipts of what you "
    "asked for: {receipts}; what you chose here, and how much you used."
)
PRIVACY_REMOTE: Final = N_(
    "{processor} may keep a copy of our conversation as long as it lasts; I have it deleted there when you delete it here."
)
PRIVACY_IMPROVES: Final = N_(
    "Improving the service: you allow the team to test the assistant with your conversations, at {processor}."
)
PRIVACY_IMPROVES_NOT: Final = N_(
    "Improving the service: the team may not use your conversations for tests, unless you allow it below ({processor} would "
    "process them)."
)
PRIVACY_AGREED: Final = N_("You agreed on {when} (UTC) that {processor} writes my answers (text {version}).")
PRIVACY_NOT_AGREED: Final = N_(
    "You have not agreed yet that {processor} writes my answers: I ask when you write to me."
)
PRIVACY_EXPORT: Final = N_("📦 Export")
PRIVACY_IMPORT: Final = N_("📥 Import")
PRIVACY_FORGET: Final = N_("🗑 Delete …")
PRIVACY_DAYS: Final = N_("Keep {days} days")
PRIVACY_DAYS_CHOSEN: Final = N_("✓ Keep {days} days")
PRIVACY_WARN: Final = N_("Tell me a week before: no")
PRIVACY_WARNS: Final = N_("✓ Tell me a week before: yes")
PRIVACY_IMPROVE: Final = N_("Help improve the service: no")
PRIVACY_IMPROVING: Final = N_("✓ Help improve the service: yes")
PRIVACY_WITHDRAW: Final = N_("Withdraw my consent")
PRIVACY_WITHDRAWN: Final = N_(
    "You withdrew your consent: nothing you write goes to {processor} any more. What is stored stays until you /forget it; "
    "/human brings a person."
)
PRIVACY_RECEIPTS: Final = N_("🧾 Receipts")
RECEIPTS_NONE: Final = N_("There are no receipts yet: you have not asked for an export, an import or a deletion.")
RECEIPTS: Final = N_("What you asked for:")
RECEIPT_ERASED: Final = N_("{id}, {when} (UTC): deletion of {what}, questions with answers: {exchanges}. {state}")
RECEIPT_EXPORTED: Final = N_("{id}, {when} (UTC): export, questions with answers: {exchanges}. {state}")
RECEIPT_IMPORTED: Final = N_("{id}, {when} (UTC): import, questions with answers: {exchanges}. {state}")
RECEIPT_DONE: Final = N_("Done.")
RECEIPT_OPEN: Final = N_("Under way.")
RECEIPT_REMOTE: Final = N_("Done here; {processor} confirmed {confirmed} of {asked} deletions.")
SCOPE_EXCHANGE: Final = N_("one exchange")
SCOPE_CONVERSATION: Final = N_("a conversation")
SCOPE_EVERYTHING: Final = N_("everything")

AGING: Final = N_(
    "By {when} I delete what we said up to {upto}, because it is then older than {days} days. /export gives you a copy, "
    "/privacy sets how long I keep things."
)

CONSENT_ASK: Final = N_(
    "Before I read your message I need your consent: {processor} would process what you write here and write my answers. "
    "You can withdraw it at any time with /privacy, and delete everything with /forget. Your message waits until you choose; "
    "/human brings a person without this."
)
CONSENT_YES: Final = N_("I agree")
CONSENT_NO: Final = N_("No, thanks")
CONSENT_GIVEN: Final = N_("Thank you, I noted that you agree. Just write what you need.")
CONSENT_REFUSED: Final = N_(
    "Then I do not read what you write, and your last message went nowhere. /human brings a person; whenever you change your "
    "mind, just write again."
)
CONSENT_LAPSED: Final = N_(
    "You did not choose for a day, so I dropped your message unread. Write again whenever you like."
)
CONSENT_PRIVATE: Final = N_(
    "I need everybody's consent before I read what they write, so I answer in private chats only. Please write to me there."
)

OFFLINE_MODEL: Final = N_("a built-in demonstration model")
UNKNOWN_COMMAND: Final = N_("I do not know this command. Write your question as a plain message, or see /help.")
ONLY_TEXT: Final = N_("I can read text only so far. Please write what you need in words.")
EMPTY: Final = N_("This message has no text that I can read. Please write what you need in words.")
TOO_LONG: Final = N_(
    "This text is too long for me to read at once. Please send the part that matters most, or split it over "
    "several questions."
)
TOO_MANY: Final = N_(
    "You sent more messages than I can keep waiting, so I did not read the last ones. Please send them again, "
    "a few at a time."
)
WAITING: Final = N_(
    "I cannot reach the service that writes my answers at the moment. Your message is kept, and I answer it as soon as "
    "the service is back."
)
NO_ANSWER: Final = N_(
    "I still cannot reach the service that writes my answers, so I could not answer your last message. Please ask again "
    "later."
)
NOT_TAKEN: Final = N_("The service that writes my answers did not accept this. Please ask again in other words.")
FILTERED: Final = N_("I may not answer this. If you think that is wrong, a person can help.")
EMPTY_ANSWER: Final = N_("I could not find an answer to this. Please ask again in other words.")
UNDELIVERABLE: Final = N_("I had an answer, but Telegram did not accept it. Please ask again in other words.")
EXPORT_REFUSED: Final = N_("Telegram did not accept the file with your conversations. Please try /export again later.")
ASK_AGAIN: Final = N_("I did not answer your last message: please send it again if you still want an answer.")
UNREADABLE: Final = N_("I could not read your last message because of a fault on our side. Please send it again.")
SET_ASIDE: Final = N_(
    "Something on our side went wrong with your last message, and it was put aside for our team. You can go on writing."
)
CONTACT: Final = N_("To reach a person: {contact}")
TALK_TO_A_PERSON: Final = N_("Talk to a person")

SLOWED: Final = N_(
    "You are sending messages faster than I can answer them. The last ones are kept, and I answer them in about "
    "{seconds} seconds."
)
SLOWED_ALL: Final = N_(
    "Many people are asking at the moment. Your message is kept, and I answer it in about {seconds} seconds."
)
LIMIT_CUSTOMER: Final = N_(
    "You have reached the limit of what I can answer for now. Please ask again from {when} (UTC) on."
)
LIMIT_TOTAL: Final = N_(
    "So many people are asking that the limit for now is reached. Please ask again from {when} (UTC) on."
)

STOPPED_MARK: Final = N_("⏹ Stopped.")
CUT_LENGTH: Final = N_("✂ This answer reached its longest length.")
CUT_FILTER: Final = N_("✂ The rest of this answer was held back by a filter.")
WARNED: Final = N_("⚠️ Please take care: a person can help with this, too.")
HEDGED: Final = N_(
    "⚠️ I could not check the amounts and dates in this answer. Please have a person confirm them before you rely on them."
)
CUT_FAULT: Final = N_("✂ The rest of this answer is missing because of a fault.")
ANSWER_AGAIN: Final = N_("Answer again")
CONTINUE: Final = N_("Continue")
PLEASE_CONTINUE: Final = N_("Please continue your last answer where it ended.")
STOPPED: Final = N_("Stopped. Nothing had been written yet.")
NOTHING_TO_STOP: Final = N_("There is nothing to stop: no answer is being written.")
ANEW: Final = N_(
    "A new conversation begins: I no longer have the earlier one in mind. It stays in your /export until you /forget it."
)
WHICH_LANGUAGE: Final = N_(
    "Which language should I use for my own sentences? I answer questions in the language you write."
)
LANGUAGE_CHOSEN: Final = N_("From now on I use English for my own sentences.")
LANGUAGE_UNKNOWN: Final = N_("I do not speak this language yet. Choose one with /language.")

FORGET_ASK: Final = N_(
    "What should I forget?\n\nDeleted conversations are gone for good: nobody can bring them back, and I will not remember "
    "any of it. The messages stay visible in Telegram until you delete them there."
)
FORGET_ONE_ASK: Final = N_(
    "Should I delete this one exchange, your question and my answer to it? It is gone for good, and I will not remember it. "
    "The messages stay visible in Telegram until you delete them there."
)
FORGET_ONE_UNKNOWN: Final = N_(
    "I do not remember the message that you replied to, so there is nothing of it to delete."
)
FORGET_ONE: Final = N_("Delete this exchange")
FORGET_THIS: Final = N_("Delete this conversation")
FORGET_ALL: Final = N_("Delete everything")
FORGET_EXPORT: Final = N_("Export first")
FORGET_CANCEL: Final = N_("Cancel")
FORGET_KEPT: Final = N_("Nothing was deleted.")
FORGET_EXPIRED: Final = N_(
    "This button is no longer valid, and nothing was deleted by it. Send /forget to start again."
)
BUTTON_UNKNOWN: Final = N_("This button is no longer valid. /help shows what I can do.")
NOT_YOURS: Final = N_("Only the person who asked can press this button.")
FORGOTTEN, FORGOTTEN_MANY = NN_(
    "Deleted on {when} (UTC): {count} exchange of questions and answers.",
    "Deleted on {when} (UTC): {count} exchanges of questions and answers.",
)
FORGOTTEN_MORE: Final = N_(
    "Its keys were destroyed first, so that copies of it in backups become unreadable, too. What you see above is Telegram's own copy: "
    "delete it there, or let me remove my messages that are younger than 48 hours."
)
FORGOTTEN_REMOTE: Final = N_(
    "{processor} keeps a copy of the conversation, too: I have asked for its deletion, and go on asking until it is "
    "confirmed."
)
FORGOTTEN_RECEIPT: Final = N_(
    "Receipt {id}. Out of reach: Telegram's own copy, what went to a person of the team, logs that {processor} keeps by its own "
    "rules, and copies of keys in backups, which are gone after {days} days at the latest."
)
REMOVE_MINE: Final = N_("Remove the bot's messages")
REMOVED, REMOVED_MANY = NN_(
    "I removed {count} message of mine. Older ones you can delete in Telegram yourself.",
    "I removed {count} messages of mine. Older ones you can delete in Telegram yourself.",
)

EXPORT_NOTHING: Final = N_("There is nothing to export yet: I remember no conversation of this chat.")
EXPORT_PRIVATE: Final = N_("I export conversations only in a private chat, to the person they belong to.")
EXPORT_CAPTION: Final = N_("Your conversations: open chat.html to read them.")
EXPORT_PROGRESS: Final = N_("📦 Part {part} of {parts} of your export is being made and sent …")
EXPORT_PART: Final = N_("Your conversations, part {part} of {parts}: open chat.html to read them.")

IMPORT_ASK: Final = N_(
    "Send me a file that I gave you with /export, as it is: conversations-….zip. I first tell you what is in it and ask "
    "before I take anything in. An export of several parts you can send all at once. I wait for a quarter of an hour."
)
IMPORT_PRIVATE: Final = N_("I take conversations back only in a private chat, from the person they belong to.")
IMPORT_OFFER: Final = N_(
    "Questions with answers in this file: {total}, from {first} to {last}. New here: {fresh}. Remembered already: {here}. Older "
    "than I keep things, so left out: {expired}."
)
IMPORT_FORGOTTEN: Final = N_(
    "⚠️ Deleted by you: {forgotten}. What you deleted comes back only if you say so: choose below."
)
IMPORT_TAKE: Final = N_("Take in what is new ({fresh})")
IMPORT_TAKE_ALL: Final = N_("Bring back deleted, too ({all})")
IMPORT_NOTHING: Final = N_(
    "There is nothing new in this file. Remembered already: {here}. Older than I keep things: {expired}."
)
IMPORT_DONE: Final = N_(
    "Done. Questions with answers taken in: {taken}, as they were; they are part of your /export again. Receipt {id}."
)
IMPORT_BY_TEAM: Final = N_(
    "The team took an export of yours in again. Questions with answers taken in: {taken}. What you had deleted stayed out. "
    "Receipt {id}."
)
IMPORT_CANCELLED: Final = N_("Nothing was taken in.")
IMPORT_EXPIRED: Final = N_("This button is no longer valid, and nothing was taken in. Send /import to start again.")
IMPORT_UNFETCHED: Final = N_("I could not fetch the file from Telegram, and nothing was changed. Please send it again.")
IMPORT_TOO_LARGE: Final = N_(
    "This file is larger than 20 MB, which is more than I can fetch, and none of my exports is: please send one of those."
)
IMPORT_NOT_WHOLE: Final = N_(
    "This is no archive of mine, or a part of it is missing. Please send the file exactly as I gave it to you."
)
IMPORT_UNSAFE: Final = N_(
    "This archive is built in a way that I do not open, and none of my exports is. Please send the file exactly as I gave it to "
    "you."
)
IMPORT_DAMAGED: Final = N_(
    "I cannot read this archive: it is damaged. Please send the file exactly as I gave it to you, or another export."
)
IMPORT_NEWER: Final = N_("This archive was made by a newer version of this service than the one that runs here now.")
IMPORT_FOREIGN: Final = N_(
    "This archive was made by another installation of this service: I take back only what I gave out."
)
IMPORT_FORGED: Final = N_(
    "This archive was changed after I made it, so I do not take it in. Please send the original file."
)
IMPORT_NOT_YOURS: Final = N_(
    "This archive belongs to another chat: I take conversations back only where they were held."
)

HANDED: Final = N_(
    "A person takes over. I passed your last messages on and will not answer until they are done; whatever you write "
    "now goes to them. /handback brings me back."
)
HANDED_FOR_LONG: Final = N_(
    "The service that writes my answers is still away, so a person takes over. Whatever you write now goes to them. "
    "/handback brings me back."
)
HANDED_ALREADY: Final = N_("Your messages already go to a person. /handback brings the assistant back.")
NO_PERSON: Final = N_("No person can be reached from this chat at the moment. You can go on asking me.")
HANDED_BACK: Final = N_("You are talking to the AI assistant again.")
NOT_HANDED: Final = N_("You are talking to the AI assistant already. /human brings a person.")
FROM_TEAM: Final = N_("Support team:")

OPERATOR: Final = N_(
    "You are an operator of this bot: when a customer asks for a person you get their messages here. Reply to one of them "
    "to answer, reply /handback to give the chat back to the assistant."
)
RELAY_OPENING: Final = N_(
    "{name} asks for a person. Reply to this message to answer; reply /handback to give the chat back."
)
RELAY: Final = N_("{name} writes:")
RELAY_QUESTION: Final = N_("Asked last:")
RELAY_ANSWER: Final = N_("The assistant's answer:")
RELAY_OTHER: Final = N_("(content that is not text)")
RELAY_ENDED: Final = N_("{name} is back with the assistant.")
RELAY_GIVEN_BACK: Final = N_("The assistant answers in this customer's chat again.")
RELAY_FAILED: Final = N_("Your reply could not be delivered: the customer cannot be reached.")
RELAY_NOT_HANDED: Final = N_("Reply to a customer's message with /handback to give that chat back to the assistant.")

ALERT_DOWN: Final = N_(
    "⚠️ No chat API has answered since {since} (UTC). Customers' questions wait for it, and are passed on to a person if it "
    "takes too long. See whether the provider tells of a fault; CHAT_FALLBACKS takes further chat APIs to ask instead."
)
ALERT_DOWN_OVER: Final = N_(
    "✅ The chat API answers again. It was away from {since} to {until} (UTC), {minutes} min. Questions that waited are "
    "being answered."
)
ALERT_ENDPOINT: Final = N_(
    "⚠️ The chat API at {host} has not answered since {since} (UTC). See whether its provider tells of a fault."
)
ALERT_KEY: Final = N_(
    "⚠️ The chat API at {host} has refused its key since {since} (UTC). Put a valid key into CHAT_API_KEY, or into "
    "CHAT_FALLBACKS where it is one of those, and restart."
)
ALERT_CREDIT: Final = N_(
    "⚠️ The account at {host} has been used up since {since} (UTC): the chat API there refuses to answer. Pay in, or raise "
    "the limit that is set there."
)
ALERT_MODEL: Final = N_(
    "⚠️ The chat API at {host} does not know the model that it has been asked for since {since} (UTC). Put the name of one "
    "that it offers into CHAT_MODEL, or into CHAT_FALLBACKS where it is one of those, and restart."
)
ALERT_ADDRESS: Final = N_(
    "⚠️ At {host} nothing has answered as a chat API does since {since} (UTC). Check the address in CHAT_API_URL, or in "
    "CHAT_FALLBACKS where it is one of those, and CHAT_API_DIALECT, and restart."
)
ALERT_WAITING: Final = N_("Customers' questions wait meanwhile.")
ALERT_OTHERS: Final = N_("The other chat APIs answer meanwhile.")
ALERT_ENDPOINT_OVER: Final = N_(
    "✅ The chat API at {host} answers again. It did not from {since} to {until} (UTC), {minutes} min."
)
ALERT_BUDGET: Final = N_(
    "⚠️ All customers together have used {share} of what they may: {limit}. When all of it is used, they are asked to come "
    "back later. TOTAL_LIMITS sets how much it is."
)
ALERT_LIMIT: Final = N_(
    "⛔ All customers together have used what they may: {limit}, since {since} (UTC). The assistant answers them again when "
    "the next minute, day or month of that limit begins. TOTAL_LIMITS sets how much it is."
)
ALERT_BUDGET_OVER: Final = N_("✅ All customers together are below {share} of what they may use again: {limit}.")
ALERT_MEMORY: Final = N_(
    "⚠️ The store's memory has been almost full since {since} (UTC). When it is full, no message can be taken in any more. "
    "Give it more (maxmemory)."
)
ALERT_DISK: Final = N_(
    "⚠️ The disk with DATA_DIR has been almost full since {since} (UTC). When it is full, no message can be taken in any "
    "more. Make room on it."
)
ALERT_STORE_OVER: Final = N_(
    "✅ The store has room again. It was almost full from {since} to {until} (UTC), {minutes} min."
)
ALERT_TOKEN_OVER: Final = N_(
    "✅ Telegram takes the bot's token again. It refused it from {since} to {until} (UTC), {minutes} min, and nothing could "
    "be said to anybody. What customers wrote meanwhile is being answered."
)
ALERT_QUEUE: Final = N_(
    "⚠️ Customers' messages have waited for more than a minute since {since} (UTC) before anything reads them. More comes in "
    "than the service can work on: start another worker on another machine, or see what its log tells."
)
ALERT_QUEUE_OVER: Final = N_(
    "✅ Customers' messages are read at once again. They had to wait from {since} to {until} (UTC), {minutes} min."
)

COMMANDS: Final = {
    "new": N_("Begin a new conversation"),
    "stop": N_("Stop the answer being written"),
    "human": N_("Talk to a person"),
    "export": N_("Get all your conversations as files"),
    "import": N_("Bring back an export"),
    "forget": N_("Delete what the assistant remembers"),
    "privacy": N_("Your data: what is kept, your choices"),
    "language": N_("Choose the language"),
    "help": N_("What the assistant can do"),
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with values to fill in, which may be sentences themselves. With ``plural``, ``count`` decides which of the two is said."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    plural: str = ""
    count: int = 0


class Words:
    """Says sentences in the customer's language; ``standing`` values fit into any of them."""

    def __init__(self, **standing: str) -> None:
        self._standing = standing

    def say(self, sentence: "Sentence | str", language: str) -> str:
        """``language``: as Telegram names it, or "" for English."""
        if isinstance(sentence, str):
            sentence = Sentence(sentence)
        catalogue = _catalogue(language_of(language))
        if sentence.plural:
            text = catalogue.ngettext(sentence.text, sentence.plural, sentence.count)
        else:
            text = catalogue.gettext(sentence.text) if sentence.text else ""
        standing = {name: catalogue.gettext(value) if value else "" for name, value in self._standing.items()}
        given = {
            name: self.say(value, language) if isinstance(value, Sentence) else value
            for name, value in sentence.values.items()
        }
        values = {**standing, **given, "count": sentence.count}
        return text.format_map(values) if "{" in text else text

    def worded(self, text: str, language: str) -> str:
        """A sentence whose values are still to be filled in."""
        return _catalogue(language_of(language)).gettext(text) if text else ""


def language_of(code: str) -> str:
    """The language of ours for an IETF tag such as ``zh-hans``; English where we do not speak it."""
    language = code.lower().replace("_", "-").partition("-")[0]
    return language if language in LANGUAGES else "en"


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(language: str) -> gettext.NullTranslations:
    path = LOCALES / language / "LC_MESSAGES" / "messages.po"
    if language == "en":
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)

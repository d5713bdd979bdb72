"""The rules of the Bot API server that the service stands on, each with its source.

Runs against the sandbox. CONFORMANCE_API_URL, CONFORMANCE_TOKEN and CONFORMANCE_CHAT (a private chat that has started
the bot) aim it at another server; cases that need a customer to act are skipped there. Sources: "Bot API" is the
documentation of version 10.3, "server" the behaviour of telegram-bot-api and the client library under it, "report"
what bots were answered in practice.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import Subject

NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a "
    "current content and reply markup of the message"
)
BUTTONS = {"inline_keyboard": [[{"text": "Yes", "callback_data": "yes"}, {"text": "No", "callback_data": "no"}]]}
GROUP = -1001234
FORUM = -1005678


def refused(reason: str) -> tuple[int, str]:
    return 400, f"Bad Request: {reason}"


# --- the HTTP face ----------------------------------------------------------------------------------------
async def test_a_wrong_token_is_unauthorized(subject: Subject) -> None:
    """Server: any method with a token nobody has answers 401."""
    async with subject.http.get(f"{subject.url}/bot1:wrong/getMe") as reply:
        assert reply.status == 401
        assert await reply.json() == {"ok": False, "error_code": 401, "description": "Unauthorized"}


async def test_an_unknown_method_is_not_found(subject: Subject) -> None:
    """Server: 404 for a method that does not exist."""
    code, description = await subject.no("sendTelepathy")
    assert code == 404
    assert description.startswith("Not Found")


@pytest.mark.parametrize("name", ["getMe", "getme", "GETME"])
async def test_method_names_come_in_any_case(subject: Subject, name: str) -> None:
    """Bot API, making requests: all methods are case-insensitive."""
    assert (await subject.ok(name))["is_bot"] is True


async def test_parameters_come_by_query_form_multipart_and_json(subject: Subject) -> None:
    """Bot API, making requests: four ways of passing parameters."""
    url, values = f"{subject.url}/bot{subject.token}/sendMessage", {"chat_id": str(subject.chat), "text": "four ways ü"}
    form = aiohttp.FormData()
    for name, value in values.items():
        form.add_field(name, value, content_type="text/plain")
    ways: list[dict[str, Any]] = [{"params": values}, {"data": values}, {"data": form}, {"json": values}]
    for way in ways:
        async with subject.http.post(url, **way) as reply:
            assert (await reply.json())["result"]["text"] == "four ways ü", way
    async with subject.http.get(url, params=values) as reply:
        assert reply.status == 200


async def test_nested_objects_may_come_as_json_text(subject: Subject) -> None:
    """Bot API, sendMessage: reply_markup is a JSON-serialized object."""
    url = f"{subject.url}/bot{subject.token}/sendMessage"
    values = {
        "chat_id": str(subject.chat),
        "text": "x",
        "reply_markup": '{"inline_keyboard":[[{"text":"a","url":"https://example.org"}]]}',
    }
    async with subject.http.post(url, data=values) as reply:
        body = await reply.json()
    assert body["result"]["reply_markup"]["inline_keyboard"][0][0]["text"] == "a"


async def test_get_me_describes_a_bot(subject: Subject) -> None:
    """Bot API, getMe: a User with the fields that only getMe returns."""
    me = await subject.ok("getMe")
    assert {"id", "is_bot", "first_name", "username", "can_join_groups", "supports_inline_queries"} <= me.keys()


# --- sending ----------------------------------------------------------------------------------------------
async def test_a_sent_message_comes_back_whole(subject: Subject) -> None:
    """Bot API, sendMessage: on success, the sent Message is returned."""
    message = await subject.send("whole", reply_markup=BUTTONS)
    assert message["chat"]["id"] == subject.chat
    assert message["chat"]["type"] == "private"
    assert message["from"]["is_bot"] is True
    assert message["text"] == "whole"
    assert message["reply_markup"] == BUTTONS
    assert message["date"] > 1_700_000_000


async def test_message_ids_grow(subject: Subject) -> None:
    """Bot API, Message: ids are unique inside a chat; later messages have higher ones."""
    first, second = await subject.send(), await subject.send()
    assert second["message_id"] > first["message_id"]


async def test_private_chats_share_one_sequence_of_ids(subject: Subject, customers: TelegramServer) -> None:
    """Report: all private chats and basic groups of a bot count together, each supergroup by itself."""
    first = await subject.send()
    between = customers.customer_writes(2002, "elsewhere")
    basic = customers.customer_writes(-77, "in a basic group", chat_type="group")
    own = customers.customer_writes(GROUP, "in a supergroup", chat_type="supergroup")
    assert [between, basic] == [first["message_id"] + 1, first["message_id"] + 2]
    assert own == 1


async def test_a_chat_never_seen_is_not_found(subject: Subject) -> None:
    """Server: a bot cannot write to somebody who has never written to it."""
    assert await subject.no("sendMessage", chat_id=999_999_999_991, text="x") == refused("chat not found")


async def test_a_missing_chat_id_is_refused(subject: Subject) -> None:
    """Server: chat_id is required."""
    assert await subject.no("sendMessage", text="x") == refused("chat_id is empty")


async def test_an_empty_text_is_refused(subject: Subject) -> None:
    """Server: the text must not be empty."""
    assert await subject.no("sendMessage", chat_id=subject.chat, text="") == refused("message text is empty")
    assert await subject.no("sendMessage", chat_id=subject.chat) == refused("message text is empty")


@pytest.mark.parametrize(("text", "mode"), [(" \n ", None), ("\u202e\u2028", None), ("<b> </b>", "HTML")])
async def test_a_text_without_anything_visible_is_refused(subject: Subject, text: str, mode: str | None) -> None:
    """Server: after cleaning and trimming something must be left."""
    reason = refused("text must be non-empty")
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text, parse_mode=mode) == reason


@pytest.mark.parametrize("text", ["x" * 4096, "\U0001f600" * 2048, "я" * 4096])
async def test_4096_utf16_units_fit(subject: Subject, text: str) -> None:
    """Bot API, sendMessage: 1-4096 characters after entities parsing; a character is a UTF-16 unit."""
    assert (await subject.send(text))["text"] == text


@pytest.mark.parametrize("text", ["x" * 4097, "\U0001f600" * 2048 + "x"])
async def test_4097_utf16_units_are_too_long(subject: Subject, text: str) -> None:
    """Bot API, sendMessage: at most 4096 characters."""
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text) == refused("message is too long")


async def test_markup_does_not_count_towards_the_length(subject: Subject) -> None:
    """Bot API, sendMessage: the limit holds after entities parsing."""
    message = await subject.send("<b>" + "x" * 4096 + "</b>", parse_mode="HTML")
    assert len(message["text"]) == 4096


async def test_a_lone_surrogate_is_refused(subject: Subject) -> None:
    """Server: strings must be encoded in UTF-8."""
    url, body = f"{subject.url}/bot{subject.token}/sendMessage", f'{{"chat_id":{subject.chat},"text":"half \\ud83d"}}'
    async with subject.http.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
        assert (reply.status, (await reply.json())["description"]) == refused("strings must be encoded in UTF-8")


async def test_a_text_is_trimmed_and_cleaned(subject: Subject) -> None:
    """Server: blank ends go, control characters become spaces, carriage returns and overrides vanish."""
    assert (await subject.send("  a\tb\r\nc\u202e \n"))["text"] == "a b\nc"


# --- formatting -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["HTML", "html", "Html"])
async def test_parse_mode_comes_in_any_case(subject: Subject, mode: str) -> None:
    """Server: the parse mode is lowered before it is looked up."""
    message = await subject.send("<b>x</b>", parse_mode=mode)
    assert message["entities"] == [{"type": "bold", "offset": 0, "length": 1}]


async def test_an_unknown_parse_mode_is_refused(subject: Subject) -> None:
    """Server: only HTML, Markdown and MarkdownV2 exist."""
    reason = refused("unsupported parse_mode")
    assert await subject.no("sendMessage", chat_id=subject.chat, text="x", parse_mode="BBCode") == reason


@pytest.mark.parametrize(
    ("mode", "text", "shown", "kinds"),
    [
        ("HTML", "<b>b</b> <i>i</i> &lt;&amp;&#33;", "b i <&!", ["bold", "italic"]),
        ("HTML", '<a href="https://example.org/x">l</a>', "l", ["text_link"]),
        ("HTML", '<pre><code class="language-py">p</code></pre>', "p", ["pre"]),
        ("HTML", "<blockquote expandable>q</blockquote>", "q", ["expandable_blockquote"]),
        ("HTML", '<span class="tg-spoiler">s</span>', "s", ["spoiler"]),
        ("MarkdownV2", "*b* _i_ __u__ ~s~", "b i u s", ["bold", "italic", "underline", "strikethrough"]),
        ("MarkdownV2", "||h||", "h", ["spoiler"]),
        ("MarkdownV2", r"1\. *a\*b* `c.d\``", "1. a*b c.d`", ["bold", "code"]),
        ("MarkdownV2", "[t](https://example.org/a\\)b)", "t", ["text_link"]),
        ("MarkdownV2", ">quoted\n>more\nnot", "quoted\nmore\nnot", ["blockquote"]),
        ("MarkdownV2", "```py\nx = 1\n```", "x = 1", ["pre"]),
        ("Markdown", "*b* _i_ `c` a.b [t](example.org)", "b i c a.b t", ["bold", "italic", "code", "text_link"]),
        ("Markdown", r"snake\_case", "snake_case", []),
    ],
)  # fmt: skip
async def test_markup_becomes_entities(subject: Subject, mode: str, text: str, shown: str, kinds: list[str]) -> None:
    """Bot API, formatting options."""
    message = await subject.send(text, parse_mode=mode)
    assert message["text"] == shown
    assert [entity["type"] for entity in message.get("entities", [])] == kinds


@pytest.mark.parametrize(
    ("mode", "text", "reason"),
    [
        ("HTML", "é<div>x</div>", 'Unsupported start tag "div" at byte offset 2'),
        ("HTML", "a < b", 'Unsupported start tag "" at byte offset 2'),
        ("HTML", "<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("HTML", "x</b>", "Unexpected end tag at byte offset 1"),
        ("HTML", "<b><i>x</b></i>", 'Unmatched end tag at byte offset 7, expected "</i>", found "</b>"'),
        ("HTML", "x<b", "Unclosed start tag at byte offset 1"),
        ("HTML", "<b>x</b", "Unclosed end tag at byte offset 4"),
        ("HTML", '<span class="x">x</span>', 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("MarkdownV2", "a.b", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "1 - 2", "Character '-' is reserved and must be escaped with the preceding '\\'"),
        ("MarkdownV2", "é*x", "Can't find end of Bold entity at byte offset 2"),
        ("MarkdownV2", "`x", "Can't find end of Code entity at byte offset 0"),
        ("MarkdownV2", "```py\nx", "Can't find end of PreCode entity at byte offset 0"),
        ("MarkdownV2", "[x](http://a", "Can't find end of a URL at byte offset 4"),
        ("Markdown", "snake_case", "Can't find end of the entity starting at byte offset 5"),
        ("Markdown", "*x", "Can't find end of the entity starting at byte offset 0"),
    ],
)  # fmt: skip
async def test_broken_markup_is_refused_in_the_servers_words(
    subject: Subject, mode: str, text: str, reason: str
) -> None:
    """Server: the parsers' own error texts, offsets in bytes."""
    expected = refused(f"can't parse entities: {reason}")
    assert await subject.no("sendMessage", chat_id=subject.chat, text=text, parse_mode=mode) == expected


async def test_entity_offsets_count_utf16_units(subject: Subject) -> None:
    """Bot API, MessageEntity: offset and length in UTF-16 code units."""
    entities = [{"type": "bold", "offset": 3, "length": 2}]
    assert (await subject.send("\U0001f600 ab", entities=entities))["entities"] == entities


@pytest.mark.parametrize(
    ("entity", "reason"),
    [
        ({"type": "bold", "offset": 9, "length": 1}, "entity begins after the end of the text at UTF-16 offset 9"),
        (
            {"type": "bold", "offset": 0, "length": 9},
            "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 9",
        ),
        ({"type": "bold", "offset": 1, "length": 2}, "entity begins in a middle of a UTF-16 symbol at byte offset 4"),
        (
            {"type": "bold", "offset": 0, "length": 1},
            "entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at byte offset 4",
        ),
        ({"type": "bold", "offset": -1, "length": 1}, "receive an entity with incorrect offset -1"),
        ({"type": "glitter", "offset": 0, "length": 2}, "can't parse MessageEntity: Unsupported type specified"),
        ({"type": "bold", "offset": 0}, "can't parse MessageEntity: Can't find field \"length\""),
        ("bold", "can't parse MessageEntity: expected an Object"),
    ],
)
async def test_wrong_entities_are_refused(subject: Subject, entity: Any, reason: str) -> None:
    """Server: entities must lie on characters of the text."""
    code, description = await subject.no("sendMessage", chat_id=subject.chat, text="\U0001f600ab", entities=[entity])
    assert (code, description) == refused(reason)


# --- buttons, replies, topics -----------------------------------------------------------------------------
@pytest.mark.parametrize("data", ["x", "x" * 64, "я" * 32])
async def test_callback_data_of_1_to_64_bytes_is_taken(subject: Subject, data: str) -> None:
    """Bot API, InlineKeyboardButton: callback_data has 1-64 bytes."""
    markup = {"inline_keyboard": [[{"text": "b", "callback_data": data}]]}
    assert (await subject.send(reply_markup=markup))["reply_markup"] == markup


@pytest.mark.parametrize("data", ["", "x" * 65, "я" * 33])
async def test_callback_data_of_other_sizes_is_invalid(subject: Subject, data: str) -> None:
    """Bot API, InlineKeyboardButton; server: BUTTON_DATA_INVALID."""
    markup = {"inline_keyboard": [[{"text": "b", "callback_data": data}]]}
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_markup=markup)
    assert answer == refused("BUTTON_DATA_INVALID")


@pytest.mark.parametrize(
    ("markup", "reason"),
    [
        ("{", "can't parse reply keyboard markup JSON object"),
        ([], "object expected as reply markup"),
        (
            {"inline_keyboard": [[{"text": "b"}]]},
            "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard",
        ),
        ({"inline_keyboard": [["b"]]}, "can't parse inline keyboard button: expected an Object"),
        ({"inline_keyboard": "b"}, 'field "inline_keyboard" must be of type Array'),
    ],
)
async def test_a_misshapen_reply_markup_is_refused(subject: Subject, markup: Any, reason: str) -> None:
    """Server: the shapes of reply markup."""
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_markup=markup)
    assert answer == refused(reason)


async def test_a_reply_shows_what_it_replies_to(subject: Subject) -> None:
    """Bot API, ReplyParameters."""
    first = await subject.send("first")
    reply = await subject.send("second", reply_parameters={"message_id": first["message_id"]})
    assert reply["reply_to_message"]["message_id"] == first["message_id"]


async def test_a_reply_to_nothing_is_refused_unless_allowed(subject: Subject) -> None:
    """Bot API, ReplyParameters: allow_sending_without_reply."""
    missing = {"message_id": 2_000_000_000}
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", reply_parameters=missing)
    assert answer == refused("message to be replied not found")
    lenient = {**missing, "allow_sending_without_reply": True}
    assert "reply_to_message" not in await subject.send(reply_parameters=lenient)


async def test_an_unknown_topic_is_refused(subject: Subject) -> None:
    """Report: message thread not found."""
    answer = await subject.no("sendMessage", chat_id=subject.chat, text="x", message_thread_id=77_777)
    assert answer == refused("message thread not found")


async def test_topics_live_in_forums_and_take_messages_until_deleted(
    subject: Subject, customers: TelegramServer
) -> None:
    """Bot API, createForumTopic and its sisters; report: TOPIC_ID_INVALID afterwards."""
    assert await subject.no("createForumTopic", chat_id=subject.chat, name="x") == refused("the chat is not a forum")
    customers.add_chat(FORUM, "supergroup", is_forum=True)
    topic = await subject.ok("createForumTopic", chat_id=FORUM, name="Ticket")
    place = {"chat_id": FORUM, "message_thread_id": topic["message_thread_id"]}
    message = await subject.ok("sendMessage", text="in the topic", **place)
    assert message["message_thread_id"] == topic["message_thread_id"]
    assert message["is_topic_message"] is True
    assert await subject.ok("editForumTopic", name="Ticket 2", **place) is True
    assert await subject.no("editForumTopic", name="Ticket 2", **place) == refused("TOPIC_NOT_MODIFIED")
    assert await subject.ok("closeForumTopic", **place) is True
    assert await subject.ok("deleteForumTopic", **place) is True
    assert await subject.no("sendMessage", text="x", **place) == refused("message thread not found")
    assert await subject.no("reopenForumTopic", **place) == refused("TOPIC_ID_INVALID")
    assert customers.messages(FORUM) == []


# --- editing and deleting ---------------------------------------------------------------------------------
async def test_an_edit_replaces_text_and_buttons(subject: Subject) -> None:
    """Bot API, editMessageText: the edited Message is returned; buttons not given again are gone."""
    message = await subject.send("before", reply_markup=BUTTONS)
    edited = await subject.ok(
        "editMessageText",
        chat_id=subject.chat,
        message_id=message["message_id"],
        text="<b>after</b>",
        parse_mode="HTML",
    )
    assert edited["text"] == "after"
    assert edited["entities"] == [{"type": "bold", "offset": 0, "length": 5}]
    assert edited["edit_date"] >= edited["date"]
    assert "reply_markup" not in edited


async def test_an_unchanged_edit_is_not_modified(subject: Subject) -> None:
    """Server: same text, same entities and same buttons are refused; one difference is enough."""
    message = await subject.send("same")
    place = {"chat_id": subject.chat, "message_id": message["message_id"]}
    assert await subject.no("editMessageText", text="same", **place) == (400, NOT_MODIFIED)
    assert await subject.no("editMessageText", text=" same\n", **place) == (400, NOT_MODIFIED)
    assert await subject.ok("editMessageText", text="same", reply_markup=BUTTONS, **place)
    assert await subject.ok("editMessageText", text="*same*", parse_mode="MarkdownV2", reply_markup=BUTTONS, **place)


async def test_removing_buttons_from_a_plain_message_is_not_modified(subject: Subject) -> None:
    """Server: editMessageReplyMarkup without markup on a message without buttons (to be verified on Telegram's own)."""
    plain, buttoned = await subject.send("plain"), await subject.send("x", reply_markup=BUTTONS)
    place = {"chat_id": subject.chat, "message_id": plain["message_id"]}
    assert await subject.no("editMessageReplyMarkup", **place) == (400, NOT_MODIFIED)
    place["message_id"] = buttoned["message_id"]
    assert await subject.no("editMessageReplyMarkup", reply_markup=BUTTONS, **place) == (400, NOT_MODIFIED)
    assert "reply_markup" not in await subject.ok("editMessageReplyMarkup", **place)


@pytest.mark.parametrize("method", ["editMessageText", "editMessageReplyMarkup", "editMessageCaption"])
async def test_a_message_that_is_not_there_cannot_be_edited(subject: Subject, method: str) -> None:
    """Server: unknown and deleted messages alike."""
    gone = await subject.send("gone")
    assert await subject.ok("deleteMessage", chat_id=subject.chat, message_id=gone["message_id"]) is True
    for message_id in (2_000_000_000, gone["message_id"]):
        answer = await subject.no(method, chat_id=subject.chat, message_id=message_id, text="x", caption="x")
        assert answer == refused("message to edit not found")


async def test_an_edit_needs_a_message_id(subject: Subject) -> None:
    """Server: message_id is required."""
    answer = await subject.no("editMessageText", chat_id=subject.chat, text="x")
    assert answer == refused("message identifier is not specified")


async def test_a_foreign_message_cannot_be_edited(subject: Subject, customers: TelegramServer) -> None:
    """Server: a bot edits only its own messages."""
    theirs = customers.customer_writes(subject.chat, "mine, not yours")
    for method in ("editMessageText", "editMessageReplyMarkup"):
        answer = await subject.no(method, chat_id=subject.chat, message_id=theirs, text="x")
        assert answer == refused("message can't be edited")


async def test_a_message_with_a_reply_keyboard_cannot_be_edited(subject: Subject) -> None:
    """Report: only messages without reply markup or with inline keyboards can be edited."""
    message = await subject.send("x", reply_markup={"keyboard": [[{"text": "Yes"}]]})
    answer = await subject.no("editMessageText", chat_id=subject.chat, message_id=message["message_id"], text="y")
    assert answer == refused("message can't be edited")


async def test_a_message_is_deleted_once(subject: Subject) -> None:
    """Bot API, deleteMessage: True; server: afterwards it is not found."""
    place = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    assert await subject.ok("deleteMessage", **place) is True
    assert await subject.no("deleteMessage", **place) == refused("message to delete not found")


async def test_delete_messages_skips_what_is_not_there(subject: Subject) -> None:
    """Bot API, deleteMessages: messages not found are skipped; 1-100 identifiers."""
    ids = [(await subject.send())["message_id"], 2_000_000_000, (await subject.send())["message_id"]]
    assert await subject.ok("deleteMessages", chat_id=subject.chat, message_ids=ids) is True
    assert (await subject.no("deleteMessage", chat_id=subject.chat, message_id=ids[0]))[0] == 400
    assert (await subject.no("deleteMessages", chat_id=subject.chat, message_ids=[*range(1, 102)]))[0] == 400


async def test_messages_older_than_two_days_cannot_be_deleted(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, deleteMessage: only within 48 hours."""
    message = await subject.send()
    customers.messages(subject.chat)[-1].date -= 48 * 3600 + 60
    answer = await subject.no("deleteMessage", chat_id=subject.chat, message_id=message["message_id"])
    assert answer == refused("message can't be deleted")


# --- drafts and the typing status -------------------------------------------------------------------------
async def test_a_draft_is_taken_and_has_no_message_id(subject: Subject) -> None:
    """Bot API, sendMessageDraft: returns True; an empty text shows a placeholder."""
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7, text="so far") is True
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7, text="") is True
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=7) is True


async def test_a_draft_id_must_not_be_zero(subject: Subject) -> None:
    """Bot API, sendMessageDraft: draft_id must be non-zero (the wording is not documented)."""
    code, description = await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=0, text="x")
    assert code == 400
    assert "draft" in description.lower()


async def test_a_draft_longer_than_a_message_is_refused(subject: Subject) -> None:
    """Bot API, sendMessageDraft: 0-4096 characters."""
    answer = await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="x" * 4097)
    assert answer == refused("message is too long")


async def test_drafts_are_for_private_chats_only(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a private chat; report: TEXTDRAFT_PEER_INVALID elsewhere."""
    customers.add_chat(GROUP, "supergroup")
    answer = await subject.no("sendMessageDraft", chat_id=GROUP, draft_id=1, text="x")
    assert answer == refused("TEXTDRAFT_PEER_INVALID")


async def test_a_draft_vanishes_with_the_next_message(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a preview until the message is sent."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="so far")
    assert customers.draft(subject.chat) == "so far"
    await subject.send("finished")
    assert customers.draft(subject.chat) is None


async def test_a_draft_vanishes_after_30_seconds(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft: a temporary 30-second preview."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="so far")
    world = customers.world()
    now = world.clock()
    world.clock = lambda: now + 29
    assert customers.draft(subject.chat) == "so far"
    world.clock = lambda: now + 31
    assert customers.draft(subject.chat) is None


async def test_stop_under_a_draft_reaches_the_bot(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft can_stop and MessageGenerationStopped; frames after Stop are not shown."""
    await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=5, text="so far", can_stop=True)
    customers.customer_stops(subject.chat)
    (update,) = await subject.ok("getUpdates")
    stopped = update["stopped_message_generation"]
    assert (stopped["chat"]["id"], stopped["draft_id"]) == (subject.chat, 5)
    assert await subject.ok("sendMessageDraft", chat_id=subject.chat, draft_id=5, text="and on") is True
    assert customers.draft(subject.chat) is None


async def test_a_stopped_draft_may_be_kept(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, sendMessageDraft keep_on_stop."""
    place = {"chat_id": subject.chat, "draft_id": 5, "can_stop": True, "keep_on_stop": True}
    await subject.ok("sendMessageDraft", text="so far", **place)
    customers.customer_stops(subject.chat)
    assert customers.draft(subject.chat) == "so far"


async def test_the_typing_status_is_one_of_a_list(subject: Subject) -> None:
    """Bot API, sendChatAction."""
    assert await subject.ok("sendChatAction", chat_id=subject.chat, action="typing") is True
    answer = await subject.no("sendChatAction", chat_id=subject.chat, action="juggling")
    assert answer == refused("wrong parameter action in request")


# --- rich messages ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "rich",
    [
        {"markdown": "# Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"},
        {"html": "<h1>Title</h1><p>text</p>"},
        {"blocks": [{"type": "paragraph", "text": "text"}]},
    ],
)
async def test_a_rich_message_is_sent_in_one_of_three_forms(subject: Subject, rich: dict[str, Any]) -> None:
    """Bot API, sendRichMessage and InputRichMessage."""
    message = await subject.ok("sendRichMessage", chat_id=subject.chat, rich_message=rich)
    assert message["rich_message"]["blocks"]
    assert "text" not in message
    assert await subject.ok("sendRichMessageDraft", chat_id=subject.chat, draft_id=1, rich_message=rich) is True


@pytest.mark.parametrize(
    "rich",
    [
        {},
        {"markdown": "x", "html": "x"},
        {"markdown": "x" * 32_769},
        {"html": "<p>x"},
        {"blocks": [{"type": "paragraph", "text": "x"}] * 501},
        {"markdown": "|" + " a |" * 21 + "\n|" + " --- |" * 21},
        {"blocks": [{"type": "table", "cells": [["x"] * 21]}]},
    ],
)
async def test_a_rich_message_out_of_bounds_is_refused(subject: Subject, rich: dict[str, Any]) -> None:
    """Bot API, rich messages: one form, 32,768 characters, 500 blocks, 20 columns (wordings are not documented)."""
    assert (await subject.no("sendRichMessage", chat_id=subject.chat, rich_message=rich))[0] == 400


async def test_a_message_can_be_edited_into_a_rich_one(subject: Subject) -> None:
    """Bot API, editMessageText: rich_message instead of text."""
    place = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    rich = {"markdown": "**rich**"}
    assert (await subject.ok("editMessageText", rich_message=rich, **place))["rich_message"]
    assert await subject.no("editMessageText", rich_message=rich, **place) == (400, NOT_MODIFIED)
    assert (await subject.ok("editMessageText", text="plain again", **place))["text"] == "plain again"


# --- files ------------------------------------------------------------------------------------------------
async def upload(subject: Subject, method: str, field: str, content: bytes, **values: str) -> dict[str, Any]:
    form = aiohttp.FormData({"chat_id": str(subject.chat), **values})
    form.add_field(field, content, filename='na"me.txt' if field == "document" else "x.bin", content_type="text/plain")
    async with subject.http.post(f"{subject.url}/bot{subject.token}/{method}", data=form) as reply:
        body: dict[str, Any] = await reply.json()
    return body


async def test_an_uploaded_document_can_be_fetched_again(subject: Subject) -> None:
    """Bot API, sendDocument and getFile: the file at /file/bot<token>/<file_path>."""
    content = b"line one\r\n--looks like a boundary\r\n\r\n" + bytes(range(256))
    message = (await upload(subject, "sendDocument", "document", content, caption="<b>c</b>", parse_mode="HTML"))[
        "result"
    ]
    assert message["caption"] == "c"
    assert message["caption_entities"][0]["type"] == "bold"
    file = await subject.ok("getFile", file_id=message["document"]["file_id"])
    assert file["file_size"] == len(content)
    async with subject.http.get(f"{subject.url}/file/bot{subject.token}/{file['file_path']}") as reply:
        assert await reply.read() == content


@pytest.mark.parametrize("kind", ["photo", "voice", "audio", "video"])
async def test_media_are_sent_as_files_and_again_by_their_id(subject: Subject, kind: str) -> None:
    """Bot API, sending files: by upload, then by file_id."""
    if subject.server is None:
        pytest.skip("a real server looks into the media")
    method = f"send{kind.capitalize()}"
    sent = (await upload(subject, method, kind, b"content"))["result"][kind]
    file_id = (sent[0] if kind == "photo" else sent)["file_id"]
    again = (await subject.ok(method, chat_id=subject.chat, **{kind: file_id}))[kind]
    assert (again[0] if kind == "photo" else again)["file_id"] == file_id


async def test_missing_and_empty_files_are_refused(subject: Subject) -> None:
    """Server: there is no document in the request; file must be non-empty."""
    answer = await subject.no("sendDocument", chat_id=subject.chat)
    assert answer == refused("there is no document in the request")
    body = await upload(subject, "sendDocument", "document", b"")
    assert body["description"] == "Bad Request: file must be non-empty"


async def test_an_unknown_file_id_is_invalid(subject: Subject) -> None:
    """Server: invalid file_id."""
    code, description = await subject.no("getFile", file_id="nonsense")
    assert code == 400
    assert "file_id" in description


async def test_files_over_20_megabytes_cannot_be_fetched(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, getFile: 20 MB."""
    customers.customer_sends_file(subject.chat, "document", bytes(20 * 1024 * 1024 + 1))
    (update,) = await subject.ok("getUpdates")
    file_id = update["message"]["document"]["file_id"]
    assert await subject.no("getFile", file_id=file_id) == refused("file is too big")


async def test_a_caption_has_1024_units(subject: Subject) -> None:
    """Bot API, captions: 0-1024 characters after entities parsing."""
    assert (await upload(subject, "sendDocument", "document", b"x", caption="c" * 1024))["ok"]
    body = await upload(subject, "sendDocument", "document", b"x", caption="c" * 1025)
    assert body["description"] == "Bad Request: message caption is too long"


async def test_a_caption_is_edited_by_its_own_method(subject: Subject) -> None:
    """Server: text and caption do not mix."""
    document = (await upload(subject, "sendDocument", "document", b"x", caption="old"))["result"]
    place = {"chat_id": subject.chat, "message_id": document["message_id"]}
    answer = await subject.no("editMessageText", text="x", **place)
    assert answer == refused("there is no text in the message to edit")
    assert (await subject.ok("editMessageCaption", caption="new", **place))["caption"] == "new"
    assert await subject.no("editMessageCaption", caption="new", **place) == (400, NOT_MODIFIED)
    text = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    answer = await subject.no("editMessageCaption", caption="x", **text)
    assert answer == refused("there is no caption in the message to edit")


async def test_an_album_has_two_to_ten_files(subject: Subject) -> None:
    """Bot API, sendMediaGroup: an array of the sent messages."""
    file_id = (await upload(subject, "sendDocument", "document", b"x"))["result"]["document"]["file_id"]
    item = {"type": "document", "media": file_id}
    album = await subject.ok("sendMediaGroup", chat_id=subject.chat, media=[{**item, "caption": "one"}, item])
    assert len({message["media_group_id"] for message in album}) == 1
    assert (await subject.no("sendMediaGroup", chat_id=subject.chat, media=[]))[0] == 400


# --- copies, reactions, pins, buttons pressed -------------------------------------------------------------
async def test_copy_gives_an_id_and_forward_a_message(subject: Subject) -> None:
    """Bot API, copyMessage returns a MessageId, forwardMessage the Message."""
    source = {
        "chat_id": subject.chat,
        "from_chat_id": subject.chat,
        "message_id": (await subject.send("src"))["message_id"],
    }
    assert set(await subject.ok("copyMessage", **source)) == {"message_id"}
    forwarded = await subject.ok("forwardMessage", **source)
    assert forwarded["text"] == "src"
    assert forwarded["forward_origin"]["type"] == "user"
    source["message_id"] = 2_000_000_000
    assert await subject.no("copyMessage", **source) == refused("message to copy not found")
    assert await subject.no("forwardMessage", **source) == refused("message to forward not found")


async def test_messages_can_be_pinned(subject: Subject) -> None:
    """Bot API, pinChatMessage; getChat shows the newest pin."""
    message_id = (await subject.send("pin me"))["message_id"]
    assert await subject.ok("pinChatMessage", chat_id=subject.chat, message_id=message_id) is True
    assert (await subject.ok("getChat", chat_id=subject.chat))["pinned_message"]["message_id"] == message_id
    assert await subject.ok("unpinAllChatMessages", chat_id=subject.chat) is True
    answer = await subject.no("pinChatMessage", chat_id=subject.chat, message_id=2_000_000_000)
    assert answer == refused("message to pin not found")


async def test_a_reaction_is_set_on_a_message(subject: Subject) -> None:
    """Bot API, setMessageReaction."""
    message_id = (await subject.send())["message_id"]
    reaction = [{"type": "emoji", "emoji": "\U0001f44d"}]
    place = {"chat_id": subject.chat, "message_id": message_id}
    assert await subject.ok("setMessageReaction", reaction=reaction, **place) is True
    place["message_id"] = 2_000_000_000
    answer = await subject.no("setMessageReaction", reaction=reaction, **place)
    assert answer == refused("message to react not found")


async def test_a_press_can_be_answered_for_150_seconds(subject: Subject, customers: TelegramServer) -> None:
    """Server: later, or with a made-up id, the query is too old."""
    too_old = refused("query is too old and response timeout expired or query ID is invalid")
    message = await subject.send("choose", reply_markup=BUTTONS)
    query_id = customers.customer_presses(subject.chat, message["message_id"], "yes")
    (update,) = await subject.ok("getUpdates")
    query = update["callback_query"]
    assert (query["id"], query["data"]) == (query_id, "yes")
    assert query["message"]["message_id"] == message["message_id"]
    assert await subject.ok("answerCallbackQuery", callback_query_id=query_id, text="ok") is True
    assert await subject.no("answerCallbackQuery", callback_query_id="123") == too_old
    world = customers.world()
    now = world.clock()
    world.clock = lambda: now + 151
    assert await subject.no("answerCallbackQuery", callback_query_id=query_id) == too_old


# --- people -----------------------------------------------------------------------------------------------
async def test_a_blocked_bot_is_told_so_and_may_write_again_later(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, my_chat_member; server: 403 for every send while blocked."""
    blocked = (403, "Forbidden: bot was blocked by the user")
    customers.customer_blocks(subject.chat)
    assert await subject.no("sendMessage", chat_id=subject.chat, text="x") == blocked
    assert await subject.no("sendMessageDraft", chat_id=subject.chat, draft_id=1, text="x") == blocked
    assert await subject.no("sendChatAction", chat_id=subject.chat, action="typing") == blocked
    customers.customer_returns(subject.chat)
    assert await subject.send()
    left, back = [update["my_chat_member"] for update in await subject.ok("getUpdates")]
    assert (left["old_chat_member"]["status"], left["new_chat_member"]["status"]) == ("member", "kicked")
    assert back["new_chat_member"]["status"] == "member"


async def test_a_customers_message_and_its_edit_arrive_as_updates(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, Update: message, edited_message; commands are marked by entities."""
    message_id = customers.customer_writes(subject.chat, "/start now")
    customers.customer_edits(subject.chat, message_id, "hello")
    first, second = await subject.ok("getUpdates")
    assert first["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]
    assert first["message"]["from"]["id"] == subject.chat
    assert second["edited_message"]["text"] == "hello"
    assert second["edited_message"]["message_id"] == message_id
    assert second["edited_message"]["edit_date"]


async def test_get_chat_is_full(subject: Subject) -> None:
    """Bot API, getChat: a ChatFullInfo."""
    chat = await subject.ok("getChat", chat_id=subject.chat)
    assert {"id", "type", "accent_color_id", "max_reaction_count", "accepted_gift_types"} <= chat.keys()


# --- the bot's own settings -------------------------------------------------------------------------------
async def test_commands_are_kept_by_scope_and_language(subject: Subject) -> None:
    """Bot API, setMyCommands and getMyCommands."""
    scope = {"type": "all_group_chats"}
    commands = [{"command": "help", "description": "What I can do"}]
    assert await subject.ok("setMyCommands", commands=commands, scope=scope, language_code="es") is True
    assert await subject.ok("getMyCommands", scope=scope, language_code="es") == commands
    assert await subject.ok("deleteMyCommands", scope=scope, language_code="es") is True
    assert await subject.ok("getMyCommands", scope=scope, language_code="es") == []


@pytest.mark.parametrize("command", ["Caps", "has-dash", "x" * 33, ""])
async def test_bad_commands_are_invalid(subject: Subject, command: str) -> None:
    """Bot API, BotCommand: 1-32 of lower-case letters, digits and underscores."""
    answer = await subject.no("setMyCommands", commands=[{"command": command, "description": "x"}])
    assert answer == refused("BOT_COMMAND_INVALID")


async def test_there_are_at_most_100_commands(subject: Subject) -> None:
    """Bot API, setMyCommands."""
    commands = [{"command": f"c{number}", "description": "x"} for number in range(101)]
    assert (await subject.no("setMyCommands", commands=commands))[0] == 400


# --- webhook settings -------------------------------------------------------------------------------------
@pytest.mark.parametrize("secret", ["with space", "ü", "x" * 257])
async def test_a_webhook_secret_has_a_plain_alphabet(subject: Subject, secret: str) -> None:
    """Bot API, setWebhook: secret_token of 1-256 characters A-Z, a-z, 0-9, _ and -."""
    code, description = await subject.no("setWebhook", url="https://example.org/hook", secret_token=secret)
    assert code == 400
    assert "secret token" in description


async def test_polling_is_a_conflict_while_a_webhook_is_set(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, getUpdates: does not work with an outgoing webhook; server: the wording."""
    assert await subject.ok("setWebhook", url="http://127.0.0.1:9/hook", secret_token="s_-1", max_connections=3) is True
    info = await subject.ok("getWebhookInfo")
    assert (info["url"], info["max_connections"]) == ("http://127.0.0.1:9/hook", 3)
    conflict = (
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
    )
    assert await subject.no("getUpdates") == (409, conflict)
    assert await subject.ok("deleteWebhook") is True
    assert (await subject.ok("getWebhookInfo"))["url"] == ""
    assert await subject.ok("getUpdates") == []

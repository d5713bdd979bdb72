"""Chatting on the sandbox's page: what a customer sees."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, Route, expect

from tests.browser.conftest import PHONE, Bare, Opener, Sandbox, until

EMOJI = "\U0001f600"
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<style>body{display:none}</style>",
    "javascript:alert(1) &lt;b&gt; {{7*7}} ${7*7}",
    "[click](javascript:alert(1)) **bold** `code` ```js\nalert(1)\n```",
    "\u202eright to left override\u202c and \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "zalgo " + "e\u0301\u0302\u0303\u0304\u0305" * 20,
    "x" * 3000,
]


async def test_a_second_question_shows_that_the_first_is_remembered(open_tab: Opener) -> None:
    """The answer is made from the whole conversation."""
    tab = await open_tab()
    assert "first message" in await tab.asks("My order number is 4711 and the parcel has not arrived.")
    answer = await tab.asks("What is my order number?")
    assert "your order number is 4711." in answer
    assert "message 2 of our conversation" in answer


async def test_the_start_button_is_answered_with_a_welcome(open_tab: Opener) -> None:
    """As in Telegram, an empty chat offers to start."""
    tab = await open_tab()
    await expect(tab.page.get_by_text("Write something to begin")).to_be_visible()
    await expect(tab.page.get_by_text(f"You are {tab.name}")).to_be_visible()
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    assert "I am an AI assistant" in await tab.sees(1)


async def test_an_answer_is_formatted(open_tab: Opener) -> None:
    """Markdown of the model becomes bold text and lists, not asterisks."""
    tab = await open_tab()
    answer = await tab.asks("My colour is green.")
    await expect(tab.answers.locator("strong", has_text="green")).to_have_count(1)
    assert "**" not in answer


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_text_stays_text(open_tab: Opener, text: str) -> None:
    """Nothing that a customer writes becomes markup or code, neither as a question nor quoted in an answer."""
    tab = await open_tab()
    await tab.asks(text)
    await tab.asks("And what did I say before?")
    assert await tab.mine.first.evaluate("(element) => element.textContent") == text
    for tag in ("img", "style", "script", "iframe"):
        assert await tab.page.locator(f"#log {tag}").count() == 0
    assert await tab.page.locator("#log a[href^='javascript:']").count() == 0
    assert await tab.fits()


async def test_a_long_paste_becomes_two_messages_and_one_answer(open_tab: Opener) -> None:
    """4,096 emoji are 8,192 of Telegram's units: cut as its apps do, never within one, and joined again."""
    tab = await open_tab()
    await tab.asks(EMOJI * 4096)
    assert await tab.mine.all_text_contents() == [EMOJI * 2048] * 2
    assert await tab.fits()


async def test_a_second_enter_does_not_send_twice(open_tab: Opener) -> None:
    """The text leaves the field at once."""
    tab = await open_tab()
    for word in ("one", "two", "three"):
        await tab.box.fill(word)
        await tab.box.press("Enter")
        await tab.box.press("Enter")
    await expect(tab.mine).to_have_text(["one", "two", "three"])


async def test_quick_messages_keep_their_order_on_a_slow_line(open_tab: Opener, bare: Bare) -> None:
    """Each waits until the one before has arrived: two on their way could overtake one another."""
    tab = await open_tab(bare)
    release, on_the_way = asyncio.Event(), list[str]()

    async def hold(route: Route) -> None:
        on_the_way.append(route.request.post_data or "")
        await release.wait()
        await route.continue_()

    await tab.page.route("**/act", hold)
    for word in ("one", "two", "three"):
        await tab.says(word)
    await until(lambda: on_the_way, "the first is on its way")
    assert len(on_the_way) == 1
    release.set()
    await expect(tab.mine).to_have_text(["one", "two", "three"])


async def test_what_is_no_text_gets_its_sentence(open_tab: Opener) -> None:
    """A sticker and a voice message: shown, and answered in words."""
    tab = await open_tab()
    for count, kind in enumerate(("A sticker", "A voice message"), 1):
        await tab.page.get_by_role("button", name="Attach").click()
        await tab.page.get_by_role("button", name=kind, exact=True).click()
        assert "I can read text only" in await tab.sees(count)
    await expect(tab.page.locator("article.mine .file")).to_have_count(2)
    await expect(tab.page.locator("article.mine .file").last).to_contain_text("voice.ogg")


async def test_an_edited_message_is_shown_as_edited(open_tab: Opener) -> None:
    """The customer's through the page, the bot's through the Bot API."""
    tab = await open_tab()
    await tab.asks("My order number is 4711.")
    await tab.box.press("ArrowUp")
    await expect(tab.box).to_have_value("My order number is 4711.")
    await tab.says("My order number is 5822.")
    own = tab.page.locator("article.mine")
    await expect(own.get_by_text("edited")).to_have_count(1)
    await expect(tab.mine).to_have_text(["My order number is 5822."])
    assert "5822" in await tab.asks("What is my order number?")
    message = await tab.sandbox.telegram("sendMessage", chat_id=await tab.chat_id, text="before")
    await tab.sandbox.telegram(
        "editMessageText", chat_id=await tab.chat_id, message_id=message["message_id"], text="after"
    )
    last = tab.page.locator("article").last
    await expect(last.locator(".body")).to_have_text("after")
    await expect(last.get_by_text("edited")).to_be_visible()


async def test_escape_gives_up_an_edit(open_tab: Opener) -> None:
    """The field is empty again and the next message is a new one."""
    tab = await open_tab()
    await tab.asks("kept as it is")
    await tab.page.locator("article.mine").hover()
    await tab.page.get_by_role("button", name="edit").click()
    await expect(tab.page.get_by_text("Editing your message")).to_be_visible()
    await tab.box.press("Escape")
    await expect(tab.page.get_by_text("Editing your message")).to_be_hidden()
    await tab.asks("another one")
    await expect(tab.mine).to_have_text(["kept as it is", "another one"])


async def test_a_pressed_button_reaches_the_bot_and_its_reply_the_customer(open_tab: Opener) -> None:
    """An inline button opens a callback query; what answers it is shown for a while."""
    tab = await open_tab()
    keyboard = {"inline_keyboard": [[{"text": "A person, please", "callback_data": "human"}]]}
    await tab.sandbox.telegram("sendMessage", chat_id=await tab.chat_id, text="Or else?", reply_markup=keyboard)
    async with tab.page.expect_response(re.compile("/act$")) as acted:
        await tab.page.get_by_role("button", name="A person, please").click()
    query = (await (await acted.value).json())["callback_query_id"]
    await tab.sandbox.telegram("answerCallbackQuery", callback_query_id=query, text="Somebody is coming")
    await expect(tab.toast).to_have_text("Somebody is coming")
    await expect(tab.toast).to_be_hidden()


async def test_a_deleted_message_disappears(open_tab: Opener) -> None:
    """As in the app."""
    tab = await open_tab()
    message = await tab.sandbox.telegram("sendMessage", chat_id=await tab.chat_id, text="gone soon")
    await tab.sees(1)
    await tab.sandbox.telegram("deleteMessage", chat_id=await tab.chat_id, message_id=message["message_id"])
    await expect(tab.answers).to_have_count(0)


async def test_a_customer_who_blocked_the_bot_can_come_back(open_tab: Opener) -> None:
    """Blocking is shown, and after unblocking the next question is answered."""
    tab = await open_tab()
    await tab.asks("hello")
    await tab.page.get_by_role("button", name="More").click()
    await tab.page.get_by_role("button", name="Block bot", exact=True).click()
    await expect(tab.status).to_have_text(f"blocked by {tab.name}")
    await expect(tab.box).to_be_hidden()
    await tab.page.get_by_role("button", name="Unblock bot").click()
    await expect(tab.status).to_have_text(f"You write as {tab.name}")
    assert "message 2" in await tab.asks("hello again")


async def test_two_customers_side_by_side_do_not_see_each_other(open_tab: Opener) -> None:
    """Neither on the page nor in what the model is told."""
    first, second = await open_tab(), await open_tab(size=PHONE)
    assert first.name != second.name
    await first.says("My order number is 111.")
    await second.says("My order number is 222.")
    for tab, own, other in ((first, "111", "222"), (second, "222", "111")):
        await tab.sees(1)
        assert own in await tab.asks("What is my order number?")
        assert other not in await tab.page.locator("#log").inner_text()


async def test_customers_are_letters_and_nobodys_names(open_tab: Opener) -> None:
    """One more each time, in the order of the alphabet."""
    tab = await open_tab()
    first = tab.name
    await tab.become_new()
    assert re.fullmatch(r"Customer [A-Z]+", first)
    assert (len(tab.name), tab.name) > (len(first), first)


async def test_unread_answers_are_marked(open_tab: Opener) -> None:
    """An answer that comes while another customer's chat is open is not overlooked."""
    tab = await open_tab()
    first, chat_id = tab.name, await tab.chat_id
    await tab.become_new()
    entry = tab.entry(first)
    await tab.sandbox.telegram("sendMessage", chat_id=chat_id, text="news for you")
    await expect(entry.locator(".unread")).to_have_text("1")
    await entry.click()
    await expect(entry.locator(".unread")).to_be_hidden()
    assert await tab.sees(1) == "news for you"


async def test_a_page_closed_and_opened_again_shows_everything(open_tab: Opener) -> None:
    """What was said while nobody looked is there too."""
    tab = await open_tab()
    await tab.asks("before the page was closed")
    chat_id, context = await tab.chat_id, tab.page.context
    await tab.page.close()
    await tab.sandbox.telegram("sendMessage", chat_id=chat_id, text="said in between")
    tab.page = await context.new_page()
    await tab.open()
    await tab.page.locator("nav li a", has_text="said in between").click()
    await expect(tab.mine).to_have_text(["before the page was closed"])
    assert await tab.sees(2) == "said in between"


@pytest.mark.parametrize("end", ["chat/wrong/", "chat/", ""])
async def test_a_link_with_a_wrong_token_shows_nothing(browser: Browser, quick_sandbox: Sandbox, end: str) -> None:
    """One plain sentence: no chat, no customers, no script."""
    page = await browser.new_page()
    reply = await page.goto(quick_sandbox.link.partition("chat/")[0] + end)
    assert reply is not None
    assert reply.status == 404
    assert await page.locator("nav, main, script, form").count() == 0
    assert "Open the link that was printed" in await page.locator("body").inner_text()
    await page.close()

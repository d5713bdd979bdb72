"""Buttons under messages, answers to presses, the bot's menu of commands; the test is the bot."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import SIZES, Bare, Opener, Tab

_KEYBOARD = {
    "inline_keyboard": [
        [{"text": "Yes", "callback_data": "y"}, {"text": "No", "callback_data": "n"}],
        [{"text": "Shop", "url": "https://example.org/shop"}],
    ]
}
_COMMANDS = [
    {"command": "new", "description": "Begin anew"},
    {"command": "stop", "description": "Stop the answer"},
    {"command": "start", "description": "Say hello"},
]


async def _query(bare: Bare) -> dict[str, str]:
    found: dict[str, str] = (await bare.updates())[-1]["callback_query"]
    return found


@SIZES
async def test_buttons_stand_in_rows_and_their_press_is_answered(
    open_tab: Opener, bare: Bare, size: tuple[int, int]
) -> None:
    """The data goes to the bot; the answer is a toast that goes by itself, or a dialog that waits for its OK."""
    tab = await open_tab(bare, size)
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text="Sure?", reply_markup=_KEYBOARD)
    rows = tab.page.locator(".keys > div")
    await expect(rows).to_have_count(2)
    await expect(rows.first.get_by_role("button")).to_have_text(["Yes", "No"])
    yes = tab.page.get_by_role("button", name="Yes", exact=True)
    async with tab.page.expect_response("**/act"):
        await yes.click()
    await expect(yes).to_have_attribute("aria-busy", "true")
    query = await _query(bare)
    assert query["data"] == "y"
    await bare.telegram("answerCallbackQuery", callback_query_id=query["id"], text="Noted")
    await expect(tab.toast).to_have_text("Noted")
    await expect(yes).not_to_have_attribute("aria-busy", "true")
    async with tab.page.expect_response("**/act"):
        await tab.page.get_by_role("button", name="No", exact=True).click()
    await bare.telegram(
        "answerCallbackQuery", callback_query_id=(await _query(bare))["id"], text="Really not?", show_alert=True
    )
    dialog = tab.page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Really not?")
    await tab.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert await tab.fits()


async def test_a_link_button_opens_its_page_in_a_tab_of_its_own(open_tab: Opener, bare: Bare) -> None:
    """Without a way back to this one."""
    tab = await open_tab(bare)
    await tab.page.context.route("https://example.org/**", lambda route: route.fulfill(body="the shop"))
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text="Buy?", reply_markup=_KEYBOARD)
    async with tab.page.context.expect_page() as opened:
        await tab.page.get_by_role("button", name="Shop").click()
    other = await opened.value
    await other.wait_for_load_state()
    assert other.url == "https://example.org/shop"
    assert await other.evaluate("window.opener") is None


async def test_a_press_on_what_is_gone_is_refused_in_words(open_tab: Opener, bare: Bare) -> None:
    """The message was deleted while the button was under the finger: a sentence, no error."""
    tab = await open_tab(bare)
    chat_id = await tab.chat_id
    sent = await bare.telegram("sendMessage", chat_id=chat_id, text="Sure?", reply_markup=_KEYBOARD)
    yes = tab.page.get_by_role("button", name="Yes", exact=True)
    await yes.wait_for()
    bare.server.messages(chat_id)[0].deleted = True  # without a word to the page
    async with tab.page.expect_response(lambda reply: reply.status == 400):
        await yes.click()
    await expect(tab.toast).to_contain_text(f"no message {sent['message_id']}")
    await expect(yes).not_to_have_attribute("aria-busy", "true")


async def test_a_reply_keyboard_is_offered_below_the_field(open_tab: Opener, bare: Bare) -> None:
    """Its buttons write what they say, until the bot takes them away."""
    tab = await open_tab(bare)
    chat_id = await tab.chat_id
    keyboard = {"keyboard": [["Track a parcel", "Return"], [{"text": "Something else"}]]}
    await bare.telegram("sendMessage", chat_id=chat_id, text="What is it about?", reply_markup=keyboard)
    await tab.page.get_by_role("button", name="Return", exact=True).click()
    await expect(tab.mine).to_have_text(["Return"])
    await bare.telegram("sendMessage", chat_id=chat_id, text="Well then.", reply_markup={"remove_keyboard": True})
    await expect(tab.page.locator("#keyboard")).to_be_hidden()


# --- commands ---------------------------------------------------------------------------------------------
async def _options(tab: Tab) -> list[str]:
    return [text.split(" ")[0] for text in await tab.page.get_by_role("option").locator("b").all_text_contents()]


@SIZES
async def test_the_menu_of_commands_opens_by_slash_and_by_its_button(
    open_tab: Opener, bare: Bare, size: tuple[int, int]
) -> None:
    """Filtered while typing; arrows, Enter, Tab and Escape work."""
    tab = await open_tab(bare, size)
    menu = tab.page.get_by_role("button", name="Commands of the bot")
    await expect(menu).to_be_hidden()
    await bare.telegram("setMyCommands", commands=_COMMANDS)
    await menu.click()
    assert await _options(tab) == ["/new", "/stop", "/start"]
    await tab.page.keyboard.press("Escape")
    await expect(tab.page.get_by_role("listbox")).to_be_hidden()
    await tab.box.press_sequentially("/st")
    await expect(tab.page.get_by_role("option")).to_have_count(2)
    await tab.box.press("ArrowDown")
    await expect(tab.page.get_by_role("option", selected=True)).to_contain_text("/start")
    await tab.box.press("Enter")
    await expect(tab.mine).to_have_text(["/start"])
    await expect(tab.box).to_have_value("")
    await tab.box.press_sequentially("/n")
    await tab.box.press("Tab")
    await expect(tab.box).to_have_value("/new ")
    await tab.box.fill("/zzz")
    await expect(tab.page.get_by_role("listbox")).to_be_hidden()
    assert await tab.fits()


async def test_a_command_is_picked_with_the_mouse(open_tab: Opener, bare: Bare) -> None:
    """One click sends it and leaves the focus in the field."""
    tab = await open_tab(bare)
    await bare.telegram("setMyCommands", commands=_COMMANDS)
    await tab.page.get_by_role("button", name="Commands of the bot").click()
    await tab.page.get_by_role("option", name="/new").click()
    await expect(tab.mine).to_have_text(["/new"])
    await expect(tab.box).to_be_focused()


@pytest.mark.parametrize(("language", "code"), [("中文", "zh"), ("Español", "es")])
async def test_commands_are_shown_in_the_persons_language_and_chat(
    open_tab: Opener, bare: Bare, language: str, code: str
) -> None:
    """As Telegram resolves them: the chat's own, then all private chats', then the default; the language first."""
    tab = await open_tab(bare, new=False)
    await tab.become_new(language)
    menu = tab.page.get_by_role("button", name="Commands of the bot")

    async def offered(**place: object) -> str:
        number = offered.__dict__["number"] = offered.__dict__.get("number", 0) + 1
        command = {"command": f"c{number}", "description": "x"}
        await bare.telegram("setMyCommands", commands=[command], **place)
        await expect(menu).to_be_visible()
        await tab.box.fill("")
        await tab.box.press_sequentially("/")
        await tab.page.get_by_role("option").first.wait_for()
        return (await _options(tab))[0]

    assert await offered() == "/c1"
    assert await offered(language_code=code) == "/c2"
    assert await offered(language_code="ru") == "/c2"
    assert await offered(scope={"type": "all_private_chats"}) == "/c4"
    assert await offered(scope={"type": "chat", "chat_id": await tab.chat_id}) == "/c5"
    assert await offered(scope={"type": "chat", "chat_id": 1000}) == "/c5"

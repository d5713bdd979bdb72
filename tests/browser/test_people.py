"""Several people on one page: the list, the operator, new customers, what is remembered; the test is the bot."""

import pytest
from playwright.async_api import expect

from bot.sandbox import OPERATOR_ID, OPERATOR_NAME
from tests.browser.conftest import PHONE, SIZES, Bare, Opener


@SIZES
async def test_the_operator_is_there_with_an_id_to_copy(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """On top of the list; the empty chat says what the id is for."""
    tab = await open_tab(bare, size, new=False)
    await expect(tab.page.locator("nav li .name").first).to_have_text(OPERATOR_NAME)
    await tab.choose(OPERATOR_NAME)
    await expect(tab.page.locator(".empty")).to_contain_text(f"Your id is {OPERATOR_ID}: OPERATOR_IDS")
    await tab.says("who are you")
    await expect(tab.mine).to_have_count(1)
    sender = (await bare.updates())[-1]["message"]["from"]
    assert (sender["id"], sender["first_name"]) == (OPERATOR_ID, OPERATOR_NAME)


@SIZES
@pytest.mark.parametrize(
    ("language", "code"), [("English", "en"), ("中文", "zh"), ("Русский", "ru"), ("Español", "es")]
)
async def test_a_new_customer_has_a_language(
    open_tab: Opener, bare: Bare, size: tuple[int, int], language: str, code: str
) -> None:
    """Sent as language_code with everything that they write."""
    tab = await open_tab(bare, size, new=False)
    await tab.become_new(language)
    await tab.says("hello")
    await expect(tab.mine).to_have_count(1)
    sender = (await bare.updates())[-1]["message"]["from"]
    assert (sender["language_code"], sender["first_name"]) == (code, tab.name)


@SIZES
async def test_people_are_switched_and_counted(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """Each has a chat of their own; what was not read is counted in the list and in the tab's title."""
    tab = await open_tab(bare, size)
    first, chat_id = tab.name, await tab.chat_id
    await tab.become_new()
    for text in ("one", "two"):
        await bare.telegram("sendMessage", chat_id=chat_id, text=text)
    await tab.show_list()
    badge = tab.entry(first).locator(".unread")
    await expect(badge).to_have_text("2")
    await expect(badge).to_have_accessible_name("2 unread")
    await expect(tab.page).to_have_title("(2) Sandbox")
    await expect(tab.entry(first)).to_contain_text("two")
    await tab.choose(first)
    await expect(tab.answers).to_have_text(["one", "two"])
    await expect(tab.page).to_have_title("Sandbox")


async def test_on_a_phone_the_list_and_the_chat_are_views_of_their_own(open_tab: Opener, bare: Bare) -> None:
    """The back link and the browser's own way back lead to the list."""
    tab = await open_tab(bare, PHONE, new=False)
    await expect(tab.page.locator("main")).to_be_hidden()
    await tab.choose("Customer A")
    await expect(tab.page.locator("nav")).to_be_hidden()
    await expect(tab.status).to_be_visible()
    await tab.page.go_back()
    await expect(tab.page.locator("nav")).to_be_visible()
    await tab.choose(OPERATOR_NAME)
    await tab.page.get_by_label("Back to the list of people").click()
    await expect(tab.page.locator("main")).to_be_hidden()


async def test_the_person_of_last_time_goes_on(open_tab: Opener, bare: Bare) -> None:
    """After a reload, and after the link was opened again."""
    tab = await open_tab(bare)
    name = tab.name
    await tab.page.reload()
    await expect(tab.status).to_have_text(f"You write as {name}")
    await tab.page.goto("about:blank")
    await tab.open()
    await expect(tab.status).to_have_text(f"You write as {name}")


@SIZES
async def test_blocking_and_returning_reach_the_bot(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """my_chat_member both ways; while blocked there is nothing to write in."""
    tab = await open_tab(bare, size)
    await tab.page.get_by_role("button", name="More").click()
    await tab.page.get_by_role("button", name="Block bot", exact=True).click()
    await expect(tab.box).to_be_hidden()
    await expect(tab.status).to_have_text(f"blocked by {tab.name}")
    await tab.page.locator("#unblock").click()
    await expect(tab.box).to_be_visible()
    changes = [update["my_chat_member"]["new_chat_member"]["status"] for update in await bare.updates()]
    assert changes == ["kicked", "member"]


@SIZES
async def test_the_choice_of_light_or_dark_is_remembered(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """The system's wish counts until the switch is used."""
    tab = await open_tab(bare, size, new=False, color_scheme="dark")
    switch = tab.page.get_by_role("button", name="Dark colours")
    await tab.show_list()
    await expect(switch).to_have_attribute("aria-pressed", "true")
    pane = "() => getComputedStyle(document.querySelector('nav')).backgroundColor"
    dark = await tab.page.evaluate(pane)
    await switch.press("Enter")
    await expect(switch).to_have_attribute("aria-pressed", "false")
    light = await tab.page.evaluate(pane)
    assert light != dark
    await tab.page.reload()
    await tab.show_list()
    assert await tab.page.evaluate(pane) == light


async def test_an_open_page_finds_a_server_that_was_started_again(open_tab: Opener, bare: Bare) -> None:
    """It says that the connection is lost, tries again by itself, and misses nothing."""
    tab = await open_tab(bare)
    chat_id = await tab.chat_id
    await bare.server.aclose()
    await expect(tab.status).to_have_text("The connection is lost; trying again…")
    await bare.server.start()
    await bare.telegram("sendMessage", chat_id=chat_id, text="back again")
    await expect(tab.answers).to_have_text(["back again"])
    await expect(tab.status).to_have_text(f"You write as {tab.name}")
